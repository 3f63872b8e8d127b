r"""Units after (or a currency before) a value: known ones are compared and converted, other words are dropped.

"5" equals "5 cm", for the question names the unit; "5 cm" equals "50 mm", but neither "5 m" nor "5 cm^2".
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True, slots=True)
class Unit:
    """What is measured, and how many base units one of these is. A radian is 180/pi base units of angle."""

    dimension: tuple[tuple[str, int], ...]
    factor: Fraction
    radian: bool = False


_INCH, _POUND = Fraction(254, 10000), Fraction(45359237, 10**8)
_TABLE: dict[str, tuple[str, Fraction | int]] = {
    "mm millimeter millimetre": ("length", Fraction(1, 1000)),
    "cm centimeter centimetre": ("length", Fraction(1, 100)),
    "m meter metre": ("length", 1),
    "km kilometer kilometre": ("length", 1000),
    "in inch inche": ("length", _INCH),
    "ft foot feet": ("length", _INCH * 12),
    "yd yard": ("length", _INCH * 36),
    "mi mile": ("length", _INCH * 63360),
    "mg milligram": ("mass", Fraction(1, 10**6)),
    "g gram": ("mass", Fraction(1, 1000)),
    "kg kilogram": ("mass", 1),
    "oz ounce": ("mass", _POUND / 16),
    "lb pound": ("mass", _POUND),
    "s sec second": ("time", 1),
    "min minute": ("time", 60),
    "h hr hour": ("time", 3600),
    "day": ("time", 86400),
    "week": ("time", 604800),
    "ml milliliter millilitre": ("volume", Fraction(1, 1000)),
    "l liter litre": ("volume", 1),
    "cent ¢": ("$", Fraction(1, 100)),
    "$ usd dollar": ("$", 1),
    "€ eur euro": ("€", 1),
    "£ gbp": ("£", 1),
    "¥ jpy yen": ("¥", 1),
    "₹ inr rupee": ("₹", 1),
    "degree °": ("angle", 1),
    "radian rad": ("angle", 1),
    "°c celsius": ("°C", 1),
    "°f fahrenheit": ("°F", 1),
}
_UNITS = {name: entry for names, entry in _TABLE.items() for name in names.split()}
_SHORT = {"mph": "mile/hour", "kph": "km/hour", "kmh": "km/hour"}
_POWERS = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}
_PART = re.compile(r"(?:(square|sq|cubic|cu) )?([a-z]+|°[cf]?|[$€£¥₹¢])(?: ?\^? ?([1-3]))?")


def read_unit(phrase: str) -> Unit | None:
    """Return the unit that a phrase names ("square feet", "km/h", "miles per hour", "cm^2"), or None."""
    text = re.sub(r"[{}\\.]|\b(?:text|mbox|mathrm)\b", " ", phrase.lower())
    text = re.sub(r"\^ *(?=\d)", "^", " ".join(text.split()))
    parts = re.split(r" ?(?:/|\bper\b) ?", _SHORT.get(text, text))
    powers: dict[str, int] = {}
    factor = Fraction(1)
    for place, part in enumerate(parts):
        match = _PART.fullmatch(part)
        entry = match and (_UNITS.get(match[2]) or _UNITS.get(match[2].removesuffix("s")))
        if not match or not entry:
            return None
        power = (_POWERS.get(match[1] or "", 1) * int(match[3] or 1)) * (-1 if place else 1)
        powers[entry[0]] = powers.get(entry[0], 0) + power
        factor *= Fraction(entry[1]) ** power
    dimension = tuple(sorted((name, power) for name, power in powers.items() if power))
    return Unit(dimension, factor, radian=text.startswith("rad")) if dimension else None


def is_unit_word(words: Iterable[str]) -> bool:
    """Whether all words may stand behind a value without changing it: a unit, or what is counted ("apples")."""
    return all(_WORD.fullmatch(word) for word in words)


# Words that multiply, or that make the number another one, are no units; nor is a short run of variables.
_WORD = re.compile(
    r"[mcdk]m|[km]g|lbs?|oz|ft|yd|mi|ml|hrs?|mins?|secs?|mph|kmh|kph|deg|sq|cu|per|USD|EUR|GBP|day|"
    r"men|old|cup|egg|way|of|the|"
    r"(?!(?:thousand|hundred|[mbtr]+illion|dozen|percent|half|third|quarter|alpha|beta|gamma|theta|lambda))[A-Za-z]{4,}"
)
