"""What a call costs, in the unit that is paid: US$, device time, TFLOPs, or mentor tokens.

`Rates` of a model in a unit price its calls; nothing else in the package multiplies tokens by a price. They come from
prices (catalog or price file), from a speed profile (`tandem profile`), from the architecture, or from the counts
alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from tandem.errors import UsageError, nearest
from tandem.spec import ModelSpec, SpeedProfile

Unit = Literal["usd", "seconds", "tflops", "tflops_published", "mentor_tokens"]
UNITS: tuple[Unit, ...] = get_args(Unit)
LABELS: dict[Unit, str] = {
    "usd": "US$",
    "seconds": "device seconds",
    "tflops": "TFLOPs",
    "tflops_published": "published TFLOPs",
    "mentor_tokens": "mentor tokens",
}
NEEDS: dict[Unit, str] = {
    "usd": "a price: --prices FILE, or --usd-per-device-hour with a profile (tandem profile)",
    "seconds": "a speed profile: tandem profile, or --assume-load",
    "tflops": "its size: --mentor-parameters or --intern-parameters",
    "tflops_published": "its size: --mentor-parameters or --intern-parameters",
    "mentor_tokens": "nothing",
}
# A written token's device time over a read one's, by load (measured on 8B models on an H100: 3.6 to 4.6 saturated with
# long answers, 1.1 with short ones, 15 to 60 with four requests at once); and the speed that reading is taken to have.
ASSUMED_RATIOS = {"saturated": 2.5, "interactive": 15.0}
_ASSUMED_FLOPS = 400e12  # a second, of one data-centre device that reads a long prompt


class UnknownRatesError(UsageError):
    """A unit that a model has no rates for."""

    def __init__(self, spec: ModelSpec, unit: Unit) -> None:
        super().__init__(f"the cost of {spec.name} in {LABELS[unit]} is not known; it needs {NEEDS[unit]}")


@dataclass(frozen=True, slots=True)
class Rates:
    """What one token of each kind costs in a unit, and with `attention` each pair of positions (TFLOPs only).

    `insight` is the rate of mentor tokens that an intern reads, where a formula counts them and no other prompt.
    Without `drafts` a discarded draft costs nothing. `source` says where they come from.
    """

    unit: Unit
    uncached: float = 0.0
    cached: float = 0.0
    written: float = 0.0
    cache_write: float | None = None  # None: as `uncached`
    attention: float = 0.0
    insight: float = 0.0
    drafts: bool = True
    source: str = ""
    assumed: bool = False

    def cost(
        self,
        prompt: int,
        cached: int,
        completion: int,
        *,
        cache_write: int = 0,
        read_tokens: int = 0,
        discarded: bool = False,
    ) -> float:
        """Return the cost of one call.

        `cached` and `cache_write` are parts of `prompt`, reasoning is part of `completion`; `read_tokens` are mentor
        tokens in an intern's prompt.
        """
        if discarded and not self.drafts:
            return 0.0
        write = self.uncached if self.cache_write is None else self.cache_write
        cost = (prompt - cached - cache_write) * self.uncached + cached * self.cached + cache_write * write
        cost += completion * self.written + read_tokens * self.insight
        if self.attention:
            total = prompt + completion
            cost += self.attention * (total * total - cached * cached) / 2
        return cost


def rates(spec: ModelSpec, unit: Unit, role: Literal["mentor", "intern"]) -> Rates | None:
    """Return a model's rates in a unit, or None where what they need is not known.

    TFLOPs: 2 x active parameters for each token computed, plus 4 x layers x width for each earlier position that a
    token attends to (scores and values); a size that the user assumed is counted without attention. Published TFLOPs
    (arXiv 2604.23623): 2 x nominal parameters for each token of mentor text, written or read, and of the final answer;
    no prompts, no drafts.
    """
    if unit == "usd":
        return _usd(spec)
    if unit == "seconds":
        return None if spec.profile is None else _seconds(spec.profile)
    if unit == "mentor_tokens":
        return Rates(unit, written=float(role == "mentor"), source="counted")
    if unit == "tflops":
        return _tflops(spec)
    return published_rates(spec.parameters, assumed=spec.assumed_parameters) if spec.parameters else None


def _tflops(spec: ModelSpec) -> Rates | None:
    active = spec.active_parameters or spec.parameters
    if active is None or (spec.architecture is None and not spec.assumed_parameters):
        return None
    shape = spec.architecture
    attention = 4e-12 * shape.layers * shape.attention_width if shape else 0.0
    each = 2e-12 * active
    return Rates(
        "tflops",
        uncached=each,
        written=each,
        attention=attention,
        source="architecture" if shape else "size",
        assumed=spec.assumed_parameters,
    )


def published_rates(parameters: float, *, assumed: bool = False) -> Rates:
    """Return the rates of the published formula for a model of so many nominal parameters."""
    each = 2e-12 * parameters
    return Rates("tflops_published", written=each, insight=each, drafts=False, source="size", assumed=assumed)


def _usd(spec: ModelSpec) -> Rates | None:
    prices = spec.prices
    if prices is not None:
        cached = prices.input if prices.cached_input is None else prices.cached_input
        share, source = 1.0, f"prices of {prices.date}" if prices.date else "prices"
        if prices.tier == "batch" and prices.batch is not None:
            share, source = prices.batch, f"batch {source}"
        return Rates(
            "usd",
            uncached=prices.input * share / 1e6,
            cached=cached * share / 1e6,
            written=prices.output * share / 1e6,
            cache_write=None if prices.cache_write is None else prices.cache_write * share / 1e6,
            source=source,
        )
    if spec.usd_per_device_hour is None or spec.profile is None:
        return None
    seconds, each = _seconds(spec.profile), spec.usd_per_device_hour / 3600
    return Rates(
        "usd",
        uncached=seconds.uncached * each,
        cached=seconds.cached * each,
        written=seconds.written * each,
        source=f"US$ {spec.usd_per_device_hour:g} per device hour, {seconds.source}",
        assumed=seconds.assumed,
    )


def _seconds(profile: SpeedProfile) -> Rates:
    return Rates(
        "seconds",
        uncached=profile.uncached,
        cached=profile.cached,
        written=profile.written,
        source=str(profile),
        assumed=profile.assumed,
    )


def pair_rates(mentor: ModelSpec, intern: ModelSpec, unit: Unit) -> tuple[Rates, Rates]:
    """Return the rates of mentor and intern in a unit. Raises UnknownRatesError, which says what is missing.

    An intern on hardware of one's own costs no US$ where the mentor is billed and no price of a device hour is given.
    """
    ours, theirs = rates(mentor, unit, "mentor"), rates(intern, unit, "intern")
    if ours is None:
        raise UnknownRatesError(mentor, unit)
    if theirs is None and unit == "usd" and intern.local:
        theirs = Rates(unit, source="own hardware, counted as free")
    if theirs is None:
        raise UnknownRatesError(intern, unit)
    return ours, theirs


def known_units(mentor: ModelSpec, intern: ModelSpec) -> tuple[Unit, ...]:
    """Return the units in which both models have rates."""
    found: list[Unit] = []
    for unit in UNITS:
        try:
            pair_rates(mentor, intern, unit)
        except UnknownRatesError:
            continue
        found.append(unit)
    return tuple(found)


def default_unit(mentor: ModelSpec, intern: ModelSpec) -> Unit:
    """Return the first of UNITS in which both have rates: US$, device seconds, TFLOPs, else mentor tokens."""
    return known_units(mentor, intern)[0]


def parse_unit(text: str) -> Unit:
    """Read a unit as typed, ``tflops-published`` or ``tflops_published``. Raises UsageError for an unknown one."""
    name = text.strip().lower().replace("-", "_")
    for unit in UNITS:
        if unit == name:
            return unit
    raise nearest("unit", text, (unit.replace("_", "-") for unit in UNITS))


def amount(value: float, unit: Unit) -> str:
    """Return a cost for people, its unit beside it: ``US$ 3.10``, ``1,240.0 device seconds``, ``0.036 TFLOPs``."""
    text = figure(value, unit)
    return f"US$ {text}" if unit == "usd" else f"{text} {LABELS[unit]}"


def figure(value: float, unit: Unit) -> str:
    """Return a cost as `amount` does, for a column that names the unit: at least two significant digits."""
    decimals = {"usd": 2, "mentor_tokens": 0}.get(unit, 1)
    if value and abs(value) < 1 and unit != "mentor_tokens":
        decimals = max(decimals, 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{decimals}f}" if value else "0"


def assumed_profile(spec: ModelSpec, load: str = "saturated") -> SpeedProfile | None:
    """Return a speed profile by the usual ratios of a load, marked `assumed`; None where the size is not known."""
    active = spec.active_parameters or spec.parameters
    if active is None:
        return None
    read = 2 * active / _ASSUMED_FLOPS
    return SpeedProfile(
        model=spec.name,
        uncached=read,
        cached=read / 50,
        written=read * ASSUMED_RATIOS[load],
        device="a data-centre GPU",
        load=load,
        assumed=True,
    )
