"""The chord: the random mix of intern-only and mentor-only at equal cost, which any method must beat."""

from __future__ import annotations

from typing import Any

import numpy as np

Means = tuple[Any, Any]  # cost and accuracy: numbers, or arrays with one value for each bootstrap draw
_TINY = 1e-9


def chord(at: Any, cheap: Means, expensive: Means) -> Any:
    """Return the accuracy of the random mix of two ends at cost `at`; flat beyond the expensive end."""
    (c0, a0), (c1, a1) = cheap, expensive
    mixed = a0 + (a1 - a0) * np.clip((at - c0) / np.where(c1 > c0, c1 - c0, 1.0), 0.0, 1.0)
    return np.where((at >= c1) | (c1 <= c0), a1, mixed)


def ace(at: Any, accuracy: Any, cheap: Means, expensive: Means) -> Any:
    """Return the slope from the cheap end relative to the chord's (arXiv 2601.22132).

    1 is a random mix; nan where a denominator vanishes.
    """
    (c0, a0), (c1, a1) = cheap, expensive
    return quotient((accuracy - a0) * (c1 - c0), (at - c0) * (a1 - a0))


def quotient(above: Any, below: Any) -> Any:
    """Return above / below; nan where `below` vanishes."""
    exists = np.abs(below) > _TINY
    return np.where(exists, above / np.where(exists, below, 1.0), np.nan)
