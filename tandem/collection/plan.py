"""The rows to collect for each problem, the worker that does it, and the maximal cost."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tandem.config import ANSWER_TOKENS, Settings, cap
from tandem.errors import UsageError
from tandem.insight import answer_messages, mentor_messages
from tandem.ladder import ANSWER, Effort, Ladder
from tandem.ledger import Entry, Ledger, Purpose, Role, Usage
from tandem.models.base import TEMPLATE, Model, within
from tandem.spec import ModelSpec, Sampling
from tandem.strategies.budget_forcing import force
from tandem.sufficiency.rows import BUDGET, HINT
from tandem.types import Problem

Source = Literal["insight", "answer"]  # the mentor's text for a problem
COLLECTED_TOKENS = 768  # an answer that is longer is mostly a small model that repeats itself
HINTS = (20, 40, 60)  # % of the mentor's answer


class Key(NamedTuple):
    """The key of a row; there is one row per key."""

    problem: str
    level: str
    sample: int = 0


class CollectionPlan(BaseModel):
    """The levels and their sampling. Raises UsageError for samples that would all be the same."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ladder: tuple[Effort, ...]
    hints: tuple[int, ...] = ()  # % of the mentor's answer, rising
    budgets: tuple[int, ...] = ()  # tokens of the mentor's answer after which it is forced to end, rising
    samples: int = Field(default=1, ge=1)  # of the intern at each level
    max_tokens: int = Field(default=COLLECTED_TOKENS, ge=1)  # cap on the intern's answers
    mentor_max_tokens: int | None = Field(default=None, ge=1)  # None: the same
    sampling: Sampling = Sampling()  # of the intern
    mentor_sampling: Sampling | None = None  # None: the same
    top_logprobs: int = 20

    @model_validator(mode="after")
    def _sane(self) -> Self:
        if any(level.is_question for level in self.ladder):
            raise UsageError("the level 'question' is not collected: training derives it from 'none'")
        if self.samples > 1 and not self.sampling.temperature:
            raise UsageError(f"{self.samples} samples at temperature 0 are all the same: give a --temperature")
        if list(self.hints) != sorted({h for h in self.hints if 0 < h < 100}):
            raise UsageError(f"hints are rising percentages below 100, not {','.join(map(str, self.hints))}")
        if list(self.budgets) != sorted({b for b in self.budgets if b > 0}):
            raise UsageError(f"budgets are rising numbers of tokens, not {','.join(map(str, self.budgets))}")
        return self

    def keys(self, problem: str) -> list[Key]:
        levels = [level.name for level in self.ladder] + [hint_name(share) for share in self.hints]
        rows = [Key(problem, name, s) for name in levels for s in range(1 if name == ANSWER else self.samples)]
        return rows + [Key(problem, budget_name(tokens)) for tokens in self.budgets]

    @property
    def insight_levels(self) -> Ladder:
        return tuple(level for level in self.ladder if level.tokens)

    def source(self, mode: str) -> Source:
        """Return the mentor's text that insights are cut from: in `prefix` mode its answer, if that is collected."""
        answer = mode == "prefix" and (bool(self.hints) or any(level.is_answer for level in self.ladder))
        return "answer" if answer else "insight"

    @property
    def answer_cap(self) -> int:
        """The cap on the mentor's answers."""
        return self.mentor_max_tokens or self.max_tokens

    @classmethod
    def of(
        cls,
        settings: Settings,
        mentor: ModelSpec,
        intern: ModelSpec,
        *,
        mentor_max_tokens: int | None = None,
        intern_max_tokens: int | None = None,
        **fields: Any,
    ) -> Self:
        """Return the plan of a pair: sampled as its `settings` say, with caps as given, else as advised.

        Where nothing is advised, an answer's cap is 768 tokens on own hardware and 4,096 at an API.
        """
        caps = {
            role: cap(spec, given, COLLECTED_TOKENS if spec.local else ANSWER_TOKENS)
            for role, spec, given in (("mentor", mentor, mentor_max_tokens), ("intern", intern, intern_max_tokens))
        }
        samplings = {role: settings.sampling_of(role) for role in get_args(Role)}
        return cls(
            max_tokens=caps["intern"],
            mentor_max_tokens=None if caps["mentor"] == caps["intern"] else caps["mentor"],
            sampling=samplings["intern"],
            mentor_sampling=None if samplings["mentor"] == samplings["intern"] else samplings["mentor"],
            **fields,
        )

    def cap(self, source: Source) -> int:
        return self.answer_cap if source == "answer" else max(level.tokens or 0 for level in self.insight_levels)

    def sampled(self, sample: int) -> Sampling:
        """Return the sampling of one sample: each has its own seed, if seeded."""
        seed = self.sampling.seed
        return self.sampling if seed is None else self.sampling.model_copy(update={"seed": seed + sample})


def hint_name(share: int) -> str:
    return f"{HINT}{share}"


def budget_name(tokens: int) -> str:
    return f"{BUDGET}{tokens}"


def shard_of(problem: str, shards: int) -> int:
    return int.from_bytes(hashlib.sha256(problem.encode()).digest()[:8]) % shards


def estimate(
    plan: CollectionPlan,
    mentor: Model,
    intern: Model,
    problems: Sequence[Problem],
    done: Callable[[Key], bool],
    written: Callable[[str, Source], bool],
) -> dict[str, Any]:
    """Return the missing rows and their maximal cost: rows by level, calls, tokens, US$ and TFLOPs.

    `done` has the existing rows, `written` the mentor's existing texts. Levels that turn out equal to the previous one
    cost less.
    """
    ledger, missing, waiting = Ledger(), Counter[str](), 0
    mode = mentor.spec.insight_mode
    source = plan.source(mode)
    budgets = {level.name: level.tokens or 0 for level in plan.ladder}

    def add(model: Model, role: Role, purpose: Purpose, prompt: int, completion: int, read: int = 0) -> None:
        longest = within(model.spec, prompt + read, completion)
        usage = Usage(prompt=prompt + read, completion=longest, source="bound")
        ledger.entries.append(Entry.of(model.spec, role, purpose, usage, seconds=0.0, read_tokens=read))

    for problem in problems:
        keys = [key for key in plan.keys(problem.id) if not done(key)]
        missing.update(key.level for key in keys)
        waiting += bool(keys)
        wanted: set[Source] = set()
        prompt = sum(intern.count(m.content) for m in answer_messages(problem)) + TEMPLATE
        for key in keys:
            hint = int(key.level.removeprefix(HINT)) if key.level.startswith(HINT) else 0
            forced = int(key.level.removeprefix(BUDGET)) if key.level.startswith(BUDGET) else 0
            if key.level == ANSWER or hint or forced:
                wanted.add("answer")
            elif budgets[key.level]:
                wanted.add(source)
            if forced >= plan.answer_cap:
                continue  # the answer itself is not longer
            if forced:
                room = force(problem, "", mentor.spec, plan.answer_cap).max_tokens
                add(mentor, "mentor", "answer", prompt, room, forced)
            elif key.level != ANSWER:
                read = hint * plan.answer_cap // 100 or budgets.get(key.level, 0)
                add(intern, "intern", "answer", prompt, plan.max_tokens, read)
        for text in wanted:
            if not written(problem.id, text):
                messages = mentor_messages(problem, mode) if text == "insight" else answer_messages(problem)
                asked = sum(mentor.count(m.content) for m in messages) + TEMPLATE
                add(mentor, "mentor", text, asked, plan.cap(text))
    return {
        "problems": waiting,
        "rows": dict(missing),
        "caps": {"mentor": plan.answer_cap, "intern": plan.max_tokens},
        "calls": {role: len(ledger.select(role)) for role in ("mentor", "intern")},
        "at_most": {
            "mentor_tokens": ledger.mentor_tokens,
            "intern_tokens": ledger.intern_tokens,
            "usd": ledger.usd,
            "tflops": ledger.tflops,
        },
    }


def estimate_text(found: Mapping[str, Any]) -> str:
    most, calls, caps = found["at_most"], found["calls"], found["caps"]
    rows = ", ".join(f"{level} {count}" for level, count in found["rows"].items()) or "none"
    dollars = "unknown" if most["usd"] is None else f"{most['usd']:.2f}"
    tflops = "unknown" if most["tflops"] is None else f"{most['tflops']:,.0f}"
    return (
        f"problems to do: {found['problems']:,}; rows missing: {rows}\n"
        f"calls: mentor {calls['mentor']:,}, intern {calls['intern']:,}; an answer is cut at "
        f"{caps['mentor']:,} tokens of the mentor, {caps['intern']:,} of the intern\n"
        f"at most: mentor {most['mentor_tokens']:,} tokens, intern {most['intern_tokens']:,} tokens, "
        f"US$ {dollars}, TFLOPs {tflops}"
    )
