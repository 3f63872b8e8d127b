"""The published pairs' own figures (arXiv 2604.23623), set against their chord: what a pair of that kind allows."""

from __future__ import annotations

from typing import Any

from tandem.statistics.chord import chord

_SOURCE = "computed from the figures printed in arXiv 2604.23623, not measured here"
# R1-Distill-Qwen 7B + 32B on 5,000 MATH problems: accuracy, and TFLOPs by the published formula.
_MATH = {
    "intern-only": (0.7714, 38.25),
    "fixed:low": (0.7874, 44.76),
    "fixed:medium": (0.8036, 71.96),
    "fixed:high": (0.8318, 104.62),
    "tandem": (0.8346, 99.72),
    "cascade": (0.8260, 95.33),
    "budget-forcing": (0.8218, 108.74),
    "mentor-only": (0.8090, 168.35),
}
# Of the same code's README, on MATH-500: the best level for each problem, and the mentor tokens it takes.
_ORACLE = {"accuracy": 0.900, "mentor_tokens": 93.4, "mentor_only": 0.782, "mentor_only_tokens": 2367}


def published_frontier() -> dict[str, Any]:
    """Return each system of the paper with its gain over the chord, and MATH-500's oracle; marked as the paper's."""
    (a0, c0), (a1, c1) = _MATH["intern-only"], _MATH["mentor-only"]
    systems = {
        name: {
            "accuracy": accuracy,
            "tflops_published": cost,
            "gain_over_chord": round(accuracy - float(chord(cost, (c0, a0), (c1, a1))), 4),
        }
        for name, (accuracy, cost) in _MATH.items()
    }
    return {
        "source": _SOURCE,
        "pair": "R1-Distill-Qwen 32B + 7B, MATH",
        "systems": systems,
        "oracle_math500": dict(_ORACLE),
    }
