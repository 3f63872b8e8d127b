"""How good sufficiencies are: AUROC, Brier score, calibration error and the reliability table of a plot."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tandem.ladder import QUESTION

_BINS = 10
_Levels = Mapping[str, Mapping[str, Any]]  # a problem's rows by level


def figures(problems: Mapping[str, _Levels], p: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """Return AUROC, Brier score and expected calibration error (10 equal bins), pooled and by level.

    The question alone foretells the answer at `none` once more, and is not pooled.
    """
    by_level: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for i, levels in p.items():
        for level, value in levels.items():
            by_level[level].append((int(problems[i][level]["correct"]), value))
    everything = [pair for level, pairs in by_level.items() if level != QUESTION for pair in pairs]
    return {"pooled": figure(everything)} | {level: figure(pairs) for level, pairs in sorted(by_level.items())}


def figure(pairs: Sequence[tuple[int, float]]) -> dict[str, Any]:
    """Return the figures of (right, probability) pairs; `auroc` is None where one class is missing."""
    y, p = np.asarray([a for a, _ in pairs], dtype=float), np.asarray([b for _, b in pairs])
    found = auroc(y, p)
    return {
        "n": len(pairs),
        "right": round(float(y.mean()), 4),
        "auroc": None if found is None else round(found, 4),
        "brier": round(float(np.mean((y - p) ** 2)), 4),
        "calibration_error": round(calibration_error(y, p), 4),
    }


def calibration_error(y: np.ndarray, p: np.ndarray) -> float:
    """Return the expected calibration error over ten bins of equal width."""
    return float(sum(n * abs(right - said) for _, n, said, right in _bins(y, p)) / len(y))


def reliability(problems: Mapping[str, _Levels], p: Mapping[str, Mapping[str, float]]) -> list[dict[str, float]]:
    """Return, for each tenth of the scale that occurs, the number of answers, the mean said and the share right."""
    pairs = [(int(problems[i][level]["correct"]), v) for i, levels in p.items() for level, v in levels.items()]
    y, values = np.asarray([a for a, _ in pairs], dtype=float), np.asarray([b for _, b in pairs])
    return [
        {"from": edge, "n": n, "said": round(said, 4), "right": round(right, 4)}
        for edge, n, said, right in _bins(y, values)
    ]


def _bins(y: np.ndarray, p: np.ndarray) -> list[tuple[float, int, float, float]]:
    where = np.minimum((p * _BINS).astype(int), _BINS - 1)
    return [
        (int(b) / _BINS, int((where == b).sum()), float(p[where == b].mean()), float(y[where == b].mean()))
        for b in sorted(set(where))
    ]


def auroc(y: np.ndarray, p: np.ndarray, weights: np.ndarray | None = None) -> float | None:
    """Return the weighted AUROC (ties count half); None where one class is missing.

    `weights` (rows,) are how often each row was drawn, which makes a bootstrap quick.
    """
    lines = np.ones((1, len(y))) if weights is None else weights[None, :]
    found = float(aurocs(y, p, lines)[0])
    return None if np.isnan(found) else found


def aurocs(y: np.ndarray, p: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the area under the ROC curve for each line of weights (lines, rows); nan where a class is missing."""
    order = np.argsort(p, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(p[order]) > 0])
    positive = np.add.reduceat(weights[:, order] * y[order], starts, axis=1)
    negative = np.add.reduceat(weights[:, order] * (1 - y[order]), starts, axis=1)
    below = np.cumsum(negative, axis=1) - negative / 2
    total = positive.sum(axis=1) * negative.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        found: np.ndarray = (positive * below).sum(axis=1) / total
    return found
