"""Paired intervals over problems: every figure of one bootstrap draw is made of the same problems."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Protocol

import numpy as np

from tandem.statistics.chord import Means, chord
from tandem.statistics.reliability import aurocs

DRAWS = 2000
UNKNOWN: dict[str, float | None] = {"value": None, "low": None, "high": None}


class Results(Protocol):
    """How problems ended: `correct`, and each cost by its name, all arrays of shape (problems,)."""

    @property
    def correct(self) -> np.ndarray: ...

    @property
    def cost(self) -> np.ndarray: ...


class Bootstrap:
    """Draws of problems with replacement. The first draw is every problem once: the estimate itself."""

    def __init__(self, problems: int, *, draws: int = DRAWS, seed: int = 0) -> None:
        drawn = np.random.default_rng(seed).multinomial(problems, np.full(problems, 1 / problems), size=draws)
        self.weights = np.vstack([np.ones(problems), drawn])  # (draws + 1, problems)

    def mean(self, values: np.ndarray) -> np.ndarray:
        """Return the mean of (problems,) values in each draw, shape (draws + 1,)."""
        found: np.ndarray = self.weights @ values / self.weights.shape[1]
        return found

    def means(self, ends: Results) -> Means:
        return self.mean(ends.cost), self.mean(ends.correct)

    def auroc(self, groups: np.ndarray, y: np.ndarray, p: np.ndarray) -> np.ndarray:
        """Return the AUROC of rows in each draw; `groups` are the rows' problems, by position."""
        return aurocs(y, p, self.weights[:, groups])


def interval(draws: np.ndarray, level: float = 0.95) -> dict[str, float | None]:
    """Return the estimate and its percentile interval; None where the estimate does not exist."""
    rest = draws[1:][np.isfinite(draws[1:])]
    if not np.isfinite(draws[0]) or len(rest) < len(draws) / 2:
        return UNKNOWN
    low, high = np.percentile(rest, [50 * (1 - level), 50 * (1 + level)])
    return {"value": round(float(draws[0]), 4), "low": round(float(low), 4), "high": round(float(high), 4)}


def expanded(level: float, problems: int) -> float:
    """Return the level at which a percentile interval over so few problems covers as often as `level` says.

    A bootstrap of n values is too narrow by sqrt((n - 1) / n), and by the normal quantile instead of Student's
    (Hesterberg, 2015). Nothing changes for many problems.
    """
    if problems < 2:
        return level
    normal, v = NormalDist(), problems - 1
    z = normal.inv_cdf((1 + level) / 2)
    t = z + (z**3 + z) / (4 * v) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
    return 2 * normal.cdf(t * math.sqrt(problems / v)) - 1


def gain_of(boot: Bootstrap, ends: Results, cheap: Results, expensive: Results) -> np.ndarray:
    """Return the gain over the chord in each draw, in accuracy."""
    at, accuracy = boot.means(ends)
    gain: np.ndarray = accuracy - chord(at, boot.means(cheap), boot.means(expensive))
    return gain
