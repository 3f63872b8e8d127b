"""The chord: the random mix of intern-only and mentor-only at equal cost, which any method must beat."""

from __future__ import annotations

import numpy as np

Means = tuple[np.ndarray, np.ndarray]  # cost and accuracy, one value for each draw


def chord(point: float, cheap: tuple[float, float], dear: tuple[float, float]) -> float:
    """Return the accuracy of a random mix of two (cost, accuracy) points at cost `point`; flat beyond the dear one."""
    (c0, a0), (c1, a1) = cheap, dear
    if point >= c1 or c1 <= c0:
        return a1
    return a0 + (a1 - a0) * max(point - c0, 0.0) / (c1 - c0)


def chords(at: np.ndarray, cheap: Means, dear: Means) -> np.ndarray:
    """The `chord` for each draw."""
    (c0, a0), (c1, a1) = cheap, dear
    span = np.where(c1 > c0, c1 - c0, 1.0)
    mixed = a0 + (a1 - a0) * np.clip((at - c0) / span, 0.0, 1.0)
    return np.where((at >= c1) | (c1 <= c0), a1, mixed)
