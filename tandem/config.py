"""Settings of one solve or run, with their defaults, and what a single call may change of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tandem.errors import UsageError
from tandem.types import Sampling

Pace = Literal["auto", "eager", "thrifty"]
Backend = Literal["auto", "vllm", "transformers"]


class Serving(BaseModel):
    """How vLLM serves a local model. None means: chosen for this machine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gpus: tuple[int, ...] | None = None
    tensor_parallel: int = Field(default=1, ge=1)
    replicas: int | None = Field(default=None, ge=1)
    context: int | None = Field(default=None, ge=1)  # tokens
    vllm_args: tuple[str, ...] = ()
    cores: int | None = Field(default=None, ge=1)  # of each replica on a Ray node without a GPU
    ray: str | None = None  # a Ray cluster's address, or "local" for one of this run's own; None: without Ray


class Settings(BaseModel):
    """The settings that a strategy may read. None means: the pair's or the classifier's own default."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    effort: str | None = None  # the ladder, as parse_ladder reads it
    pace: Pace = "auto"
    draft_tokens: int | None = Field(default=None, ge=1)
    sampling: Sampling = Sampling()
    mentor_max_tokens: int = Field(default=4096, ge=1)
    intern_max_tokens: int = Field(default=4096, ge=1)
    classifier: str | None = None
    top_logprobs: int = Field(default=20, ge=1, le=20)
    intern_logprobs: bool = False  # with every answer of the intern, also where the strategy reads none

    @classmethod
    def of(cls, **fields: Any) -> Settings:
        """Return settings with these fields. Raises UsageError naming one that is wrong."""
        try:
            return cls(**fields)
        except ValidationError as error:
            first = error.errors()[0]
            raise UsageError(f"{first['loc'][-1]}: {first['msg']}, not {first['input']!r}") from None

    def changed(self, options: SolveOptions) -> Settings:
        """Return these settings with a call's options. Raises UsageError naming one that is wrong."""
        given = {name: value for name, value in vars(options).items() if value is not None and name != "strategy"}
        sampling = {name: given.pop(name) for name in _SAMPLING if name in given}
        return self.of(**dict(self) | {"sampling": dict(self.sampling) | sampling} | given)


@dataclass(frozen=True)
class SolveOptions:
    """What a single call may change of its engine's settings. None means: as the engine has it.

    The fields are those of `Tandem`. `intern_logprobs` has the intern's log-probabilities read with every answer, also
    where the strategy needs none, so that equal calls of several strategies can be shared.
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
