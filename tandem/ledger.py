"""What a solution cost: one entry per call, by role and purpose; every total in every unit is a sum over entries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

from pydantic import BaseModel, ConfigDict

from tandem.costs import Unit, published_rates, rates
from tandem.display import table_html
from tandem.spec import ModelSpec

Role = Literal["mentor", "intern"]
Purpose = Literal["insight", "probe", "answer", "score"]
UsageSource = Literal["reported", "counted", "bound"]


class Usage(BaseModel):
    """Tokens of one call. `completion` includes `reasoning`; `cached` and `cache_write` are parts of `prompt`.

    A stream that was cut has no usage report: received tokens are counted, and `completion_bound` keeps the worst case.
    If it is not known whether the prompt was read, `prompt` is 0 and `prompt_bound` its size.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: int = 0
    cached: int = 0
    cache_write: int = 0
    completion: int = 0
    reasoning: int = 0
    source: UsageSource = "reported"
    completion_bound: int | None = None
    prompt_bound: int | None = None

    @property
    def worst(self) -> int:
        """Completion tokens in the worst case."""
        return max(self.completion, self.completion_bound or 0)

    @property
    def worst_prompt(self) -> int:
        """Prompt tokens in the worst case."""
        return max(self.prompt, self.prompt_bound or 0)


class Entry(BaseModel):
    """One call in the ledger.

    `error` says why it failed, if it did. `call` is its number in the run's journal. `paid` is False for an answer
    from the response cache: it is still charged to the strategy, but was not billed again. `seconds` is how long the
    call took, `device_seconds` the device time that it used by its model's speed profile.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Role
    purpose: Purpose
    model: str
    usage: Usage
    seconds: float
    usd: float | None
    usd_bound: float | None
    tflops: float | None
    device_seconds: float | None = None
    local: bool = True
    billions: float | None = None  # nominal size, for the published formula
    read_tokens: int = 0  # mentor tokens in an intern's prompt, for the published formula
    assumed: bool = False  # its model's size is the user's assumption
    assumed_speed: bool = False  # and so is its speed
    error: str | None = None
    call: str | None = None
    paid: bool = True

    @classmethod
    def of(
        cls,
        spec: ModelSpec,
        role: Role,
        purpose: Purpose,
        usage: Usage,
        *,
        seconds: float,
        read_tokens: int = 0,
        error: str | None = None,
    ) -> Entry:
        """Price one call by its model's spec."""

        def cost(unit: Unit, prompt: int, completion: int) -> float | None:
            own = rates(spec, unit, role)
            if own is None:
                return None
            return own.cost(prompt, usage.cached, completion, cache_write=usage.cache_write)

        return cls(
            role=role,
            purpose=purpose,
            model=spec.name,
            usage=usage,
            seconds=seconds,
            usd=cost("usd", usage.prompt, usage.completion),
            usd_bound=cost("usd", usage.worst_prompt, usage.worst),
            tflops=cost("tflops", usage.prompt, usage.completion),
            device_seconds=cost("seconds", usage.prompt, usage.completion),
            local=spec.local,
            billions=spec.parameters / 1e9 if spec.parameters else None,
            read_tokens=read_tokens,
            assumed=spec.assumed_parameters,
            assumed_speed=spec.profile is not None and spec.profile.assumed,
            error=error,
        )


class Ledger(BaseModel):
    """All calls of one solution, or of a whole run."""

    model_config = ConfigDict(extra="forbid")

    entries: list[Entry] = []

    def __iter__(self) -> Iterator[Entry]:  # type: ignore[override]
        return iter(self.entries)

    def __str__(self) -> str:
        """Return tokens and cost in one line; a cost that is not known is left out."""
        words = f"mentor {self.mentor_tokens} tokens, intern {self.intern_tokens} tokens"
        if self.probe_tokens:
            words += f" ({self.probe_tokens} in discarded drafts)"
        if (tflops := self.tflops) is not None:
            words += f", {tflops:.2f} TFLOPs"
        if (usd := self.usd) is not None:
            words += f", US$ {usd:.4f}"
        return words

    def __repr__(self) -> str:
        return f"Ledger({len(self.entries)} calls: {self})"

    def _repr_html_(self) -> str:
        """Return what a notebook shows: a row for each call, and the totals."""
        rows = [(e.role, e.purpose, e.model, *_tokens(e), *map(_short, _costs(e))) for e in self.entries]
        tokens = (sum(each) for each in zip(*map(_tokens, self.entries), strict=True))
        costs = map(_short, (self.usd, self.device_seconds, self.tflops))
        total = ("total", "", "", *tokens, *costs)
        return table_html(f"{len(self.entries)} calls: {self}", _COLUMNS, [*rows, total] if rows else [], left=3)

    def __add__(self, other: Ledger) -> Ledger:
        return Ledger(entries=[*self.entries, *other.entries])

    def select(self, role: Role | None = None, purpose: Purpose | None = None) -> list[Entry]:
        """Return the entries of a role and purpose (None: any)."""
        return [e for e in self.entries if role in (None, e.role) and purpose in (None, e.purpose)]

    def tokens(self, role: Role | None = None, purpose: Purpose | None = None) -> int:
        """Return completion tokens written by `role` for `purpose`."""
        return sum(e.usage.completion for e in self.select(role, purpose))

    @property
    def mentor_tokens(self) -> int:
        """Tokens that the mentor wrote."""
        return self.tokens("mentor")

    @property
    def intern_tokens(self) -> int:
        """Tokens that the intern wrote, discarded drafts included."""
        return self.tokens("intern")

    @property
    def probe_tokens(self) -> int:
        """Tokens of discarded drafts."""
        return self.tokens("intern", "probe")

    @property
    def usd(self) -> float | None:
        """US$ of all calls billed by token; None if one of them has no price, or if no call is billed."""
        return sum_known(e.usd for e in self.entries if not e.local or e.usd is not None)

    @property
    def usd_bound(self) -> float | None:
        """US$ in the worst case: cut calls at their caps, possibly lost calls billed in full."""
        return sum_known(e.usd_bound for e in self.entries if not e.local or e.usd_bound is not None)

    @property
    def tflops(self) -> float | None:
        """TFLOPs of every call, with prefill and drafts; None if a part is unknown."""
        return sum_known(e.tflops for e in self.entries)

    @property
    def device_seconds(self) -> float | None:
        """Device time of every call, by the speed profiles of their models; None where one has none."""
        return sum_known(e.device_seconds for e in self.entries)

    def cost(self, unit: Unit) -> float | None:
        """Return the total in a unit; None where a call's cost is not known."""
        totals: dict[Unit, float | None] = {
            "usd": self.usd,
            "seconds": self.device_seconds,
            "tflops": self.tflops,
            "tflops_published": self.tflops_published,
            "mentor_tokens": float(self.mentor_tokens),
        }
        return totals[unit]

    def assumes(self, unit: Unit) -> bool:
        """Whether the cost in a unit rests on a size or a speed that the user assumed."""
        if unit in ("tflops", "tflops_published"):
            return any(e.assumed for e in self.entries)
        return any(e.assumed_speed and (unit == "seconds" or bool(unit == "usd" and e.usd)) for e in self.entries)

    @property
    def tflops_published(self) -> float | None:
        """TFLOPs by the published formula (arXiv 2604.23623); see costs.py."""
        counted = [e for e in self.entries if e.purpose != "probe"]
        return sum_known(None if e.billions is None else _published(e) for e in counted)


_COLUMNS = ("role", "purpose", "model", "prompt", "cached", "completion", "US$", "device seconds", "TFLOPs")


def _tokens(entry: Entry) -> tuple[int, int, int]:
    return entry.usage.prompt, entry.usage.cached, entry.usage.completion


def _costs(entry: Entry) -> tuple[float | None, ...]:
    return entry.usd, entry.device_seconds, entry.tflops


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _published(entry: Entry) -> float:
    own = published_rates(1e9 * (entry.billions or 0.0))
    return own.cost(0, 0, entry.usage.completion, read_tokens=entry.read_tokens)


def sum_known(values: Iterable[float | None]) -> float | None:
    """Return the sum; None if a value is unknown, or if there is none."""
    total, seen = 0.0, False
    for value in values:
        if value is None:
            return None
        total, seen = total + value, True
    return total if seen else None
