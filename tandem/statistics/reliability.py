"""How good sufficiencies are: AUROC, Brier score, calibration error and the reliability table of a plot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from tandem.ladder import QUESTION

_Levels = Mapping[str, Mapping[str, Any]]  # a problem's rows by level


def figures(problems: Mapping[str, _Levels], p: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """Return AUROC, Brier score and expected calibration error (10 equal bins), pooled and by level.

    The question alone predicts the same answer as `none`, and is not pooled.
    """
    level, y, values = _columns(problems, p)
    found = {"pooled": figure(y[level != QUESTION], values[level != QUESTION])}
    return found | {str(name): figure(y[level == name], values[level == name]) for name in np.unique(level)}


def figure(y: np.ndarray, p: np.ndarray) -> dict[str, Any]:
    """Return the figures of outcomes (0 or 1) and their probabilities; `auroc` is None where one class is missing."""
    found = auroc(y, p)
    return {
        "n": len(y),
        "right": round(float(y.mean()), 4),
        "auroc": None if found is None else round(found, 4),
        "brier": round(float(np.mean((y - p) ** 2)), 4),
        "calibration_error": round(calibration_error(y, p), 4),
    }


def calibration_error(y: np.ndarray, p: np.ndarray) -> float:
    """Return the expected calibration error over ten bins of equal width."""
    return float(sum(n * abs(right - predicted) for _, n, predicted, right in bins(y, p)) / len(y))


def reliability(problems: Mapping[str, _Levels], p: Mapping[str, Mapping[str, float]]) -> list[dict[str, float]]:
    """Return, for each tenth of the scale that occurs, the answers, their mean prediction and the share right."""
    _, y, values = _columns(problems, p)
    return [  # `said` is what cards have called the mean prediction from their first format on
        {"from": edge, "n": n, "said": round(predicted, 4), "right": round(right, 4)}
        for edge, n, predicted, right in bins(y, values)
    ]


def _columns(problems: Mapping[str, _Levels], p: Mapping[str, Mapping[str, float]]) -> list[np.ndarray]:
    """Return level, outcome (0 or 1) and prediction of every row."""
    rows = [(name, float(problems[i][name]["correct"]), v) for i, own in p.items() for name, v in own.items()]
    return [np.asarray(column) for column in zip(*rows, strict=True)]


def reliability_bins(pairs: Iterable[tuple[float, float]], count: int = 10) -> list[dict[str, float]]:
    """Return, for each of `count` equal bins that has one, how many (prediction, outcome) pairs, and both means."""
    p, y = np.asarray([*pairs], dtype=float).T
    return [
        {"low": low, "high": round(low + 1 / count, 9), "n": n, "predicted": predicted, "observed": observed}
        for low, n, predicted, observed in bins(y, p, count)
    ]


def bins(y: np.ndarray, p: np.ndarray, count: int = 10) -> list[tuple[float, int, float, float]]:
    """Return lower edge, number, mean prediction and share right of each of `count` equal bins that has a row."""
    where = np.clip((p * count).astype(int), 0, count - 1)
    return [
        (int(b) / count, int((where == b).sum()), float(p[where == b].mean()), float(y[where == b].mean()))
        for b in sorted(set(where))
    ]


def auroc(y: np.ndarray, p: np.ndarray) -> float | None:
    """Return the AUROC (ties count half); None where one class is missing."""
    found = float(aurocs(y, p, np.ones((1, len(y))))[0])
    return None if np.isnan(found) else found


def aurocs(y: np.ndarray, p: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the AUROC for each line of weights (lines, rows), say of a bootstrap; nan where a class is missing."""
    order = np.argsort(p, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(p[order]) > 0])
    positive = np.add.reduceat(weights[:, order] * y[order], starts, axis=1)
    negative = np.add.reduceat(weights[:, order] * (1 - y[order]), starts, axis=1)
    below = np.cumsum(negative, axis=1) - negative / 2
    total = positive.sum(axis=1) * negative.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        found: np.ndarray = (positive * below).sum(axis=1) / total
    return found
