"""The heads of a predictor, fitted with scikit-learn, and predictions for problems that no fit has seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tandem.errors import UsageError
from tandem.sufficiency.predictor import Head
from tandem.training.folds import folds

Features = Mapping[str, float]
Fit = Callable[[Sequence[Features], np.ndarray], Head]
_PENALTY = 0.1  # C of the logistic regression: tables of a few hundred problems call for a strong one


def fit_probability(
    rows: Sequence[Features], target: np.ndarray, names: Sequence[str], *, balanced: bool = False
) -> Head:
    """Return a logistic regression. `target` (rows,) are shares in 0..1: means of k samples, or right and wrong.

    `balanced` weighs both outcomes alike (weighted sampling). Raises UsageError for a single outcome.
    """
    from sklearn.linear_model import LogisticRegression

    x, mean, scale = _standardised(rows, names)
    share = np.asarray(target, dtype=float)
    if share.sum() == 0 or share.sum() == len(share):
        raise UsageError("every problem of the table has the same outcome: there is nothing to learn; collect more")
    # A share becomes both outcomes, weighted: the same likelihood as its samples one by one.
    weights = np.concatenate([share, 1 - share])
    if balanced:
        weights *= np.repeat([0.5 * len(share) / share.sum(), 0.5 * len(share) / (1 - share).sum()], len(share))
    model = LogisticRegression(C=_PENALTY, max_iter=1000)
    model.fit(np.vstack([x, x]), np.repeat([1, 0], len(share)), sample_weight=weights)
    return _head("probability", names, mean, scale, model.coef_[0], float(model.intercept_[0]))


def fit_huber(rows: Sequence[Features], target: np.ndarray, names: Sequence[str]) -> Head:
    """Return a Huber regression of `target` (rows,), which a few far-off values do not draw away."""
    from sklearn.linear_model import HuberRegressor

    x, mean, scale = _standardised(rows, names)
    model = HuberRegressor(alpha=1.0, max_iter=1000).fit(x, np.asarray(target, dtype=float))
    return _head("value", names, mean, scale, model.coef_, float(model.intercept_))


def out_of_fold(
    ids: Sequence[str], rows: Sequence[Features], target: np.ndarray, fit: Fit, *, seed: int = 0
) -> np.ndarray:
    """Return predictions (rows,) by fits that have not seen the row's problem; `ids` are the rows' problems."""
    found = np.empty(len(rows))
    for kept, _ in folds(sorted(set(ids)), seed):
        known = set(kept)
        train = [k for k, one in enumerate(ids) if one in known]
        head = fit([rows[k] for k in train], target[train])
        for k in set(range(len(ids))).difference(train):
            found[k] = head.predict(rows[k])
    return found


def _standardised(rows: Sequence[Features], names: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x = np.array([[row[name] for name in names] for row in rows], dtype=float)
    mean, scale = x.mean(axis=0), x.std(axis=0)
    # The deviation of a constant is not 0 but rounding, which scaled up would swamp every other feature.
    constant = scale <= 1e-9 * np.maximum(np.abs(mean), 1.0)
    scale = np.where(constant, 1.0, scale)
    return (x - mean) / scale, mean, scale


def _head(kind: str, names: Sequence[str], mean: np.ndarray, scale: np.ndarray, weights: np.ndarray, at: float) -> Head:
    columns = {"mean": mean.tolist(), "scale": scale.tolist(), "weights": weights.tolist()}
    return Head.model_validate({"kind": kind, "features": tuple(names), "intercept": at, **columns})
