"""What is known about a model: sizes, prices, speed, capabilities. A plain value, shared by all layers."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

InsightMode = Literal["gpra", "prefix"]  # four sections; or the beginning of the mentor's own answer or thinking


class Continuation(StrEnum):
    """How a partial answer can be continued (DESIGN.md, "Paces")."""

    NATIVE = "native"
    SECTIONS = "sections"
    NONE = "none"


_PENALTIES = ("presence_penalty", "frequency_penalty")


class Sampling(BaseModel):
    """How tokens are drawn. The default is greedy.

    The penalties are OpenAI's: what a token that was written before loses, once, and for each time.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    temperature: float = Field(default=0.0, ge=0.0, le=2.0)
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    seed: int | None = None
    stop: tuple[str, ...] = ()
    presence_penalty: float = Field(default=0.0, ge=-2.0, le=2.0)
    frequency_penalty: float = Field(default=0.0, ge=-2.0, le=2.0)

    @model_serializer(mode="wrap")
    def _as_before(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out the penalties where there are none: files and digests are as before there were any."""
        fields: dict[str, Any] = plain(self)
        return {name: value for name, value in fields.items() if value or name not in _PENALTIES}


class Prices(BaseModel):
    """US$ per million tokens, with the day (or the month) on which they were read.

    `batch` is what the vendor's batch tier costs of them all, 0.5 for half; it holds where `tier` is "batch".
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: float = Field(ge=0, allow_inf_nan=False)
    output: float = Field(ge=0, allow_inf_nan=False)
    cached_input: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    cache_write: float | None = Field(default=None, ge=0, allow_inf_nan=False)  # None: as any input
    batch: float | None = Field(default=None, ge=0, le=1, allow_inf_nan=False)
    tier: Literal["standard", "batch"] = "standard"
    date: str = ""

    @model_validator(mode="after")
    def _billable(self) -> Self:
        if self.tier == "batch" and self.batch is None:
            raise ValueError("the batch tier needs `batch`, what it costs of the other prices (0.5: half)")
        return self


class SpeedProfile(BaseModel):
    """Device-seconds per token of one model on one pool or endpoint at one load; wall time x `devices`, shared out.

    `load` says in words what ran meanwhile; the three counts give it in figures (requests at once, and the tokens of a
    prompt and of an answer). `endpoint` is ``vllm`` for replicas of our own, ``in process``, or an address without
    secrets. `note` marks one that is used where it was not measured.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    endpoint: str = ""
    uncached: float = Field(ge=0, allow_inf_nan=False)
    cached: float = Field(ge=0, allow_inf_nan=False)
    written: float = Field(ge=0, allow_inf_nan=False)
    device: str = ""
    devices: float = Field(default=1, gt=0, allow_inf_nan=False)
    load: str = ""
    concurrency: int = Field(default=1, ge=1)
    prompt_tokens: int = Field(default=0, ge=0)
    completion_tokens: int = Field(default=0, ge=0)
    date: str = ""
    assumed: bool = False
    note: str = ""

    def __str__(self) -> str:
        if self.assumed:
            return f"assumed for {self.device}, {self.load}"
        return f"profile of {self.date}: {self.device}, {self.load}" + (f" ({self.note})" if self.note else "")


class Architecture(BaseModel):
    """What the FLOPs formula needs beside the parameter count."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    layers: int
    attention_width: int  # query heads x head size


class ModelSpec(BaseModel):
    """Name, sizes, prices, context and capabilities of a model in use."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    backend: str = ""
    local: bool = True  # on hardware the user owns: no price per token
    parameters: float | None = None  # nominal, e.g. 7e9; the published cost formula uses it
    active_parameters: float | None = None  # active per token; None = `parameters`
    assumed_parameters: bool = False  # the user gave the size, it was not published
    architecture: Architecture | None = None
    prices: Prices | None = None
    profile: SpeedProfile | None = None
    usd_per_device_hour: float | None = Field(default=None, ge=0, allow_inf_nan=False)  # of own hardware
    context: int | None = None
    vocabulary: int | None = None
    insight_mode: InsightMode = "gpra"
    logprobs: bool = True
    logprobs_mode: str = "raw"  # raw: before temperature; processed: after it
    continuation: Continuation | None = None  # None = not probed yet
    # The endpoint accepts and returns token ids, which continue text exactly; the answers of a run do not depend on it.
    token_ids: bool = Field(default=False, exclude=True)
    # It accepts tools. This follows from its name; `Strategy.adaptation` says where it changes answers.
    tools: bool = Field(default=False, exclude=True)
    reasoning: bool = False  # hidden reasoning, max_completion_tokens, no temperature
    # It thinks aloud, between <think> and </think>. Its makers' advice is a default of settings, which record it.
    thinks: bool = Field(default=False, exclude=True)
    opens_thinking: bool | None = Field(default=None, exclude=True)  # its chat template does; None: not known
    sampling: Sampling | None = Field(default=None, exclude=True)
    max_tokens: int | None = Field(default=None, ge=1, exclude=True)  # the cap on an answer, thinking included
    synthetic: bool = False  # the fake model
    revision: str | None = None
    licence: str | None = None
