r"""Comparing two math answers: as normalised text, as numbers in one unit, else by algebra in a worker."""

from __future__ import annotations

import re
from fractions import Fraction

from tandem.grading.algebra import formulas_equal
from tandem.grading.normalise import Normalised, normalise, quick_equal
from tandem.grading.numbers import compare_numbers

MAX_FORMULA = 2000  # characters; what is longer is compared as text only
_OR = re.compile(r"\bor\b|\\(?:lor|vee|text\{ ?or ?\})(?![A-Za-z])|,")
_LESS = {"<": "<", ">": ">", "\\le": "<=", "\\leq": "<=", "\\ge": ">=", "\\geq": ">=", "\\leqslant": "<="}
_SIGN = r"(<|>|\\leq?(?![A-Za-z])|\\geq?(?![A-Za-z])|\\leqslant)"
_RAY = re.compile(rf"(?P<left>[^<>]*?)\s*{_SIGN}\s*(?P<right>[^<>]*?)")
_SEGMENT = re.compile(r"([^<>]*?)\s*(<|\\leq?(?![A-Za-z]))\s*[A-Za-z]\s*(<|\\leq?(?![A-Za-z]))\s*([^<>]*?)")


async def same_answer(reference: str, answer: str, deadline: float) -> bool:
    """Whether `answer` is the reference, spending at most `deadline` seconds of computing on its algebra."""
    if max(len(reference), len(answer)) > MAX_FORMULA:
        return answer.strip() == reference.strip()
    left, right = normalise(reference), normalise(answer)
    if left.unit and right.unit and left.unit.dimension != right.unit.dimension:
        return False
    if _in_degrees(left) != _in_degrees(right) and (_in_radians(left) or _in_radians(right)):
        return await formulas_equal(_radians(left), _radians(right), deadline)
    factor = left.unit.factor / right.unit.factor if left.unit and right.unit else Fraction(1)
    if factor != 1:
        verdict = compare_numbers(left.text.replace(" ", ""), right.text.replace(" ", ""), factor)
        scaled = rf"\frac{{{factor.numerator}}}{{{factor.denominator}}} \cdot ({left.text})"
        return await formulas_equal(scaled, right.text, deadline) if verdict is None else verdict
    first, second = left.text, right.text
    if "\\cup" in first or "\\cup" in second:
        first, second = _as_union(first), _as_union(second)
    verdict = quick_equal(first, second)
    return await formulas_equal(first, second, deadline) if verdict is None else verdict


def _in_degrees(side: Normalised) -> bool:
    return side.unit is not None and side.unit.dimension == (("angle", 1),) and not side.unit.radian


def _in_radians(side: Normalised) -> bool:
    return side.unit.radian if side.unit else "\\pi" in side.text


def _radians(side: Normalised) -> str:
    return rf"\frac{{\pi}}{{180}} \cdot ({side.text})" if _in_degrees(side) else side.text


def _as_union(text: str) -> str:
    r"""Write inequalities joined by "or" as a union of intervals; anything else stays as it is."""
    parts = [part.strip() for part in _OR.split(text)]
    intervals = [_interval(part) for part in parts]
    if "\\cup" in text or len(parts) < 2 or None in intervals:
        return text
    return " \\cup ".join(str(interval) for interval in intervals)


def _interval(inequality: str) -> str | None:
    if match := _SEGMENT.fullmatch(inequality):
        low, first, second, high = match.groups()
        return f"{'(' if first == '<' else '['}{low}, {high}{')' if second == '<' else ']'}"
    match = _RAY.fullmatch(inequality)
    if match is None:
        return None
    left, sign, right = match["left"], _LESS[match[2]], match["right"]
    if re.fullmatch(r"[A-Za-z]", right):  # 1 < x
        left, right, sign = right, left, {"<": ">", ">": "<", "<=": ">=", ">=": "<="}[sign]
    if not re.fullmatch(r"[A-Za-z]", left):
        return None
    closed = sign.endswith("=")
    if sign.startswith("<"):
        return f"(-\\infty, {right}{']' if closed else ')'}"
    return f"{'[' if closed else '('}{right}, \\infty)"
