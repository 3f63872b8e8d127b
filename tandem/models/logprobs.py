"""Statistics of one token's log-probabilities, estimated the same way on every backend.

With H the entropy summed over the top k alone and m the probability mass outside them, the entropy of the whole
distribution lies between ``H - m ln m`` (the rest is one token) and ``H - m ln m + m ln(V - k)`` (the rest is
uniform over the V - k other tokens). We use the lower end and keep the gap. In nats.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

ESTIMATOR = "topk-lower"
FLOOR = -100.0  # -inf, which some servers send, becomes this
PLACES = 7  # decimal places: a recorded call replays identically, and 32 bits hold it


class TokenStat(NamedTuple):
    """One token's log-probability and its distribution's entropy, the entropy's gap, and the top-1 margin (nats)."""

    logprob: float
    entropy: float
    gap: float
    margin: float


def token_stat(logprob: float, top: Sequence[float], vocabulary: int | None) -> TokenStat:
    """Return the statistics of one token from its own and the top-k log-probabilities (in any order)."""
    entropy, mass = 0.0, 0.0
    first, second = FLOOR, FLOOR
    for raw in top:
        value = raw if raw > FLOOR else FLOOR
        p = math.exp(value)
        entropy -= p * value
        mass += p
        if value > first:
            first, second = value, first
        elif value > second:
            second = value
    rest = 1.0 - mass
    gap = 0.0
    if rest > 1e-9:
        entropy -= rest * math.log(rest)
        others = (vocabulary or 150_000) - len(top)
        gap = rest * math.log(others) if others > 1 else 0.0
    return TokenStat(
        round(max(logprob, FLOOR), PLACES),
        round(max(entropy, 0.0), PLACES),
        round(gap, PLACES),
        round(first - second, PLACES),
    )
