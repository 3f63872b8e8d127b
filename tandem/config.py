"""Settings of one solve or run, with the defaults that hold when nobody says otherwise."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from tandem.types import Sampling

Pace = Literal["auto", "eager", "thrifty"]
Backend = Literal["auto", "vllm", "transformers"]


class Serving(BaseModel):
    """How a local model is served by vLLM. None means: as the machine has it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gpus: tuple[int, ...] | None = None
    tensor_parallel: int = Field(default=1, ge=1)
    replicas: int | None = Field(default=None, ge=1)
    context: int | None = Field(default=None, ge=1)  # tokens
    vllm_args: tuple[str, ...] = ()
    cores: int | None = Field(default=None, ge=1)  # of each replica on a Ray node without a GPU
    ray: str | None = None  # a Ray cluster's address, or "local" for one of this run's own; None: without Ray


class Settings(BaseModel):
    """What a strategy may read of the user's wishes. None means: the pair's or the classifier's own default."""

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
