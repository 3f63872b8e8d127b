"""The two kinds of model behind sufficiency: standardised logistic regression, and monotone boosted trees."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from contextlib import AbstractContextManager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Kind = Literal["logistic", "boosted"]
KINDS: tuple[Kind, ...] = ("logistic", "boosted")
# The direction in which a feature moves the probability of a right answer; the others are unconstrained.
_DIRECTION = {
    "log_perplexity": -1,
    "entropy_mean": -1,
    "entropy_max": -1,
    "least_likely": 1,
    "least_likely_5": 1,
    "margin_mean": 1,
    "margin_low": 1,
    "log_insight_tokens": 1,
}


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is fitted: the kind, its strength (C of the regression), the features and the calibration."""

    kind: Kind
    strength: float
    features: tuple[str, ...]
    calibration: Literal["sigmoid", "isotonic"] = "sigmoid"

    def describe(self) -> dict[str, Any]:
        name = {"logistic": "logistic regression", "boosted": "monotone boosted trees"}[self.kind]
        calibration = {"sigmoid": "Platt-calibrated", "isotonic": "isotonic"}[self.calibration]
        return {"kind": f"{name}, {calibration}"} | ({"C": self.strength} if self.kind == "logistic" else {})


def unfitted(recipe: Recipe) -> Any:
    if recipe.kind == "logistic":
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        return make_pipeline(StandardScaler(), LogisticRegression(C=recipe.strength, max_iter=2000))
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(
        max_iter=60,
        max_leaf_nodes=6,
        learning_rate=0.08,
        min_samples_leaf=20,
        l2_regularization=1.0,
        monotonic_cst=[_DIRECTION.get(name, 0) for name in recipe.features],
        early_stopping=False,
        random_state=0,
    )


def told(estimator: Any, features: Sequence[str], kind: str) -> Any:
    """Return a calibrated regression that knows which of several 0/1 features holds, without these features.

    `kind` is the name of the one that is 1; those of the same prefix are 0.
    """
    prefix = kind.partition("_")[0] + "_"
    kept = np.asarray([not name.startswith(prefix) for name in features])
    fixed = np.asarray([float(name == kind) for name in features])[~kept]
    found = deepcopy(estimator)
    (calibrated,) = found.calibrated_classifiers_
    scaler, regression = (step for _, step in getattr(calibrated.estimator, "estimator", calibrated.estimator).steps)
    shift = (fixed - scaler.mean_[~kept]) / scaler.scale_[~kept]
    regression.intercept_ = regression.intercept_ + regression.coef_[:, ~kept] @ shift
    regression.coef_ = regression.coef_[:, kept]
    for name in ("mean_", "var_", "scale_"):
        setattr(scaler, name, getattr(scaler, name)[kept])
    for part in (found, scaler, regression):
        part.n_features_in_ = int(kept.sum())
    return found


def one_thread() -> AbstractContextManager[Any]:
    """Let numpy and scikit-learn compute in one thread: on tables this small, threads wait for each other only."""
    return _controller().limit(limits=1)  # type: ignore[no-any-return]


@functools.cache
def _controller() -> Any:
    import sklearn.ensemble  # noqa: F401  # its OpenMP must be loaded to be found
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
