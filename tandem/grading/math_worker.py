"""The process that parses untrusted LaTeX and compares formulas (see `tandem.grading.worker_loop`)."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

from tandem.grading.worker_loop import serve


def main() -> None:
    # The first comparison imports, and builds the tables that the first parse needs.
    serve(lambda: same("\\frac{1}{2}", "0.5"), "equal", lambda job: same(job["reference"], job["answer"]))


def same(reference: str, answer: str) -> bool:
    """Whether Math-Verify finds the two formulas (LaTeX without dollar signs) equal; each is parsed as a whole."""
    from math_verify import verify

    gold, target = _parsed(reference), _parsed(answer)
    if verify(gold, target, allow_set_relation_comp=True, timeout_seconds=None):
        return True
    imaginary = [_with_imaginary_unit(side) for side in (gold, target)]
    return imaginary != [gold, target] and bool(verify(*imaginary, timeout_seconds=None))


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
