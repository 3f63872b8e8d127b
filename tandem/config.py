"""Settings of one solve or run, with their defaults, and the options that a single call may override."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tandem.errors import UsageError
from tandem.types import Sampling

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


class Settings(BaseModel):
    """The settings that a strategy may read. None: the default of the pair or of the classifier."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    effort: str | None = None  # the ladder, as parse_ladder reads it
    pace: Pace = "auto"
    draft_tokens: int | None = Field(default=None, ge=1)
    sampling: Sampling = Sampling()
    mentor_max_tokens: int = Field(default=4096, ge=1)
    intern_max_tokens: int = Field(default=4096, ge=1)
    classifier: str | None = None
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

    def changed(self, options: SolveOptions) -> Settings:
        """Return these settings with a call's options applied. Raises UsageError naming an invalid one."""
        given = {name: value for name, value in vars(options).items() if value is not None and name != "strategy"}
        sampling = {name: given.pop(name) for name in _SAMPLING if name in given}
        return self.of(**dict(self) | {"sampling": dict(self.sampling) | sampling} | given)


@dataclass(frozen=True)
class SolveOptions:
    """The settings that a single call may override. None: the engine's setting.

    The fields are those of `Tandem`. `intern_logprobs` requests the intern's log-probabilities with every answer, even
    if the strategy does not need them, so that several strategies can share the same calls.
    """

    strategy: str | None = None
    effort: str | None = None
    pace: Pace | None = None
    draft_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    mentor_max_tokens: int | None = None
    intern_max_tokens: int | None = None
    classifier: str | None = None
    intern_logprobs: bool | None = None


_SAMPLING = ("temperature", "top_p", "seed")
