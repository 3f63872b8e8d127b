"""Plain numbers, read exactly: whole, decimal (also repeating), scientific, fractions, mixed; percent, thousands."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from fractions import Fraction

_PLAIN = r"\d+\.?\d*|\.\d+"
_DECIMAL = re.compile(rf"[-+]?(?:{_PLAIN})")
_SCIENTIFIC = re.compile(rf"([-+]?(?:{_PLAIN}))(?:[eE]|(?:\\times|\\cdot|\*|x)10\^)(?:\{{([-+]?\d+)\}}|([-+]?\d+))")
_POWER = re.compile(r"([-+]?)10\^(?:\{([-+]?\d+)\}|([-+]?\d+))")
_MIXED = re.compile(r"([-+]?)(\d+)(?:\\frac\{(\d+)\}\{(\d+)\}| (\d+)/(\d+))")
_RATIO = re.compile(r"([-+]?)(?:\\frac\{([-+]?\d+)\}\{([-+]?\d+)\}|\(?(\d+)/(\d+)\)?)")
_REPEATING = re.compile(r"([-+]?)(\d*)\.(\d*)\\(?:overline|bar)\{?(\d+)\}?")
_MULTIPLIER = re.compile(r" ?(dozen|hundred|thousand|million|billion|trillion)$")
_MULTIPLIERS = {"dozen": 12, "hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_FIGURE = re.compile(r"(?<![\w.,^_/\\}])-?\$?-?(\d{1,3}(?:,\d{3})+|\d+)(\.\d+)?(?![\w^!])(?!,\d)(?!\.\d)(?!/\d)")
_LONGEST_PHRASE = 200  # characters
_MAX_DIGITS, _MAX_EXPONENT = 4000, 400  # longer ones are not worth the arithmetic


@dataclass(frozen=True, slots=True)
class ExactNumber:
    value: Fraction
    percent: bool = False
    decimal: bool = False  # with a decimal point
    ratio: bool = False  # as a fraction

    @property
    def share(self) -> Fraction:
        """The value, of a percentage as a share of one."""
        return self.value / 100 if self.percent else self.value


def compare_numbers(left: str, right: str, factor: Fraction = Fraction(1)) -> bool | None:
    """Compare two texts that are numbers, the left one times `factor`; None if one is not, or if algebra must round.

    A percentage equals its share and its figure ("15%" is 0.15 and, where the question asks for percent, 15).
    """
    a, b = read_number(left), read_number(right)
    if a is None or b is None:
        return None
    if a.value * factor == b.value or a.share * factor == b.share:
        return True
    if not (a.decimal or b.decimal):
        return False
    if a.ratio or b.ratio:  # 0.333333 for 1/3: algebra rounds
        return None
    first, second = a.value * factor, b.value
    return abs(first - second) <= max(abs(first), abs(second)) / 10**9  # 18.000000000000004 is float noise


def read_number(text: str) -> ExactNumber | None:
    """Read a number as it stands without spaces, but for the one in "1 4/5"."""
    if len(text) > _MAX_DIGITS:
        return None
    bare = re.sub(r"(?:\\?%|percent(?:age)?)$", "", text)
    match = _MULTIPLIER.search(bare)
    plain, times = (bare[: match.start()], _MULTIPLIERS[match[1]]) if match else (bare, 1)
    number = _as_decimal(plain) or _as_ratio(plain)
    return number and replace(number, value=number.value * times, percent=bare != text)


def _as_decimal(text: str) -> ExactNumber | None:
    if _DECIMAL.fullmatch(text):
        return ExactNumber(Fraction(text.removesuffix(".")), decimal="." in text)
    match = _SCIENTIFIC.fullmatch(text) or _POWER.fullmatch(text)
    exponent = int(match[2] or match[3]) if match else 0
    if match is None or abs(exponent) > _MAX_EXPONENT:
        return None
    figure = match[1] if match.re is _SCIENTIFIC else f"{match[1]}1"
    value = Fraction(figure) * Fraction(10) ** exponent
    return ExactNumber(value, decimal=value.denominator != 1)


def _as_ratio(text: str) -> ExactNumber | None:
    if match := _MIXED.fullmatch(text):
        bottom = int(match[4] or match[6])
        top = int(match[2]) * bottom + int(match[3] or match[5])
    elif match := _RATIO.fullmatch(text):
        top, bottom = int(match[2] or match[4]), int(match[3] or match[5])
    elif match := _REPEATING.fullmatch(text):
        whole, fixed, period = match[2], match[3], match[4]
        top = int(whole + fixed + period) - int(whole + fixed or "0")
        bottom = (10 ** len(period) - 1) * 10 ** len(fixed)
    else:
        return None
    if not bottom:
        return None
    return ExactNumber(Fraction(-top if match[1] == "-" else top, bottom), ratio=True)


def only_number(answer: str) -> str:
    """Return the one plain number among words ("$18.00/day", "about 5 hours"); anything else as it stands."""
    if len(answer) > _LONGEST_PHRASE:
        return answer
    bare = re.sub(r"\\(?:text\w*|mbox|mathrm)\s*\{([^{}]*)\}|\\([$%,! ])", lambda m: m[1] or m[2].strip("!, "), answer)
    figures = list(_FIGURE.finditer(bare))
    if len(figures) != 1 or re.search(r"\d", bare[: figures[0].start()] + bare[figures[0].end() :]):
        return answer
    rest = bare[: figures[0].start()] + " " + bare[figures[0].end() :]
    if re.search(r"[\\^_*+=<>!%(]|(?<!\w)[-/](?!\w)|\b(?:dozen|hundred|thousand|\w+llion|percent|half)\b", rest):
        return answer
    return figures[0][0].replace("$", "").replace(",", "")
