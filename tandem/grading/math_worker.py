"""The process that parses untrusted LaTeX and compares formulas (see `tandem.grading.worker_loop`)."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache
from typing import Any

from tandem.grading.worker_loop import serve

_SMALL = 1e-3  # below, six decimals are fewer than three digits
_FEWEST = 2  # digits that make a rounded number, and no order of magnitude
_POINTS = ((3, 5, 11, 2, 13), (17, 2, 3, 23, 5), (29, 31, 2, 7, 3), (5, 19, 37, 3, 2))


def main() -> None:
    # The first comparison imports, and builds the tables that the first parse needs.
    serve(lambda: same("\\frac{1}{2}", "0.5"), "equal", lambda job: same(job["reference"], job["answer"]))


def same(reference: str, answer: str) -> bool:
    """Whether Math-Verify finds the two formulas (LaTeX without dollar signs) equal; each is parsed as a whole."""
    from math_verify import verify

    gold, target = _parsed(reference), _parsed(answer)
    if verify(gold, target, allow_set_relation_comp=True, timeout_seconds=None):
        return not _differ_though_small(gold, target, (reference, answer))
    imaginary = [_with_imaginary_unit(side) for side in (gold, target)]
    if imaginary != [gold, target] and verify(*imaginary, timeout_seconds=None):
        return True
    return _equal_where_positive(gold, target)


def _differ_though_small(gold: list[Any], target: list[Any], written: tuple[str, str]) -> bool:
    """Whether two small numbers are equal only because Math-Verify compares six decimals.

    They may differ by half a unit of the last digit that is written, as 0.000000385 does from 1/2598960.
    """
    from sympy import Abs

    left, right = _number(gold), _number(target)
    if left is None or right is None:
        return False
    larger = max(Abs(left), Abs(right))
    if larger >= _SMALL or larger == 0:
        return False
    allowed = max([1e-9, *(0.51 * 10.0 ** (1 - digits) for text in written if (digits := _digits(text)) >= _FEWEST)])
    return bool(Abs(left - right) > allowed * larger)


def _number(parsed: list[Any]) -> Any:
    """Return the value of a formula that is a number, or an equation with one; else None."""
    from sympy import Eq, Expr

    for part in parsed:
        side = part.rhs if isinstance(part, Eq) else part
        if isinstance(side, Expr) and side.is_number and side.is_real:
            return side.evalf(30)
    return None


def _digits(text: str) -> int:
    """Return the significant digits of a decimal number, 0 for any other formula."""
    match = re.search(r"(\d*\.\d+)(?!.*\d\.\d)", text)
    return len(match[1].replace(".", "").lstrip("0")) if match else 0


def _equal_where_positive(gold: list[Any], target: list[Any]) -> bool:
    """Whether two formulas with roots or logarithms are equal wherever their symbols are positive.

    Quantities usually are: a length, a count, a mass. A root or logarithm on both sides is asked for, so that the
    square root of x^2 is not x.
    """
    from sympy import Abs, Expr, Rational

    pairs = [(a, b) for a in gold for b in target if isinstance(a, Expr) and isinstance(b, Expr)]
    for left, right in pairs:
        symbols = sorted(left.free_symbols | right.free_symbols, key=str)
        if not symbols or left.has(Abs) or right.has(Abs) or not (_has_root(left) and _has_root(right)):
            continue
        points = [
            {symbol: Rational(primes[k % len(primes)], 7 + k) for k, symbol in enumerate(symbols)} for primes in _POINTS
        ]
        values = [((left - right).subs(point).evalf(20), left.subs(point).evalf(20)) for point in points]
        if all(value.is_number and size.is_number and abs(value) <= 1e-12 * (1 + abs(size)) for value, size in values):
            return True
    return False


def _has_root(formula: Any) -> bool:
    from sympy import Pow, log

    roots = any(not power.exp.is_integer and power.base.free_symbols for power in formula.atoms(Pow))
    return roots or any(one.free_symbols for one in formula.atoms(log))


@lru_cache(maxsize=512)  # one reference meets an answer of every level and every run
def _parsed(formula: str) -> list[Any]:
    from math_verify import LatexExtractionConfig, parse

    # Its own unit table would turn 2t into 2; normalise.py drops units first.
    normal = replace(LatexExtractionConfig().normalization_config, units=False, boxed="none")
    config = LatexExtractionConfig(boxed_match_priority=-1, normalization_config=normal)
    parsed: list[Any] = parse(f"${formula}$", [config], parsing_timeout=None)
    return parsed


def _with_imaginary_unit(parsed: list[Any]) -> list[Any]:
    """Read the symbol i as the imaginary unit, which Math-Verify does not."""
    from sympy import Expr, I

    units = {s: I for part in parsed if isinstance(part, Expr) for s in part.free_symbols if str(s) == "i"}
    return [part.xreplace(units) if units and isinstance(part, Expr) else part for part in parsed]


if __name__ == "__main__":
    main()
