"""Training: a collected table goes in, calibrated sufficiencies without optimism come out.

Everything is grouped by problem. A problem's sufficiency is always that of a fit, and of a calibration, without it
(five folds); what is shipped is the same recipe on all of them.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tandem.errors import UsageError
from tandem.ladder import ANSWER, Ladder
from tandem.sufficiency.classifier import FEATURES, feature_matrix
from tandem.sufficiency.estimators import Recipe, one_thread, unfitted
from tandem.sufficiency.policy import Gain, logit
from tandem.sufficiency.replay import Levels, Pair, Row, fixed
from tandem.sufficiency.signals import question_signals

MIN_PROBLEMS = 40
FOLDS = 5
_INNER = 3  # folds of a calibration
STRENGTHS = (0.01, 0.03, 0.1, 0.3, 1.0)
Problems = dict[str, Levels]
Sufficiencies = dict[str, dict[str, float]]  # by problem and level


def by_problem(rows: Sequence[Row], ladder: Ladder) -> Problems:
    """Group rows (of the first sample) by problem, keeping problems that have every level of the ladder.

    Raises UsageError for a ladder of one level, too few problems or labels of one class only.
    """
    if len(ladder) < 2:
        raise UsageError("training needs a table of two levels or more, among them one where the intern answers")
    whole = complete(rows, ladder)
    if len(whole) < MIN_PROBLEMS:
        raise UsageError(
            f"the table has {len(whole)} problems with all of the levels "
            f"{', '.join(sorted(level.name for level in ladder))}; "
            f"training needs at least {MIN_PROBLEMS}: collect more"
        )
    labels = {bool(row["correct"]) for row in intern_rows(whole, list(whole), ladder)}
    if len(labels) < 2:
        raise UsageError(f"every answer of the intern is {'right' if labels.pop() else 'wrong'}: nothing to learn from")
    return whole


def complete(rows: Sequence[Row], ladder: Ladder) -> Problems:
    """Return the problems that have every level of the ladder, with all of their levels."""
    grouped: dict[str, dict[str, Row]] = defaultdict(dict)
    for row in rows:
        if not row.get("sample"):
            grouped[row["problem"]][row["level"]] = row
    names = {level.name for level in ladder}
    return {key: levels for key, levels in sorted(grouped.items()) if names <= levels.keys()}


def ranked(ids: Sequence[str], seed: int) -> list[str]:
    """Order problems by the hash of their id, so that a grown table keeps every problem in its order."""
    return sorted(ids, key=lambda i: hashlib.sha256(f"{seed}:{i}".encode()).hexdigest())


def folds(ids: Sequence[str], seed: int, count: int = FOLDS) -> Iterator[tuple[list[str], list[str]]]:
    """Yield (the others, held) for each of `count` disjoint parts that are equal to within one problem."""
    order = ranked(ids, seed)
    for part in range(count):
        held = order[part::count]
        out = set(held)
        yield [i for i in order if i not in out], held


def halves(ids: Sequence[str], seed: int) -> tuple[list[str], list[str]]:
    """Return two disjoint halves: one to fit and to order operating points on, one to certify them on."""
    order = ranked(ids, seed)
    return order[0::2], order[1::2]


def digest(ids: Sequence[str]) -> str:
    """Return the sha256 of the sorted ids."""
    return hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()


def intern_rows(problems: Problems, ids: Sequence[str], ladder: Ladder) -> list[Row]:
    """Return the rows of the ladder in which the intern answered."""
    return [problems[i][level.name] for i in ids for level in ladder if not level.is_answer]


def signals_of(row: Row, draft: str) -> dict[str, float]:
    """Return everything that a row tells about a draft: its signals, the question's and the insight's."""
    shared: dict[str, dict[str, float]] = row["signals"]
    return (
        question_signals(row["question_tokens"])
        | shared.get("question", {})
        | shared.get("insight", {})
        | shared[draft]
    )


def matrix(rows: Sequence[Row], draft: str, features: Sequence[str] = FEATURES) -> np.ndarray:
    """Return the features of rows, shape (rows, features), float64."""
    return feature_matrix([(signals_of(row, draft), row["insight_tokens"]) for row in rows], features)


def labels(rows: Sequence[Row]) -> np.ndarray:
    """Return 1 for each right answer, else 0, shape (rows,)."""
    return np.asarray([int(row["correct"]) for row in rows])


def fit(rows: Sequence[Row], draft: str, recipe: Recipe, *, calibrated: bool = True, seed: int = 0) -> Any:
    """Fit a recipe on the drafts of one length; where `calibrated`, its sigmoid on held-out parts of the same rows.

    Raises UsageError where a part has one class only.
    """
    from sklearn.calibration import CalibratedClassifierCV

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
        raise UsageError(
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
    """Return sufficiency by problem and level."""
    rows = intern_rows(problems, ids, ladder)
    return _by_problem(rows, predict(estimator, rows, draft, features))


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
    found: Sufficiencies = {}
    for others, held in folds(ids, seed):
        estimator = fit(intern_rows(problems, others, ladder), draft, recipe, calibrated=calibrated, seed=seed)
        found |= sufficiencies(estimator, problems, held, ladder, draft, recipe.features)
    return {i: found[i] for i in ids}


def _by_problem(rows: Sequence[Row], p: np.ndarray) -> Sufficiencies:
    found: Sufficiencies = defaultdict(dict)
    for row, value in zip(rows, p, strict=True):
        found[row["problem"]][row["level"]] = float(value)
    return dict(found)


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
    found: dict[float, float] = {}
    for strength in strengths if len(strengths) > 1 else ():
        recipe = Recipe("logistic", strength, tuple(features))
        raw = cross_fitted(problems, ids, ladder, draft, recipe, calibrated=False, seed=seed)
        found[strength] = float(np.mean(log_losses(problems, raw)))
    best = Recipe("logistic", min(found, key=lambda s: found[s], default=strengths[0]), tuple(features))
    p = cross_fitted(problems, ids, ladder, draft, best, seed=seed)
    losses = log_losses(problems, p)
    if "boosted" in kinds:
        other = Recipe("boosted", 0.0, tuple(features))
        q = cross_fitted(problems, ids, ladder, draft, other, seed=seed)
        better = losses - log_losses(problems, q)
        if better.mean() > better.std(ddof=1) / np.sqrt(len(better)):
            best, p = other, q
    return best, p


def fit_gains(
    problems: Problems, p: Mapping[str, Mapping[str, float]], ladder: Ladder, pair: Pair, draft: int | None
) -> dict[str, dict[str, Gain]]:
    """Fit, for each level and each later one, the chance of a right answer there given sufficiency here."""
    from sklearn.linear_model import LogisticRegression

    scale = dearest(problems, list(p), ladder, pair)
    gains: dict[str, dict[str, Gain]] = {}
    for position, level in enumerate(ladder[:-1]):
        here = np.asarray([[logit(p[i][level.name])] for i in p])
        for later in ladder[position + 1 :]:
            y = np.asarray([int(problems[i][later.name]["correct"]) for i in p])
            if len(set(y)) < 2:
                offset, slope = (6.0 if y[0] else -6.0), 0.0
            else:
                model = LogisticRegression(C=1.0).fit(here, y)
                offset, slope = float(model.intercept_[0]), float(model.coef_[0, 0])
            cost = float(np.mean([_extra(problems[i], level.name, later.name, pair, draft) for i in p])) / scale
            gains.setdefault(level.name, {})[later.name] = Gain(offset=offset, slope=slope, cost=max(cost, 0.0))
    return gains


def dearest(problems: Problems, ids: Sequence[str], ladder: Ladder, pair: Pair) -> float:
    """Return the mean TFLOPs of the ladder's last level alone (mentor-only, where it ends with `answer`)."""
    return float(np.mean([fixed(problems[i], ladder[-1].name, pair).tflops for i in ids]))


def _extra(problem: Levels, here: str, there: str, pair: Pair, draft: int | None) -> float:
    """TFLOPs that going on adds over answering here: the discarded draft and what is bought, less the answer here."""
    bought = 0.0 if there == ANSWER else pair.insight(problem[here])
    wasted = pair.draft(problem[here], draft)
    return wasted + fixed(problem, there, pair).tflops - bought - pair.answer(problem[here])


def counts(problems: Problems) -> dict[str, int]:
    """Return how many problems come from each data set (the id's part before the number)."""
    return dict(sorted(Counter(dataset_of(i) for i in problems).items()))


def dataset_of(problem: str) -> str:
    """Return the data set in a problem's id."""
    return problem.rsplit("-", 1)[0]
