"""Certifying that an operating point loses little: Learn-then-Test in fixed sequence with a betting p-value.

The loss of a problem is mentor right minus ours right, in {-1, 0, 1}. For the hypothesis "the mean loss is above X" a
gambler stakes a share s of the capital on X - loss; under it the capital is a supermartingale, so the inverse of its
peak is a p-value at any sample size (Ville; Waudby-Smith and Ramdas, arXiv 2010.09686). Where few problems are decided
differently the loss hardly varies, large stakes win, and few problems are enough. Points are tested from the
most expensive down until the first that fails (Angelopoulos et al., arXiv 2110.01052), so no correction is needed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

CONFIDENCE = 0.9
_STAKES = np.geomspace(0.005, 0.98, 16)  # shares of the largest stake that cannot ruin


def p_value(losses: np.ndarray, limit: float) -> float:
    """Return the p-value of "the mean loss is above `limit`"; `losses` are in [-1, 1], in an order fixed beforehand.

    The capital is the mean over a grid of stakes, each kept from the first problem to the last.
    """
    if len(losses) == 0:
        return 1.0
    stakes = _STAKES / (1.0 - limit)
    grown = np.cumsum(np.log1p(stakes[:, None] * (limit - np.asarray(losses, dtype=float)[None, :])), axis=1)
    top = grown.max()
    capital = np.log(np.exp(grown - top).mean(axis=0)).max() + top
    return min(1.0, math.exp(-float(capital)))


@dataclass(frozen=True, slots=True)
class Certificate:
    """What fixed-sequence testing found: how many points passed, and each test that was made."""

    passed: int
    tests: tuple[dict[str, Any], ...]


def fixed_sequence(losses: Sequence[np.ndarray], limit: float, confidence: float = CONFIDENCE) -> Certificate:
    """Test points in their order (the most expensive first) until one fails; each array has the losses of one point.

    With probability at least `confidence` no point that passes has a mean loss above `limit`.
    """
    tests: list[dict[str, Any]] = []
    for sample in losses:
        p = p_value(sample, limit)
        mean = float(np.mean(sample)) if len(sample) else 0.0
        tests.append({"mean_loss": round(mean, 4), "differ": int(np.count_nonzero(sample)), "p": round(p, 5)})
        if p > 1 - confidence:
            return Certificate(len(tests) - 1, tuple(tests))
    return Certificate(len(tests), tuple(tests))


def needed(losses: np.ndarray, limit: float, confidence: float = CONFIDENCE) -> int | None:
    """Return how many problems certify a point, if its losses go on as in this sample; None if none are enough."""
    stakes = _STAKES / (1.0 - limit)
    values, times = np.unique(np.asarray(losses, dtype=float), return_counts=True)
    if len(values) == 0:
        return fewest(limit, confidence)
    rates = (np.log1p(stakes[:, None] * (limit - values[None, :])) * (times / times.sum())).sum(axis=1)
    if rates.max() <= 0:
        return None
    high = 1
    while not _certifies(rates, high, confidence):
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _certifies(rates, middle, confidence) else (middle, high)
    return high


def _certifies(rates: np.ndarray, count: int, confidence: float) -> bool:
    top = rates.max() * count
    return bool(np.log(np.exp(rates * count - top).mean()) + top >= -math.log(1 - confidence))


def fewest(limit: float, confidence: float = CONFIDENCE) -> int:
    """Return how many problems the bound takes even if not one of them is decided differently."""
    return needed(np.zeros(1), limit, confidence) or 0
