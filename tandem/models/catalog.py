"""The models that go by a short name: sizes, prices, licences, and where their weights come from (catalog.yaml)."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tandem.errors import nearest
from tandem.spec import Architecture, InsightMode, ModelSpec, Prices, Sampling

Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Day = Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\d$")]


class _CatalogPart(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Wheels(_CatalogPart):
    """A file that a Python package index serves, cut into `parts` wheels.

    `package` and `member` (the data file within the wheel) may hold ``{part}``, counted from 1.
    """

    package: str
    version: str
    parts: int = Field(ge=1)
    member: str

    def names(self) -> Iterator[tuple[str, str]]:
        for part in range(1, self.parts + 1):
            yield self.package.format(part=part), self.member.format(part=part)


class Gguf(_CatalogPart):
    """A quantised weights file, the same from every source: `bytes` long, with this digest.

    `tied` says that the model has one matrix for input and output embedding, which the file does not.
    """

    file: str
    bytes: int = Field(gt=0)
    sha256: Digest
    tied: bool
    hub: str | None = None
    wheels: Wheels | None = None


class CatalogEntry(_CatalogPart):
    """A model of the catalog. One with an `endpoint` is a paid service; the rest have weights."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    aliases: tuple[str, ...] = ()
    hub: str | None = None
    gguf: Gguf | None = None
    endpoint: str | None = None
    api_key_env: str | None = None
    ends: Day | None = None  # the day on which the endpoint stops serving it
    nominal: float | None = None
    parameters: int | None = None
    active_parameters: int | None = None
    architecture: Architecture | None = None
    context: int
    vocabulary: int | None = None  # log-probabilities are read with it
    licence: str | None = None
    insight_mode: InsightMode = "gpra"
    thinks: bool = False  # aloud, between <think> and </think>
    sampling: Sampling | None = None  # what its makers advise: the default of whatever runs it
    max_tokens: int | None = Field(default=None, ge=1)  # the cap on an answer that they advise, thinking included
    prices: Prices | None = None
    reasoning: bool = False
    logprobs: bool = True
    tools: bool = False  # the endpoint's chat completions take functions

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.endpoint and not (self.prices and self.prices.date and self.api_key_env):
            raise ValueError(f"{self.name}: an endpoint needs dated prices and api_key_env")
        known = self.hub and self.nominal and self.parameters and self.architecture and self.vocabulary
        if not self.endpoint and not known:
            raise ValueError(f"{self.name}: weights need hub, nominal, parameters, architecture and vocabulary")
        return self

    @property
    def local(self) -> bool:
        return self.endpoint is None

    @property
    def disk_bytes(self) -> int:
        """Bytes of its folder: two a parameter, in bfloat16."""
        return 2 * (self.parameters or 0)

    @property
    def fetch_bytes(self) -> int:
        """Bytes to fetch: its file, else its folder as it is on the hub."""
        return self.gguf.bytes if self.gguf else self.disk_bytes

    def called(self) -> Iterator[str]:
        yield from (self.name, *(alias.lower() for alias in self.aliases))
        if self.hub:
            yield self.hub.lower()


@functools.cache
def load_catalog() -> tuple[CatalogEntry, ...]:
    """Return every entry, in the order of the file. Raises ValueError where a name leads to two of them."""
    import yaml

    text = Path(__file__).with_name("catalog.yaml").read_text(encoding="utf-8")
    models: dict[str, dict[str, Any]] = yaml.safe_load(text)["models"]
    entries = tuple(CatalogEntry(name=name, **fields) for name, fields in models.items())
    seen: set[str] = set()
    for entry in entries:
        if doubles := seen.intersection(entry.called()):
            raise ValueError(f"the catalog has {', '.join(sorted(doubles))} twice")
        seen.update(entry.called())
    return entries


@functools.cache
def _by_name() -> dict[str, CatalogEntry]:
    return {name: entry for entry in load_catalog() for name in entry.called()}


def lookup(name: str) -> CatalogEntry | None:
    """Return the entry called `name` (its own, an alias or the hub id, case-insensitive), or None."""
    return _by_name().get(name.lower())


def find(name: str) -> CatalogEntry:
    """Return the entry called `name`; raises UsageError with the nearest names for an unknown one."""
    entry = lookup(name)
    if entry is None:
        raise nearest("model", name, (known.name for known in load_catalog()))
    return entry


def spec_of(entry: CatalogEntry) -> ModelSpec:
    return ModelSpec(
        name=entry.name,
        local=entry.local,
        parameters=entry.nominal,
        active_parameters=entry.active_parameters or entry.parameters,
        architecture=entry.architecture,
        prices=entry.prices,
        context=entry.context,
        vocabulary=entry.vocabulary,
        insight_mode=entry.insight_mode,
        logprobs=entry.logprobs,
        reasoning=entry.reasoning,
        thinks=entry.thinks,
        sampling=entry.sampling,
        max_tokens=entry.max_tokens,
        tools=entry.tools,
        licence=entry.licence,
    )
