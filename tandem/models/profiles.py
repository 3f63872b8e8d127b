"""Speed profiles that were measured: kept by model, endpoint and load; those of the demo pair are shipped.

A user's own are files in the cache folder, one each, written by `tandem profile`; the shipped ones are in profiles.json
beside this file, in the same format.
"""

from __future__ import annotations

import functools
import json
import logging
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from tandem.costs import assumed_profile
from tandem.errors import TandemError, UsageError, nearest
from tandem.models.base import Model
from tandem.paths import cache_dir
from tandem.spec import ModelSpec, SpeedProfile
from tandem.storage.files import write_whole
from tandem.storage.formats import read_model, stamped

AssumedLoad = Literal["saturated", "interactive"]
VLLM, IN_PROCESS = "vllm", "in process"
_BACKENDS = {"vllm": VLLM, "transformers": IN_PROCESS}
_FAR = 2.0  # a load so many times larger or smaller is another one
_SHIPPED = Path(__file__).with_name("profiles.json")

_log = logging.getLogger(__name__)


class Measurement(BaseModel):
    """What one cycle of a measurement gave: device-seconds per token, and the seconds and tokens behind them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    uncached: float = Field(ge=0, allow_inf_nan=False)
    cached: float = Field(ge=0, allow_inf_nan=False)
    written: float = Field(ge=0, allow_inf_nan=False)
    phases: tuple[dict[str, float], ...] = ()


class KeptProfile(BaseModel):
    """A profile with the cycles that it is the middle of, as it lies on disk."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = 1
    profile: SpeedProfile
    engine: str = ""  # what served it, with its version
    cycles: tuple[Measurement, ...] = ()
    command: str = ""
    shipped: bool = Field(default=False, exclude=True)

    @property
    def id(self) -> str:
        """What it is called: model, endpoint and load."""
        p = self.profile
        parts = (p.model.rpartition("/")[2], p.endpoint or "anywhere")
        named = "-".join(re.sub(r"[^\w.]+", "-", part).strip("-.") for part in parts)
        return f"{named}-{p.concurrency}x{p.prompt_tokens}+{p.completion_tokens}"

    def spread(self, kind: Literal["uncached", "cached", "written"]) -> float | None:
        """Return half the range over the cycles as a share of the rate; None where it is 0 or there is one cycle."""
        rate, values = getattr(self.profile, kind), [getattr(cycle, kind) for cycle in self.cycles]
        return (max(values) - min(values)) / 2 / rate if rate and len(values) > 1 else None


def profiles_dir() -> Path:
    return cache_dir() / "profiles"


def keep_profile(kept: KeptProfile, path: Path | None = None) -> Path:
    """Write a profile, in place of an older one of the same model, endpoint and load; return its file."""
    path = path or profiles_dir() / f"{kept.id}.json"
    write_whole(path, json.dumps(stamped(kept.model_dump(mode="json")), indent=1) + "\n", parents=True)
    return path


def kept_profiles(model: str | None = None) -> list[KeptProfile]:
    """Return the user's own profiles, then the shipped ones, of one model or of all. A damaged file is left out."""
    found = []
    for path in sorted(profiles_dir().glob("*.json")):
        try:
            found.append(_read(path))
        except TandemError as error:
            _log.warning("%s", error)
    found += _shipped()
    return [kept for kept in found if model in (None, kept.profile.model)]


def read_profile(text: str) -> SpeedProfile:
    """Return the profile in a file, or the kept or shipped one of that id. Raises UsageError where there is none."""
    path = Path(text).expanduser()
    if path.suffix == ".json" or path.is_file():
        if not path.is_file():
            raise UsageError(f"there is no speed profile at {path}; to measure one: tandem profile MODEL")
        return _read(path).profile
    known = {kept.id: kept for kept in reversed(kept_profiles())}  # one's own wins over a shipped one
    if text not in known:
        raise nearest("speed profile", text, known)
    return _marked(known[text])


def find_profile(spec: ModelSpec, endpoint: str | None = None, concurrency: int | None = None) -> SpeedProfile | None:
    """Return the profile of a model that suits best: at its `endpoint` (None: any), at the nearest load, the newest.

    A user's own goes before a shipped one. One of another load is marked in its `note`. None where there is none.
    """
    there = [kept for kept in kept_profiles(spec.name) if endpoint in (None, kept.profile.endpoint)]
    if not there:
        return None

    def fit(kept: KeptProfile) -> tuple[float, ...]:
        far = abs(math.log((concurrency or 16) / kept.profile.concurrency))
        return kept.shipped, kept.profile.endpoint != VLLM, far

    best = min(fit(kept) for kept in there)
    newest = max((kept for kept in there if fit(kept) == best), key=lambda kept: kept.profile.date)
    return _marked(newest, concurrency)


def set_profile(model: Model, named: str | None = None, **how: Any) -> None:
    """Give a model what `timed` gives its spec, by where it runs."""
    spec = timed(model.spec, named, endpoint=endpoint_of(model), **how)
    if spec is not model.spec:
        model.spec = spec


def timed(
    spec: ModelSpec,
    named: str | None = None,
    *,
    endpoint: str | None = None,
    concurrency: int | None = None,
    assume: AssumedLoad | None = None,
    usd_per_device_hour: float | None = None,
) -> ModelSpec:
    """Return the spec of a model that has no price per token with its speed profile and the price of a device hour.

    `named` is a file or an id; one of another model is used with a warning. Without it, what was measured at `endpoint`
    (None: anywhere), at a load near `concurrency`; else, with `assume`, the usual ratios of such a load, by the model's
    size. Raises UsageError for a name that leads nowhere, and where `assume` lacks the size.
    """
    update: dict[str, Any] = {}
    if named is not None:
        update["profile"] = _of_another(read_profile(named), spec, named)
    elif spec.prices is None and spec.profile is None and not spec.synthetic:
        profile = find_profile(spec, endpoint, concurrency)
        if profile is None and assume is not None and (profile := assumed_profile(spec, assume)) is None:
            raise UsageError(f"to assume a speed, the size of {spec.name} is needed: --mentor- or --intern-parameters")
        update["profile"] = profile
    if usd_per_device_hour is not None and spec.prices is None:
        update["usd_per_device_hour"] = usd_per_device_hour
        if spec.local and not spec.synthetic and update.get("profile", spec.profile) is None:
            _log.warning(
                "--usd-per-device-hour has no effect on %s, which has no speed profile: tandem profile measures one, "
                "--assume-load saturated takes the usual speeds",
                spec.name,
            )
    return spec.model_copy(update=update) if any(value is not None for value in update.values()) else spec


def _of_another(profile: SpeedProfile, spec: ModelSpec, named: str) -> SpeedProfile:
    if profile.model == spec.name:
        return profile
    _log.warning("the speed profile %s is of %s, not of %s: it is used, and marked", named, profile.model, spec.name)
    notes = [profile.note] if profile.note else []
    return profile.model_copy(update={"note": "; ".join([*notes, f"of another model, {profile.model}"])})


def endpoint_of(model: Model) -> str:
    """Return where a model runs, as profiles are kept by it: our own vLLM replicas, this process, or an address."""
    if known := _BACKENDS.get(model.spec.backend):
        return known
    where = sorted(part.rpartition(" ")[0] or part for part in model.address.split(", "))
    return VLLM if pool_at(where) else ", ".join(where)


def pool_at(addresses: list[str]) -> Any:
    """Return the state of the pool of this machine whose replicas are at these addresses (host:port/v1), or None."""
    from tandem.models.vllm.state import load_all

    for pool in load_all()[0]:
        if set(addresses) <= {replica.url.partition("//")[2] for replica in pool.replicas}:
            return pool
    return None


def _marked(kept: KeptProfile, concurrency: int | None = None) -> SpeedProfile:
    profile, notes = kept.profile, []
    if kept.shipped:
        notes.append("shipped")
    if concurrency and not 1 / _FAR <= concurrency / profile.concurrency <= _FAR:
        notes.append(f"used at another load, {concurrency} at once")
    return profile.model_copy(update={"note": "; ".join(notes)})


def _read(path: Path) -> KeptProfile:
    return read_model(path, KeptProfile, instead="measure it again with tandem profile, and delete the file")


@functools.cache
def _shipped() -> tuple[KeptProfile, ...]:
    content: Mapping[str, Any] = json.loads(_SHIPPED.read_text(encoding="utf-8"))
    return tuple(KeptProfile(shipped=True, **fields) for fields in content["profiles"])
