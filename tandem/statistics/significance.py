"""Intervals and tests of shares: Wilson's score interval, McNemar's exact test, the paired bootstrap."""

from __future__ import annotations

import math

_Z95 = 1.959963984540054
_RESAMPLES = 10_000


def wilson(right: int, n: int) -> tuple[float, float] | None:
    """Return the 95 % Wilson score interval of a share (None for n = 0)."""
    if n == 0:
        return None
    p, z2 = right / n, _Z95**2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z95 * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    # The ends are exact for none and for all; rounding would leave a trace there.
    return (0.0 if right == 0 else centre - half), (1.0 if right == n else centre + half)


def mcnemar(won: int, lost: int) -> float:
    """Return the exact two-sided p-value of McNemar's test: of the pairs that differ, `won` favour one side."""
    n = won + lost
    tail = sum(math.comb(n, k) for k in range(min(won, lost) + 1))
    return min(1.0, tail / 2 ** (n - 1)) if n else 1.0


def paired_bootstrap(
    won: int, lost: int, n: int, *, seed: int = 0, level: float = 0.95, imagined: int = 0
) -> tuple[float, float] | None:
    """Return the percentile interval of a difference of shares over `n` pairs (None for n = 0).

    A pair counts +1 (`won`), -1 (`lost`) or 0, so drawing pairs with replacement is one multinomial draw. `imagined`
    pairs are added on each side: with one of each, pairs that never differ, or few of them, still give an interval
    that covers (Bonett and Price, 2012).
    """
    if n == 0:
        return None
    import numpy as np

    total = n + 2 * imagined
    shares = [(won + imagined) / total, (lost + imagined) / total, (n - won - lost) / total]
    draws = np.random.default_rng(seed).multinomial(total, shares, size=_RESAMPLES)
    low, high = np.percentile((draws[:, 0] - draws[:, 1]) / total, [50 * (1 - level), 50 * (1 + level)])
    return float(low), float(high)
