"""What is known about a model: sizes, prices, capabilities. A plain value, shared by all layers."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

InsightMode = Literal["gpra", "prefix"]  # four sections; or the beginning of the mentor's own answer or thinking


class Continuation(StrEnum):
    """How a partial answer can be continued (DESIGN.md, "Paces")."""

    NATIVE = "native"
    SECTIONS = "sections"
    NONE = "none"


class Prices(BaseModel):
    """US$ per million tokens, with the day they were read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: float = Field(ge=0, allow_inf_nan=False)
    output: float = Field(ge=0, allow_inf_nan=False)
    cached_input: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    date: str = ""

    def usd(self, prompt: int, cached: int, completion: int) -> float:
        """Return the price of one call; reasoning tokens are part of `completion`."""
        cached_price = self.input if self.cached_input is None else self.cached_input
        return ((prompt - cached) * self.input + cached * cached_price + completion * self.output) / 1e6


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
    synthetic: bool = False  # the fake model
    revision: str | None = None
    licence: str | None = None

    def tflops(self, prompt: int, cached: int, completion: int) -> float | None:
        """Return the TFLOPs of one call: uncached prefill + decode + attention.

        2 x active parameters for each token computed, plus 4 x layers x width for each earlier position that a
        token attends to (scores and values). None where size or architecture is unknown; a size that the user
        assumed is counted without attention.
        """
        active = self.active_parameters or self.parameters
        if active is None or (self.architecture is None and not self.assumed_parameters):
            return None
        total = prompt + completion
        flops = 2.0 * active * (total - cached)
        if self.architecture is not None:
            pairs = (total * total - cached * cached) / 2
            flops += 4.0 * self.architecture.layers * self.architecture.attention_width * pairs
        return flops / 1e12
