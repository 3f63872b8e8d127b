"""Upgrades: the probability of a right answer at a later level, predicted from the draft here, and what it costs.

Two forms compete for each pair of levels, and the one with the lower out-of-fold log-loss is kept: the probability as a
function of sufficiency alone, or of sufficiency and all signals (a question that the intern fails may be one that the
mentor fails too, which sufficiency does not show).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from tandem.ladder import Ladder
from tandem.sufficiency.policy import Upgrade, Upgrades, logit
from tandem.sufficiency.rows import Levels, PCorrectLater, Sufficiencies
from tandem.training.estimators import one_thread
from tandem.training.folds import folds
from tandem.training.replay import LevelCosts

Signals = Mapping[str, Mapping[str, Mapping[str, float]]]  # by problem and level
_PENALTY = 0.1  # C of a regression on all signals: tables of a few hundred problems call for a strong one
_CLIP = 1e-4


def fit_upgrades(
    problems: Mapping[str, Levels],
    p: Sufficiencies,
    ladder: Ladder,
    signals: Signals | None = None,
    *,
    seed: int = 0,
) -> tuple[dict[str, dict[str, Upgrade]], PCorrectLater]:
    """Return the upgrades from each level to each later one, and their predictions for each problem, out of fold.

    `p` are sufficiencies out of fold. Without `signals` the upgrades read sufficiency alone. Their costs are 0: these
    are of a unit and of the problems that a point is chosen on (`with_costs`).
    """
    ids = list(p)
    place = {i: n for n, i in enumerate(ids)}
    held = [np.asarray([place[i] for i in part]) for _, part in folds(ids, seed)]
    upgrades: dict[str, dict[str, Upgrade]] = {}
    later: dict[str, dict[str, dict[str, float]]] = {i: {level.name: {} for level in ladder[:-1]} for i in ids}
    for here, there in combinations(ladder, 2):
        x = np.asarray([[logit(p[i][here.name])] for i in ids])
        y = np.asarray([int(problems[i][there.name]["correct"]) for i in ids])
        names: tuple[str, ...] = ()
        predicted = _out_of_fold(x, y, held)
        if signals is not None:
            every = tuple(signals[ids[0]][here.name])
            wide = np.hstack([x, [[signals[i][here.name][name] for name in every] for i in ids]])
            better = _out_of_fold(wide, y, held)
            if _log_loss(y, better) < _log_loss(y, predicted):
                x, names, predicted = wide, every, better
        offset, weights = _fit(x, y)
        upgrade = Upgrade(
            offset=offset,
            slope=float(weights[0]),
            cost=0.0,
            weights={name: float(w) for name, w in zip(names, weights[1:], strict=True) if w},
        )
        upgrades.setdefault(here.name, {})[there.name] = upgrade
        for i, value in zip(ids, predicted.tolist(), strict=True):
            later[i][here.name][there.name] = value
    return upgrades, later


def predict_later(upgrades: Upgrades, p: Sufficiencies, signals: Signals) -> PCorrectLater:
    """Return the predictions for problems that no upgrade was fitted on."""
    return {
        i: {
            here: {there: upgrade.p_correct(by_level[here], signals[i][here]) for there, upgrade in later.items()}
            for here, later in upgrades.items()
        }
        for i, by_level in p.items()
    }


def with_costs(upgrades: Upgrades, costs: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, Upgrade]]:
    return {
        here: {there: upgrade.model_copy(update={"cost": costs[here][there]}) for there, upgrade in later.items()}
        for here, later in upgrades.items()
    }


def extra_costs(costs: LevelCosts, ladder: Ladder, draft: int | None) -> dict[str, dict[str, float]]:
    """Return what going from each level to each later one adds on average, as a share of the ladder's last level.

    It adds the discarded draft and the extra insight, less the answer here.
    """
    scale = float(costs.fixed(ladder[-1].name).mean())
    found: dict[str, dict[str, float]] = {}
    for here, there in combinations(ladder, 2):
        written = costs.insight(here.name) if not there.is_answer or costs.pair.begins_answer else 0.0
        wasted = 0.0 if here.is_question else costs.draft(here.name, draft)
        extra = wasted + costs.fixed(there.name) - written - costs.answer(here.name)
        found.setdefault(here.name, {})[there.name] = max(float(extra.mean()) / scale, 0.0) if scale else 0.0
    return found


def _fit(x: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    """Return intercept and weights, of features as they are; sufficiency alone is hardly regularised, signals are."""
    from sklearn.linear_model import LogisticRegression

    width = x.shape[1]
    if len(set(y)) < 2:
        return (6.0 if y[0] else -6.0), np.zeros(width)
    mean, scale = (x.mean(axis=0), x.std(axis=0)) if width > 1 else (np.zeros(1), np.ones(1))
    scale = np.where(scale > 1e-9, scale, 1.0)
    with one_thread():
        model = LogisticRegression(C=_PENALTY if width > 1 else 1.0, max_iter=2000).fit((x - mean) / scale, y)
    weights = model.coef_[0] / scale
    return float(model.intercept_[0] - weights @ mean), weights


def _out_of_fold(x: np.ndarray, y: np.ndarray, held: Sequence[np.ndarray]) -> np.ndarray:
    predicted = np.zeros(len(y))
    for part in held:
        rest = np.setdiff1d(np.arange(len(y)), part)
        offset, weights = _fit(x[rest], y[rest])
        predicted[part] = (1 + np.tanh((offset + x[part] @ weights) / 2)) / 2
    return predicted


def _log_loss(y: np.ndarray, predicted: np.ndarray) -> float:
    return -float(np.mean(np.log(np.clip(np.where(y > 0, predicted, 1 - predicted), _CLIP, 1))))
