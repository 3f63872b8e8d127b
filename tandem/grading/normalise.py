r"""Cheap comparison of two math answers: both normalised, and exact arithmetic where both are numbers.

Mere notation is dropped: dollar signs, \left and \right, \text{}, units after a value, the degree
sign, thousands separators, "about" before a value. A unit that is known is kept beside the value (units.py). What
Math-Verify reads by itself is not here, but where a rule spares many answers the worker process or tells best-of that
two samples agree (benchmarks/grading_rules.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from tandem.grading.numbers import compare_numbers
from tandem.grading.units import Unit, is_unit_word, read_unit

_CHARACTERS = str.maketrans(
    {"−": "-", "–": "-", "×": r"\times ", "·": r"\cdot ", "π": r"\pi ", "∞": r"\infty ", "∪": r"\cup "}
    | {"∩": r"\cap ", "∈": r"\in ", "≤": r"\le ", "≥": r"\ge ", "°": r"^\circ ", "±": r"\pm "}
    | {"½": r"\frac{1}{2}", "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}"}
    | {"≈": r"\approx ", "⟨": r"\langle ", "⟩": r"\rangle "}
    | dict.fromkeys("\u00a0\u2009\u202f", " ")
)
_VULGAR = {"⅓": "1/3", "⅔": "2/3", "⅕": "1/5", "⅖": "2/5", "⅗": "3/5", "⅘": "4/5", "⅙": "1/6", "⅚": "5/6"}
_VULGAR |= {"⅛": "1/8", "⅜": "3/8", "⅝": "5/8", "⅞": "7/8"}
_CHARACTERS |= {ord(one): rf"\frac{{{share[0]}}}{{{share[2]}}}" for one, share in _VULGAR.items()}
_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ⁿ", "0123456789-+n")
_SUPERSCRIPT = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ⁿ]+")
_ARGUMENT = r"(\{[^{}]*\}|[0-9A-Za-z])"
_TEXT = r"\\(?:text|mbox|mathrm)\s*"
_MULTIPLIER = r"\w*llion|thousand|hundred|dozen"
_Rewrite = tuple[str, str | Callable[[re.Match[str]], str]]
_TABLE: list[_Rewrite] = [
    (r"(?<=\d)\s*\^?\s*\{?\s*(?:\\(?:text|mathrm|mbox)\s*\{)?(?:st|nd|rd|th)\}{0,2}$", ""),  # 14th
    (r",?\s*\\text\s*\{\s*,?\s*(?:for (?:all|any|every|each|some|real|integer|positive)|where)\b(?!.*\\end).*$", ""),
    (r"(?<=\d)[eE](?=[-+]?\d+\b)([-+]?\d+)", r"\\times 10^{\1}"),
    (r",\\!\s*|\{,\}", ","),  # a thousands comma in LaTeX
    (r"\\\$|\$|(?<!\\)\\[()\[\]]", " "),
    (r"[€£¥₹¢]", " "),
    (r"\\(?:left|right|[bB]igg?[lr]?)(?![A-Za-z])\s*\.?", ""),
    (r"(?<!\\)\\[,;:! ]|(?<!\\)~|\\q?quad(?![A-Za-z])|\\displaystyle(?![A-Za-z])", " "),
    (r"\\[dtc]frac(?![A-Za-z])", r"\\frac"),
    (rf"\\frac\s*{_ARGUMENT}\s*{_ARGUMENT}", lambda m: rf"\frac{{{m[1].strip('{}')}}}{{{m[2].strip('{}')}}}"),
    (r"\\sqrt\s*([0-9A-Za-z])|√\s*(\d+|[A-Za-z])", lambda m: rf"\sqrt{{{m[1] or m[2]}}}"),
    (r"\\varnothing(?![A-Za-z])|\\\{\s*\\\}", r"\\emptyset "),
    (r"\\langle(?![A-Za-z])(.*?)\\rangle(?![A-Za-z])", lambda m: _vector(m[1])),
    (r"\\(sin|cos|tan|cot|sec|csc)\s*[({]?\s*(\d+)\s*\^\s*\{?\s*\\circ\s*\}?\s*[)}]?", r"\\\1(\\frac{\2\\pi}{180})"),
    (r"\^\s*\{?\s*\\circ\s*\}?|\\degree(?![A-Za-z])", ""),
    (r"(?<=\d)\s+(?:[ckm]?m|ft|mi)\s?/\s?(?:s|sec|min|h|hr)(?:\s?\^\s?\{?2\}?)?$", ""),
    # A unit in \text{} after a value goes; other \text{} keeps its words.
    (rf"(?<=[\d)}}])\s*{_TEXT}\{{(?!\s*(?:{_MULTIPLIER}|[AaPp]\.?\s?[Mm]\b))[^{{}}]*\}}\S{{0,4}}$", ""),
    (r"\\(?:text|mbox|mathrm|textbf|textit|textrm|mathbf)\s*\{([^{}]*)\}", r" \1 "),
    (r"_\{\s*(\w+)\s*\}", r"_\1"),
    (r"^\s*(?:\\approx|\\simeq|approximately|about)(?![A-Za-z])", ""),
    (r"^\s*(?:USD|EUR|GBP)(?=\s*[\d.])", ""),
    (r"(?<=\d)\s*([AaPp])\.?\s?[Mm]\b\.?", lambda m: f" {m[1].lower()}m"),
    (r"\s+", " "),
]
_REWRITES = [(re.compile(pattern), into) for pattern, into in _TABLE]
_BEHIND_VALUE = re.compile(
    rf"(?<=[\d)}}])\s*(?P<degree>\^\s*\{{?\s*\\circ\s*\}}?)?\s*(?P<unit>(?:{_TEXT}\{{[^{{}}]*\}}\S{{0,4}}|[A-Za-z ./]*"
    r"[A-Za-z](?:\s*\^\s*\{?[23]\}?)?|[€£¥₹¢])?)\s*$"
)
_CURRENCY = re.compile(r"^\s*-?\s*(?P<unit>\\?\$|[€£¥₹]|\\text\{\s*(?:USD|EUR|GBP)\s*\}|USD|EUR|GBP)\s*-?[\d.]")
_TRAILING_WORDS = re.compile(r"(?P<value>.*[\d})])(?P<gap> ?)(?P<words>[A-Za-z][A-Za-z ]*)(?:\^ ?\{?[23]\}?)?")
_THOUSANDS = re.compile(rf"[-+]?\d{{1,3}}(?:,\d{{3}}| \d{{3}})+(?:\.\d+)?(?:\\?%| percent| ?(?:{_MULTIPLIER}))?")
_SMALL = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
_NUMERALS = {word: str(n) for n, word in enumerate(f"{_SMALL} seventeen eighteen nineteen twenty".split())}
_PLUS_MINUS = re.compile(r"\\pm(?![A-Za-z])")
_BASED = re.compile(r"0*(\d\w*)_(\d+|[a-z]+)")


@dataclass(frozen=True, slots=True)
class Normalised:
    """A normalised answer: still LaTeX, single spaces; `unit` where a known one was written."""

    text: str
    unit: Unit | None = None


def normalise(answer: str) -> Normalised:
    raised = _SUPERSCRIPT.sub(lambda m: f"^{{{m[0].translate(_RAISED)}}}", answer.strip())
    text = re.sub(r"\s+", " ", raised.translate(_CHARACTERS))
    if text.count("$") - text.count("\\$") > 1 and (inside := re.fullmatch(r"\$+([^$]+)\$+", text)):
        text = inside[1].strip()
    unit = _unit(text)
    for pattern, into in _REWRITES:
        text = pattern.sub(into, text)
    text = _without_words(text.lstrip(" ,;=").rstrip(" .,;="))
    if re.fullmatch(r"\([A-Za-z]\)", text) or re.fullmatch(r"\{[^{}\\]*\}", text):
        text = text[1:-1].strip()
    text = re.sub(r"[, ](?=\d)", "", text) if _THOUSANDS.fullmatch(text) else text
    return Normalised(_both_signs(text), unit)


def quick_equal(reference: str, answer: str) -> bool | None:
    """Compare two normalised answers in the same unit; None where only algebra can tell."""
    # No spaces, except between digits: 1 4/5 is not 14/5.
    left, right = (re.sub(r"(?<!\d) | (?!\d)", "", text) for text in (reference, answer))
    if not left or not right:
        return False
    if left == right:
        return True
    for compare in (_compare_words, _compare_based, _compare_brackets, compare_numbers):
        if (verdict := compare(left, right)) is not None:
            return verdict
    return None


def _unit(text: str) -> Unit | None:
    """Return the known unit of a single value: a currency before it, a degree sign or a unit behind it."""
    if match := _CURRENCY.match(text):
        return read_unit(match["unit"])
    bare = re.sub(r"(?<!\\)\\[,;:! ]|~", " ", text)
    match = _BEHIND_VALUE.search(bare)
    if match is None or "," in re.sub(r",(?=\d{3})", "", bare[: match.start()]):  # a list has no common unit
        return None
    unit = re.sub(rf"\b(?:{_MULTIPLIER})\b", "", match["unit"]).strip()
    if re.fullmatch(r"[A-Za-z]", unit) and not match["degree"]:
        return None  # 2s + 3h is no time
    return read_unit("°" + re.sub(rf"{_TEXT}|[{{}} ]", "", unit)) if match["degree"] else read_unit(unit)


def _without_words(text: str) -> str:
    """Drop the words behind a value that only say what it counts; read a numeral in words."""
    first, _, rest = text.partition(" ")
    if (numeral := _NUMERALS.get(first.lower())) and is_unit_word(rest.split()):
        return numeral
    match = _TRAILING_WORDS.fullmatch(text)
    if match is None:
        return text
    words = match["words"].split()
    if not match["gap"] and len(words) == 1 and len(words[0]) < 8 and read_unit(words[0]) is None:
        return text  # 2abcd is a product
    kept = 0
    while kept < len(words) and re.fullmatch(_MULTIPLIER, words[kept]):
        kept += 1
    return " ".join([match["value"].strip(), *words[:kept]]) if is_unit_word(words[kept:]) else text


def _both_signs(text: str) -> str:
    r"""Write each element of a list with one \pm as two elements."""
    if not _PLUS_MINUS.search(text) or "\\mp" in text or "\\in" in text:
        return text
    opened = text.startswith("\\{") and text.endswith("\\}")
    elements = _elements(text[2:-2] if opened else text)
    if any(len(_PLUS_MINUS.findall(part)) > 1 for part in elements):
        return text
    both = [
        _PLUS_MINUS.sub(sign, part).strip() for part in elements for sign in ("+-" if _PLUS_MINUS.search(part) else "+")
    ]
    listed = ", ".join(re.sub(r"^((?:\w+ ?= ?)?)\+ ?", r"\1", part) for part in both)
    return f"\\{{{listed}\\}}" if opened else listed


def _elements(text: str) -> list[str]:
    parts, depth, start = [], 0, 0
    for place, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            parts.append(text[start:place])
            start = place + 1
    return [*parts, text[start:]]


def _vector(inside: str) -> str:
    return "\\begin{pmatrix}" + " \\\\ ".join(part.strip() for part in _elements(inside)) + "\\end{pmatrix}"


def _compare_words(left: str, right: str) -> bool | None:
    """Compare words; short ones may be products of variables, so unequal letters are left to algebra."""
    if len(left) < 2 or not left.isalpha():
        return None
    if left.casefold().removesuffix("s") == right.casefold().removesuffix("s"):
        return True
    return False if len(left) >= 4 else None


def _compare_brackets(left: str, right: str) -> bool | None:
    """Tell a set from a tuple, a point or an interval, which Math-Verify does not."""
    opened = {left[0], right[0]}
    return False if "\\{" in (left[:2], right[:2]) and opened & {"(", "["} else None


def _compare_based(left: str, right: str) -> bool | None:
    """Compare numerals with a base, 52_8: the base may be left out (the question names it) but not be another."""
    a, b = _BASED.fullmatch(left), _BASED.fullmatch(right)
    if a is None or b is None:
        return None if a is None else a[1] == (right.lstrip("0") or "0")
    return a[1].casefold() == b[1].casefold() and (a[2] == b[2] or b[2].isalpha())  # 204_5 is 204_five
