"""Training: a collected table goes in, calibrated sufficiencies without optimism come out.

Everything is grouped by problem. A problem's sufficiency is always that of a fit, and of a calibration, without it
(five folds); what is shipped is the same recipe on all of them.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args

import numpy as np

from tandem.datasets.cards import card_of_set
from tandem.errors import UsageError
from tandem.ladder import QUESTION, Effort, Ladder
from tandem.sufficiency.classifier import FEATURES, feature_matrix
from tandem.sufficiency.rows import Levels, Row, Sufficiencies
from tandem.sufficiency.signals import classifier_inputs, question_signals
from tandem.training.estimators import Recipe, one_thread, unfitted
from tandem.training.folds import folds
from tandem.types import TaskKind

MIN_PROBLEMS = 40
_INNER = 3  # folds of a calibration
TASK = "task_"  # begins the names of features that tell the kind of task: 1 for a row's own kind
STRENGTHS = (0.01, 0.03, 0.1, 0.3, 1.0)
Problems = dict[str, Levels]


class OneSidedError(UsageError):
    """The intern's answers are all right, or all wrong, or nearly: there is nothing to learn from."""


def by_problem(rows: Sequence[Row], ladder: Ladder) -> Problems:
    """Group rows (of the first sample) by problem, keeping problems that have every level of the ladder.

    Raises UsageError for a ladder of one level, too few problems or labels of one class only.
    """
    own = [level for level in ladder if not level.is_question]
    if len(own) < 2:
        raise UsageError("training needs a table of two levels or more, among them one where the intern answers")
    whole = complete(rows, ladder)
    if len(whole) < MIN_PROBLEMS:
        raise UsageError(
            f"the table has {len(whole)} problems with all of the levels "
            f"{', '.join(sorted(level.name for level in own))}; "
            f"training needs at least {MIN_PROBLEMS}: collect more"
        )
    labels = {bool(row["correct"]) for row in intern_rows(whole, list(whole), ladder)}
    if len(labels) < 2:
        raise OneSidedError(
            f"every answer of the intern is {'right' if labels.pop() else 'wrong'}: nothing to learn from"
        )
    return whole


def complete(rows: Sequence[Row], ladder: Ladder) -> Problems:
    """Return the problems that have every level of the ladder, with all of their levels.

    A level's row is that of its first sample; the others are in it, as ``others``, for fits. Every row has its `task`:
    older tables do not say it, and have that of their data set.
    """
    grouped: dict[str, dict[str, Row]] = defaultdict(dict)
    others: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in (row if "task" in row else {**row, "task": task_of(row["problem"])} for row in rows):
        if row.get("sample"):
            others[row["problem"], row["level"]].append(row)
        else:
            grouped[row["problem"]][row["level"]] = row
    for (problem, level), more in others.items():
        if (first := grouped[problem].get(level)) is not None:
            grouped[problem][level] = {**first, "others": more}
    names = {level.name for level in ladder if not level.is_question}
    whole = {key: levels for key, levels in sorted(grouped.items()) if names <= levels.keys()}
    if any(level.is_question for level in ladder):
        for levels in whole.values():  # the question alone: the intern's answer at `none`, and no draft
            alone = [{**other, "level": QUESTION} for other in levels["none"].get("others", ())]
            levels[QUESTION] = {**levels["none"], "level": QUESTION, "others": alone}
    return dict(whole)


def with_question(ladder: Ladder) -> Ladder:
    """Return the ladder with the question alone before it, where the level `none` is there to be answered from."""
    return (Effort(name=QUESTION, tokens=0), *ladder) if ladder[0].name == "none" else ladder


def intern_rows(problems: Problems, ids: Sequence[str], ladder: Ladder) -> list[Row]:
    return [problems[i][level.name] for i in ids for level in ladder if not level.is_answer]


def signals_of(row: Row, draft: str) -> dict[str, float]:
    """Return all signals of a draft in a row: its own, the question's and the insight's."""
    shared: dict[str, dict[str, float]] = row["signals"]
    question = question_signals(row["question_tokens"]) | shared.get("question", {})
    found = classifier_inputs(shared[draft], question, alone=row["level"] == QUESTION)
    kinds = {f"{TASK}{kind}": float(row.get("task") == kind) for kind in get_args(TaskKind)}
    return found | shared.get("insight", {}) | kinds


def features_in(problems: Problems, ladder: Ladder, draft: str) -> tuple[str, ...]:
    """Return those of FEATURES that every row has: older tables have less about the question."""
    own = [set(signals_of(row, draft)) for row in intern_rows(problems, list(problems), ladder)]
    shared = set.intersection(*own) | {"log_insight_tokens"}
    return tuple(name for name in FEATURES if name in shared)


def signals_by_problem(
    problems: Problems, ids: Sequence[str], ladder: Ladder, draft: str, features: Sequence[str]
) -> dict[str, dict[str, dict[str, float]]]:
    """Return what gains may read: by problem and level those of the features that are signals."""
    found: dict[str, dict[str, dict[str, float]]] = {i: {} for i in ids}
    for row in intern_rows(problems, ids, ladder):
        signals = signals_of(row, draft)
        own = (name for name in features if name in signals and not name.startswith(TASK))
        found[row["problem"]][row["level"]] = {name: signals[name] for name in own}
    return found


def matrix(rows: Sequence[Row], draft: str, features: Sequence[str] = FEATURES) -> np.ndarray:
    """Return the features of rows, shape (rows, features), float64."""
    return feature_matrix([(signals_of(row, draft), row["insight_tokens"]) for row in rows], features)


def labels(rows: Sequence[Row]) -> np.ndarray:
    """Return 1 for each right answer, else 0, shape (rows,)."""
    return np.asarray([int(row["correct"]) for row in rows])


def fit(rows: Sequence[Row], draft: str, recipe: Recipe, *, calibrated: bool = True, seed: int = 0) -> Any:
    """Fit a recipe on the drafts of one length; where `calibrated`, its sigmoid on held-out parts of the same rows.

    All samples of a level count, each with its own draft and label: the likelihood is that of shares as labels.
    Raises UsageError where a part has one class only.
    """
    from sklearn.calibration import CalibratedClassifierCV

    rows = [*rows, *(other for row in rows for other in row.get("others", ()))]
    x, y = matrix(rows, draft, recipe.features), labels(rows)
    model = unfitted(recipe)
    if not calibrated:
        _two_classes(y)
        with one_thread():
            return model.fit(x, y)
    where = defaultdict(list)
    for position, row in enumerate(rows):
        where[row["problem"]].append(position)
    splits = []
    for others, held in folds(list(where), seed + 1, _INNER):
        parts = [np.asarray([k for i in ids for k in where[i]]) for ids in (others, held)]
        _two_classes(y[parts[0]])
        splits.append((parts[0], parts[1]))
    with one_thread():
        fitted = CalibratedClassifierCV(model, method=recipe.calibration, cv=splits, ensemble=False).fit(x, y)
    fitted.cv = None  # or every row's place would be saved with the model
    return fitted


def _two_classes(y: np.ndarray) -> None:
    if len(set(y)) < 2:
        raise OneSidedError(
            f"{len(y)} answers that training sets apart are all {'right' if y[0] else 'wrong'}: "
            "too few of the other kind; collect more problems, or a set that suits the intern better"
        )


def predict(estimator: Any, rows: Sequence[Row], draft: str, features: Sequence[str] = FEATURES) -> np.ndarray:
    """Return the probability of a right answer for each row, shape (rows,)."""
    x = matrix(rows, draft, features)
    with one_thread():
        return np.asarray(estimator.predict_proba(x)[:, 1])


def sufficiencies(
    estimator: Any, problems: Problems, ids: Sequence[str], ladder: Ladder, draft: str, features: Sequence[str]
) -> Sufficiencies:
    rows, found = intern_rows(problems, ids, ladder), defaultdict[str, dict[str, float]](dict)
    for row, p in zip(rows, predict(estimator, rows, draft, features).tolist(), strict=True):
        found[row["problem"]][row["level"]] = p
    return dict(found)


def cross_fitted(
    problems: Problems,
    ids: Sequence[str],
    ladder: Ladder,
    draft: str,
    recipe: Recipe,
    *,
    calibrated: bool = True,
    seed: int = 0,
) -> Sufficiencies:
    """Return sufficiency by problem and level, each from a fit and a calibration without its problem."""
    found: dict[str, Mapping[str, float]] = {}
    for others, held in folds(ids, seed):
        estimator = fit(intern_rows(problems, others, ladder), draft, recipe, calibrated=calibrated, seed=seed)
        found |= sufficiencies(estimator, problems, held, ladder, draft, recipe.features)
    return {i: found[i] for i in ids}


def log_losses(problems: Problems, p: Mapping[str, Mapping[str, float]]) -> np.ndarray:
    """Return the mean log-loss of each problem's levels, shape (problems,)."""
    losses = []
    for i, by_level in p.items():
        likely = [v if problems[i][level]["correct"] else 1 - v for level, v in by_level.items()]
        losses.append(-float(np.mean(np.log(np.clip(likely, 1e-4, 1)))))
    return np.asarray(losses)


def choose_recipe(
    problems: Problems,
    ids: Sequence[str],
    ladder: Ladder,
    draft: str,
    *,
    kinds: Sequence[str],
    features: Sequence[str] = FEATURES,
    strengths: Sequence[float] = STRENGTHS,
    seed: int = 0,
) -> tuple[Recipe, Sufficiencies]:
    """Return the recipe with the least out-of-fold log-loss, and its out-of-fold sufficiencies.

    A recipe that is less simple must beat the one before it by more than a standard error of the paired difference.
    """

    def raw(recipe: Recipe) -> np.ndarray:
        return log_losses(problems, cross_fitted(problems, ids, ladder, draft, recipe, calibrated=False, seed=seed))

    simplest, *others = sorted(strengths)
    best = Recipe("logistic", simplest, tuple(features))
    least = raw(best) if others else np.zeros(0)
    for recipe in [replace(best, strength=strength) for strength in others]:
        if _beats(losses := raw(recipe), least):
            best, least = recipe, losses
    p = cross_fitted(problems, ids, ladder, draft, best, seed=seed)
    losses = log_losses(problems, p)
    if "boosted" in kinds:
        other = Recipe("boosted", 0.0, tuple(features))
        q = cross_fitted(problems, ids, ladder, draft, other, seed=seed)
        if _beats(log_losses(problems, q), losses):
            best, p = other, q
    return best, p


def _beats(losses: np.ndarray, simpler: np.ndarray) -> bool:
    better = simpler - losses
    return bool(better.mean() > better.std(ddof=1) / np.sqrt(len(better)))


def counts(problems: Iterable[str]) -> dict[str, int]:
    """Return how many problems come from each data set (the id's part before the number)."""
    return dict(sorted(Counter(dataset_of(i) for i in problems).items()))


def task_of(problem: str) -> TaskKind:
    """Return the kind of task of a problem by its data set's card; ``general`` where there is none."""
    card = card_of_set(dataset_of(problem))
    return card.task if card else "general"


def kinds_of(problems: Problems, ids: Iterable[str]) -> dict[TaskKind, list[str]]:
    """Return the problems of each kind of task."""
    found: dict[TaskKind, list[str]] = defaultdict(list)
    for i in ids:
        found[next(iter(problems[i].values()))["task"]].append(i)
    return dict(found)


def dataset_of(problem: str) -> str:
    """Return the data set in a problem's id, as in ``gsm8k-test-7``, ``math500/7`` and ``HumanEval/7``."""
    return re.split(r"[-/][^-/]*$", problem)[0]
