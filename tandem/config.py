"""Settings of one solve or run, with their defaults, and the options that a single call may override."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, Literal, TypedDict

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from tandem.costs import Unit, parse_unit
from tandem.errors import UsageError, nearest
from tandem.ledger import Role
from tandem.spec import ModelSpec, Sampling

Pace = Literal["auto", "eager", "thrifty"]
Backend = Literal["auto", "vllm", "transformers"]


class Serving(BaseModel):
    """How vLLM serves a local model. None: chosen for this machine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gpus: tuple[int, ...] | None = None
    tensor_parallel: int = Field(default=1, ge=1)
    replicas: int | None = Field(default=None, ge=1)
    context: int | None = Field(default=None, ge=1)  # tokens
    vllm_args: tuple[str, ...] = ()
    cores: int | None = Field(default=None, ge=1)  # of each replica on a Ray node without a GPU
    ray: str | None = None  # a Ray cluster's address, or "local" for one of this run's own; None: without Ray


ANSWER_TOKENS = 4096  # the cap on an answer of a model whose makers advise none


def _unit(value: Any) -> Any:
    return parse_unit(value) if isinstance(value, str) else value


class Settings(BaseModel):
    """The settings that a strategy may read. None: the default of the pair or of the classifier.

    `mentor_sampling` and `intern_sampling` are there where a role is drawn in another way than `sampling`, which has
    seed and stop sequences of both: as its makers advise.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    effort: str | None = None  # the ladder, as parse_ladder reads it
    pace: Pace = "auto"
    draft_tokens: int | None = Field(default=None, ge=1)
    sampling: Sampling = Sampling()
    mentor_sampling: Sampling | None = None
    intern_sampling: Sampling | None = None
    mentor_max_tokens: int = Field(default=ANSWER_TOKENS, ge=1)
    intern_max_tokens: int = Field(default=ANSWER_TOKENS, ge=1)
    classifier: str | None = None
    unit: Annotated[Unit, BeforeValidator(_unit)] | None = None  # which of the classifier's operating points decide
    aim: str | None = None  # as its card names it: accuracy, cost:0.8, gain
    top_logprobs: int = Field(default=20, ge=1, le=20)
    intern_logprobs: bool = False  # for every answer of the intern, even if the strategy does not use them

    @classmethod
    def of(cls, **fields: Any) -> Settings:
        """Return settings with these fields. Raises UsageError naming an invalid one."""
        try:
            return cls(**fields)
        except ValidationError as error:
            first = error.errors()[0]
            raise UsageError(f"{first['loc'][-1]}: {first['msg']}, not {first['input']!r}") from None

    @classmethod
    def for_pair(
        cls,
        mentor: ModelSpec,
        intern: ModelSpec,
        *,
        temperature: float | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        mentor_max_tokens: int | None = None,
        intern_max_tokens: int | None = None,
        **fields: Any,
    ) -> Settings:
        """Return the settings of a pair: what is None is, for each model, as its makers advise (else greedy, 4,096).

        The only place where advice and wishes meet. A temperature or top_p that is given holds for both models, the
        other of the two stays as advised. Raises UsageError naming an invalid value.
        """
        wished = {"temperature": temperature, "top_p": top_p, "seed": seed}
        usual = _over(Sampling(), wished)
        own = {
            f"{role}_sampling": _over(spec.sampling, wished)
            for role, spec in (("mentor", mentor), ("intern", intern))
            if spec.sampling
        }
        return cls.of(
            sampling=usual,
            mentor_max_tokens=cap(mentor, mentor_max_tokens),
            intern_max_tokens=cap(intern, intern_max_tokens),
            **{name: sampling for name, sampling in own.items() if sampling != usual},
            **fields,
        )

    def sampling_of(self, role: Role) -> Sampling:
        """Return how the tokens of the model in `role` are drawn."""
        return (self.mentor_sampling if role == "mentor" else self.intern_sampling) or self.sampling

    def max_tokens(self, role: Role) -> int:
        """Return the cap on an answer by `role`."""
        return self.mentor_max_tokens if role == "mentor" else self.intern_max_tokens

    def describe(self) -> dict[str, Any]:
        """Return the settings for a manifest; a role's own sampling only where there is one, as in earlier versions.

        Unit and aim are not among them: the operating points that they choose are described by the plan.
        """
        own = {name for name in _SAMPLINGS if getattr(self, name) is None}
        return self.model_dump(mode="json", exclude={*own, "unit", "aim"})

    def changed(self, options: SolveOptions) -> Settings:
        """Return these settings with a call's options applied. Raises UsageError naming an invalid one."""
        given = {name: value for name, value in vars(options).items() if value is not None and name not in _APART}
        wished = {name: given.pop(name) for name in _SAMPLING if name in given}
        held = {name: own for name in _SAMPLINGS if (own := getattr(self, name)) is not None}
        drawn = {name: _over(own, wished) for name, own in held.items()}
        if options.vary:
            drawn = {name: its | {"temperature": its["temperature"] or 1.0} for name, its in drawn.items()}
        return self.of(**dict(self) | drawn | given)


@dataclass(frozen=True)
class SolveOptions:
    """The settings that a single call may override. None: the engine's setting.

    The fields are those of `Tandem`. `intern_logprobs` requests the intern's log-probabilities with every answer, even
    if the strategy does not need them, so that several strategies can share the same calls. `vary`: a model that would
    be greedy draws at temperature 1, the vendors' default, for several answers to one problem.
    """

    strategy: str | None = None
    effort: str | None = None
    pace: Pace | None = None
    draft_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    vary: bool = False
    mentor_max_tokens: int | None = None
    intern_max_tokens: int | None = None
    classifier: str | None = None
    unit: Unit | None = None
    aim: str | None = None
    intern_logprobs: bool | None = None

    def changed(self, settings: Mapping[str, Any]) -> SolveOptions:
        """Return these options with some of them set anew. Raises UsageError for an unknown name, with the nearest."""
        known = [field.name for field in fields(self)]
        for name in settings:
            if name not in known:
                raise nearest("setting of a call", name, known)
        given = dict(settings)
        if (stop := given.get("stop")) is not None:
            given["stop"] = (stop,) if isinstance(stop, str) else tuple(stop) if isinstance(stop, list) else stop
        return replace(self, **given)


class CallSettings(TypedDict, total=False):
    """The settings of one call as keyword arguments: the fields of `SolveOptions`, for type checkers and editors."""

    strategy: str | None
    effort: str | None
    pace: Pace | None
    draft_tokens: int | None
    temperature: float | None
    top_p: float | None
    seed: int | None
    stop: str | Sequence[str] | None
    presence_penalty: float | None
    frequency_penalty: float | None
    vary: bool
    mentor_max_tokens: int | None
    intern_max_tokens: int | None
    classifier: str | None
    unit: Unit | str | None
    aim: str | None
    intern_logprobs: bool | None


def cap(spec: ModelSpec, given: int | None = None, usual: int = ANSWER_TOKENS) -> int:
    """Return the cap on a model's answers: as given, else as its makers advise, else the `usual` one."""
    return (spec.max_tokens or usual) if given is None else given


_SAMPLING = ("temperature", "top_p", "seed", "stop", "presence_penalty", "frequency_penalty")
_APART = ("strategy", "vary")
_SAMPLINGS = ("sampling", "mentor_sampling", "intern_sampling")


def _over(own: Sampling, wished: Mapping[str, Any]) -> dict[str, Any]:
    """Return a sampling with what is wished for; its top_p was for its own temperature, not for a greedy one."""
    given = {name: value for name, value in wished.items() if value is not None}
    greedy = own.temperature > 0 and given.get("temperature") == 0
    return dict(own) | ({"top_p": 1.0} if greedy else {}) | given
