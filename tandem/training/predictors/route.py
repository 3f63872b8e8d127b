"""The predictor of `route`: from the question, whether the intern is right and whether the mentor is.

The rule is the predicted gain. On the 268 problems of the shipped pair's tables (GSM8K, MATH and MBPP train; nested
folds) it gained 0.016 accuracy over a random mix of both models at equal cost (95 % interval -0.004 to 0.038), the rule
on the intern's doubt alone 0.005 (-0.004 to 0.015). Neither differs significantly from zero, nor from the other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tandem.costs import Unit
from tandem.ladder import ANSWER
from tandem.spec import ModelSpec
from tandem.statistics.reliability import figure
from tandem.sufficiency.predictor import Head, Predictor
from tandem.training.data import Table
from tandem.training.heads import Features, fit_probability, out_of_fold
from tandem.training.predictors import Say, silent
from tandem.training.predictors.choice import NOTES, Choice, settle
from tandem.training.predictors.outcomes import NONE, OutcomeTable


def train(
    table: Table,
    specs: tuple[ModelSpec, ModelSpec],
    *,
    unit: Unit | None = None,
    seed: int = 0,
    command: str = "",
    say: Say = silent,
) -> Predictor:
    """Fit both heads, choose the threshold out of fold, evaluate fit and choice by nested folds.

    Needs the levels `none` and `answer`. Raises UsageError for a table that is too small or has one outcome only.
    """
    outcomes = OutcomeTable.of(table, specs, unit=unit)
    questions = outcomes.questions()
    names = list(questions[0])
    right = {"intern": outcomes.right(NONE), "mentor": outcomes.right(ANSWER)}
    say(f"{len(outcomes.ids)} problems; of the question: {', '.join(names)}")

    def by_question(rows: Sequence[Features], target: np.ndarray) -> Head:
        return fit_probability(rows, target, names)

    def fit(rows: np.ndarray, who: str) -> Head:
        return by_question([questions[k] for k in rows], right[who][rows])

    def score(train: np.ndarray, test: np.ndarray) -> np.ndarray:
        intern, mentor = fit(train, "intern"), fit(train, "mentor")
        return np.array([[mentor.predict(questions[k]) - intern.predict(questions[k])] for k in test])

    choice = Choice(
        ids=outcomes.ids,
        names=(NONE, ANSWER),
        right=np.array([right["intern"], right["mentor"]]),
        cost=np.array([outcomes.costs(NONE), outcomes.costs(ANSWER)]),
        mentor_tokens=np.array([np.zeros(len(outcomes.ids)), outcomes.mentor_tokens(ANSWER)]),
        score=score,
        take=lambda gain, threshold: (gain[:, 0] >= threshold).astype(int),
        limits=(1.01, -1.0),
    )
    every = np.arange(len(outcomes.ids))
    threshold, figures, notes = settle(choice, outcomes, seed)
    figures["out_of_fold"] = {
        who: figure(np.round(own), out_of_fold(outcomes.ids, questions, own, by_question, seed=seed))
        for who, own in right.items()
    }
    return outcomes.predictor(
        seed,
        strategy="route",
        heads={who: fit(every, who) for who in right},
        settings={"threshold": threshold},
        command=command,
        figures=figures,
        notes=(*NOTES, *notes),
    )
