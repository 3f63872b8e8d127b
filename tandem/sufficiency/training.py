"""Training: a collected table goes in, a calibrated classifier with its policy and honest figures comes out.

Everything is grouped by problem. Half of the problems fit the classifier, a fifth calibrates it (Platt) and fits the
gains, the rest chooses ladder, draft length and thresholds; out-of-fold figures come from a second, five-fold pass.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tandem.errors import UsageError
from tandem.ladder import ANSWER, Ladder
from tandem.sufficiency.classifier import feature_matrix
from tandem.sufficiency.policy import Gain, logit
from tandem.sufficiency.replay import Levels, Pair, Row, fixed
from tandem.sufficiency.signals import question_signals

MIN_PROBLEMS = 40
SHARES = (0.5, 0.2, 0.3)  # fit, calibration, threshold
Problems = dict[str, Levels]


def by_problem(rows: Sequence[Row], ladder: Ladder) -> Problems:
    """Group rows by problem, keeping problems that have every level of the ladder.

    Raises UsageError for a ladder of one level, too few problems or labels of one class only.
    """
    if len(ladder) < 2:
        raise UsageError("training needs a table of two levels or more, among them one where the intern answers")
    grouped: dict[str, dict[str, Row]] = defaultdict(dict)
    for row in rows:
        grouped[row["problem"]][row["level"]] = row
    names = {level.name for level in ladder}
    whole: Problems = {key: levels for key, levels in sorted(grouped.items()) if names <= levels.keys()}
    if len(whole) < MIN_PROBLEMS:
        raise UsageError(
            f"the table has {len(whole)} problems with all of the levels {', '.join(sorted(names))}; "
            f"training needs at least {MIN_PROBLEMS}: collect more"
        )
    labels = {bool(row["correct"]) for levels in whole.values() for row in levels.values() if row["level"] != ANSWER}
    if len(labels) < 2:
        raise UsageError(f"every answer of the intern is {'right' if labels.pop() else 'wrong'}: nothing to learn from")
    return whole


@dataclass(frozen=True, slots=True)
class Split:
    """Problem ids of the three disjoint parts."""

    fit: list[str]
    calibration: list[str]
    threshold: list[str]

    def hashes(self) -> dict[str, str]:
        """Return the sha256 of each part's sorted ids."""
        parts = {"fit": self.fit, "calibration": self.calibration, "threshold": self.threshold}
        return {name: hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest() for name, ids in parts.items()}


def split(ids: Sequence[str], seed: int) -> Split:
    """Divide problems by the hash of their id, so that a grown table keeps every problem in its part's order."""
    ranked = sorted(ids, key=lambda i: hashlib.sha256(f"{seed}:{i}".encode()).hexdigest())
    first, second = round(len(ranked) * SHARES[0]), round(len(ranked) * (SHARES[0] + SHARES[1]))
    return Split(ranked[:first], ranked[first:second], ranked[second:])


def intern_rows(problems: Problems, ids: Sequence[str]) -> list[Row]:
    """Return the rows in which the intern answered."""
    return [row for i in ids for level, row in sorted(problems[i].items()) if level != ANSWER]


def _matrix(rows: Sequence[Row], draft: str) -> tuple[np.ndarray, np.ndarray]:
    x = feature_matrix(
        [(row["signals"][draft] | question_signals(row["question_tokens"]), row["insight_tokens"]) for row in rows]
    )
    return x, np.asarray([int(row["correct"]) for row in rows])


def _labelled(rows: Sequence[Row], draft: str) -> tuple[np.ndarray, np.ndarray]:
    x, y = _matrix(rows, draft)
    if len(set(y)) < 2:
        raise UsageError(
            f"{len(rows)} answers that training sets apart are all {'right' if y[0] else 'wrong'}: "
            "too few of the other kind; collect more problems, or a set that suits the intern better"
        )
    return x, y


def fit_estimator(rows: Sequence[Row], draft: str, strength: float) -> Any:
    """Fit standardised logistic regression (`strength` = C) on the drafts of one length; UsageError for one class."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y = _labelled(rows, draft)
    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000)).fit(x, y)


def calibrate(estimator: Any, rows: Sequence[Row], draft: str) -> Any:
    """Calibrate a fitted estimator by Platt's sigmoid on rows that it has not seen."""
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.frozen import FrozenEstimator

    x, y = _labelled(rows, draft)
    return CalibratedClassifierCV(FrozenEstimator(estimator), method="sigmoid").fit(x, y)


def predict(estimator: Any, rows: Sequence[Row], draft: str) -> np.ndarray:
    """Return the probability of a right answer for each row, shape (rows,)."""
    x, _ = _matrix(rows, draft)
    return np.asarray(estimator.predict_proba(x)[:, 1])


def sufficiencies(estimator: Any, problems: Problems, ids: Sequence[str], draft: str) -> dict[str, dict[str, float]]:
    """Return sufficiency by problem and level."""
    rows = intern_rows(problems, ids)
    found: dict[str, dict[str, float]] = {i: {} for i in ids}
    for row, p in zip(rows, predict(estimator, rows, draft), strict=True):
        found[row["problem"]][row["level"]] = float(p)
    return found


def out_of_fold(problems: Problems, draft: str, strength: float, folds: int = 5) -> tuple[list[Row], np.ndarray]:
    """Return all intern rows and, for each, the probability from a fit without its problem."""
    from sklearn.model_selection import GroupKFold

    rows = intern_rows(problems, list(problems))
    groups = [row["problem"] for row in rows]
    p = np.zeros(len(rows))
    for train, held in GroupKFold(folds).split(rows, groups=groups):
        estimator = fit_estimator([rows[i] for i in train], draft, strength)
        p[held] = predict(estimator, [rows[i] for i in held], draft)
    return rows, p


def choose_strength(rows: Sequence[Row], draft: str) -> float:
    """Choose C by grouped cross-validated log-loss on the fit part alone."""
    from sklearn.metrics import log_loss
    from sklearn.model_selection import GroupKFold

    groups = [row["problem"] for row in rows]
    losses: dict[float, float] = {}
    for strength in (0.003, 0.01, 0.03, 0.1, 0.3, 1.0):
        p = np.zeros(len(rows))
        for train, held in GroupKFold(5).split(rows, groups=groups):
            p[held] = predict(fit_estimator([rows[i] for i in train], draft, strength), [rows[i] for i in held], draft)
        losses[strength] = float(log_loss([int(row["correct"]) for row in rows], p, labels=[0, 1]))
    return min(losses, key=lambda s: losses[s])


def fit_gains(
    problems: Problems, p: Mapping[str, Mapping[str, float]], ladder: Ladder, pair: Pair, draft: int | None
) -> dict[str, dict[str, Gain]]:
    """Fit, for each level and each later one, the chance of a right answer there given sufficiency here."""
    from sklearn.linear_model import LogisticRegression

    alone = float(np.mean([pair.answer(problems[i][ANSWER]) for i in p])) if ladder[-1].is_answer else None
    scale = alone or float(np.mean([fixed(problems[i], ladder[-1].name, pair).tflops for i in p]))
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


def _extra(problem: Levels, here: str, there: str, pair: Pair, draft: int | None) -> float:
    """TFLOPs that going on adds over answering here: the discarded draft and what is bought, less the answer here."""
    bought = 0.0 if there == ANSWER else pair.insight(problem[here])
    wasted = pair.draft(problem[here], draft)
    return wasted + fixed(problem, there, pair).tflops - bought - pair.answer(problem[here])


def figures(rows: Sequence[Row], p: np.ndarray) -> dict[str, Any]:
    """Return AUROC, Brier score and expected calibration error (10 equal bins), pooled and by level."""
    by_level = defaultdict(list)
    for row, value in zip(rows, p, strict=True):
        by_level[row["level"]].append((int(row["correct"]), float(value)))
    everything = [pair for pairs in by_level.values() for pair in pairs]
    return {"pooled": _figure(everything)} | {level: _figure(pairs) for level, pairs in sorted(by_level.items())}


def _figure(pairs: Sequence[tuple[int, float]]) -> dict[str, Any]:
    from sklearn.metrics import roc_auc_score

    y, p = np.asarray([a for a, _ in pairs]), np.asarray([b for _, b in pairs])
    bins = np.minimum((p * 10).astype(int), 9)
    error = sum(abs(y[bins == b].mean() - p[bins == b].mean()) * (bins == b).mean() for b in set(bins))
    auroc = round(float(roc_auc_score(y, p)), 4) if len(set(y)) == 2 else None
    return {
        "n": len(pairs),
        "right": round(float(y.mean()), 4),
        "auroc": auroc,
        "brier": round(float(np.mean((y - p) ** 2)), 4),
        "calibration_error": round(float(error), 4),
    }


def counts(problems: Problems) -> dict[str, int]:
    """Return how many problems come from each data set (the id's part before the number)."""
    return dict(sorted(Counter(i.rsplit("-", 1)[0] for i in problems).items()))
