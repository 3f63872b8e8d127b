r"""Cheap comparison of two math answers: one spelling for both, and exact arithmetic where both are numbers.

What is only a matter of writing is dropped: dollar signs, \left and \right, \text{}, units after a value, the degree
sign, thousands separators. Units are dropped, not compared: "5 cm" equals "5" and "5 m".
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

_CHARACTERS = str.maketrans(
    {"−": "-", "–": "-", "×": r"\times ", "·": r"\cdot ", "÷": "/", "π": r"\pi ", "∞": r"\infty ", "∪": r"\cup "}
    | {"∩": r"\cap ", "∈": r"\in ", "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "°": r"^\circ "}
    | {"²": "^2", "³": "^3", "½": r"\frac{1}{2}", "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}"}
    | dict.fromkeys("€£¥₹", "")
    | dict.fromkeys("\u00a0\u2009\u202f", " ")
)
_ARGUMENT = r"(\{[^{}]*\}|[0-9A-Za-z])"
_Rewrite = tuple[str, str | Callable[[re.Match[str]], str]]
_TABLE: list[_Rewrite] = [
    (r",\\!\s*|\{,\}", ","),  # LaTeX's ways to write a thousands comma
    (r"\\\$|\$|(?<!\\)\\[()\[\]]", " "),
    (r"\\(?:left|right|[bB]igg?[lr]?)(?![A-Za-z])\s*\.?", ""),
    (r"(?<!\\)\\[,;:! ]|(?<!\\)~|\\q?quad(?![A-Za-z])|\\displaystyle(?![A-Za-z])", " "),
    (r"\\[dtc]frac(?![A-Za-z])", r"\\frac"),
    (rf"\\frac\s*{_ARGUMENT}\s*{_ARGUMENT}", lambda m: rf"\frac{{{m[1].strip('{}')}}}{{{m[2].strip('{}')}}}"),
    (r"\\sqrt\s*([0-9A-Za-z])|√\s*(\d+|[A-Za-z])", lambda m: rf"\sqrt{{{m[1] or m[2]}}}"),
    (r"\^\s*\{?\s*\\circ\s*\}?|\\degree(?![A-Za-z])", ""),
    # A unit in \text{} after a value goes; other \text{} keeps its words.
    (r"(?<=[\d})])\s*\\(?:text|mbox|mathrm)\s*\{(?!\s*(?:\w*llion|thousand|hundred|dozen))[^{}]*\}\S{0,4}$", ""),
    (r"\\(?:text|mbox|mathrm|textbf|textit|textrm|mathbf)\s*\{([^{}]*)\}", r" \1 "),
    (r"_\{\s*(\w+)\s*\}", r"_\1"),
    (r"\s+", " "),
]
_REWRITES = [(re.compile(pattern), into) for pattern, into in _TABLE]
_UNIT = re.compile(
    r"[mcdk]m|[km]g|lbs?|oz|ft|yd|mi|ml|hrs?|mins?|secs?|mph|kmh|deg|sq|cu|per|USD|day|"
    r"(?!(?:thousand|hundred|[mbtr]+illion|dozen|percent|half|third|quarter|alpha|beta|gamma|theta|lambda))[A-Za-z]{4,}"
)
_TRAILING_WORDS = re.compile(r"(?P<value>.*[\d})]) ?(?P<words>[A-Za-z][A-Za-z ]*)(?:\^ ?\{?[23]\}?)?")
_THOUSANDS = re.compile(r"[-+]?\d{1,3}(?:,\d{3}| \d{3})+(?:\.\d+)?(?:\\?%| percent)?")

_PLAIN = r"\d+\.?\d*|\.\d+"
_SCIENTIFIC = re.compile(rf"([-+]?(?:{_PLAIN}))(?:[eE]|(?:\\times|\\cdot|\*|x)10\^)(?:\{{([-+]?\d+)\}}|([-+]?\d+))")
_MIXED = re.compile(r"([-+]?)(\d+)(?:\\frac\{(\d+)\}\{(\d+)\}| (\d+)/(\d+))")
_RATIO = re.compile(r"([-+]?)(?:\\frac\{([-+]?\d+)\}\{([-+]?\d+)\}|\(?(\d+)/(\d+)\)?)")
_BASED = re.compile(r"(\d\w*)_(\d+|[a-z]+)")


def spell(answer: str) -> str:
    """Return the answer in one spelling; still LaTeX, single spaces."""
    text = answer.strip().translate(_CHARACTERS)
    for pattern, into in _REWRITES:
        text = pattern.sub(into, text)
    text = text.lstrip(" ,;=").rstrip(" .,;=")
    if (match := _TRAILING_WORDS.fullmatch(text)) and all(_UNIT.fullmatch(word) for word in match["words"].split()):
        text = match["value"].strip()
    if re.fullmatch(r"\([A-Za-z]\)", text) or re.fullmatch(r"\{[^{}\\]*\}", text):
        text = text[1:-1].strip()
    return re.sub(r"[, ](?=\d)", "", text) if _THOUSANDS.fullmatch(text) else text


def quick_equal(reference: str, answer: str) -> bool | None:
    """Compare two spelled answers; None where only algebra can tell."""
    left, right = _packed(reference), _packed(answer)
    if not left or not right:
        return False
    if left == right:
        return True
    for compare in (_compare_words, _compare_based, _compare_brackets, _compare_numbers):
        if (verdict := compare(left, right)) is not None:
            return verdict
    return None


def _packed(text: str) -> str:
    """Drop the spaces, except between digits (1 4/5 is not 14/5)."""
    return re.sub(r"(?<!\d) | (?!\d)", "", text)


def _compare_words(left: str, right: str) -> bool | None:
    """Compare words; short ones may be products of variables, so unequal letters are left to algebra."""
    if len(left) < 2 or not left.isalpha():
        return None
    return True if left.casefold() == right.casefold() else False if len(left) >= 4 else None


def _compare_brackets(left: str, right: str) -> bool | None:
    """Tell a set from a tuple, a point or an interval, which Math-Verify does not."""
    opened = {left[0], right[0]}
    return False if "\\{" in (left[:2], right[:2]) and opened & {"(", "["} else None


def _compare_based(left: str, right: str) -> bool | None:
    """Compare numerals with a base, 52_8: the base may be left out (the question names it) but not be another."""
    a, b = _BASED.fullmatch(left), _BASED.fullmatch(right)
    if a is None or b is None:
        return None if a is None else a[1] == right
    return a[1] == b[1] and (a[2] == b[2] or b[2].isalpha())  # 204_5 is 204_five


def _compare_numbers(left: str, right: str) -> bool | None:
    a, b = _number(left), _number(right)
    if a is None or b is None:
        return None
    if a.value == b.value or a.share == b.share:
        return True
    if not (a.decimal or b.decimal):
        return False
    if a.ratio or b.ratio:  # 0.333333 for 1/3: algebra rounds
        return None
    return abs(a.value - b.value) <= max(abs(a.value), abs(b.value)) / 10**9  # 18.000000000000004 is float noise


@dataclass(frozen=True, slots=True)
class _Number:
    value: Fraction
    percent: bool
    decimal: bool = False  # written with a decimal point
    ratio: bool = False  # written as a fraction

    @property
    def share(self) -> Fraction:
        return self.value / 100 if self.percent else self.value


def _number(text: str) -> _Number | None:
    """Read a plain number: integer, decimal, scientific, fraction or mixed number, perhaps in percent."""
    bare = re.sub(r"(?:\\?%|percent(?:age)?)$", "", text)
    percent = bare != text
    if re.fullmatch(rf"[-+]?(?:{_PLAIN})", bare):
        return _Number(Fraction(bare.removesuffix(".")), percent, decimal="." in bare)
    if match := _SCIENTIFIC.fullmatch(bare):
        exponent = int(match[2] or match[3])
        value = Fraction(match[1]) * Fraction(10) ** exponent if abs(exponent) <= 400 else None
        return None if value is None else _Number(value, percent, decimal=value.denominator != 1)
    if match := _MIXED.fullmatch(bare):
        whole, top, bottom = int(match[2]), int(match[3] or match[5]), int(match[4] or match[6])
        return _Number(_signed(match[1], whole + Fraction(top, bottom)), percent, ratio=True) if bottom else None
    if match := _RATIO.fullmatch(bare):
        top, bottom = int(match[2] or match[4]), int(match[3] or match[5])
        return _Number(_signed(match[1], Fraction(top, bottom)), percent, ratio=True) if bottom else None
    return None


def _signed(sign: str, value: Fraction) -> Fraction:
    return -value if sign == "-" else value
