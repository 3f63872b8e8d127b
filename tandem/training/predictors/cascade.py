"""The predictor of `cascade`: from the question and the intern's whole answer, whether that answer is right."""

from __future__ import annotations

import numpy as np

from tandem.costs import Unit
from tandem.errors import UsageError
from tandem.ladder import ANSWER
from tandem.spec import ModelSpec
from tandem.statistics.reliability import figure
from tandem.sufficiency.predictor import Head, Predictor
from tandem.sufficiency.signals import SIGNAL_VERSION
from tandem.training.data import Table
from tandem.training.heads import fit_probability
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
    """Fit the head on every sample of the intern's answers, choose the threshold out of fold, evaluate by nested folds.

    Needs the levels `none` and `answer`. A sample out of which no answer could be read is no matter of the head: the
    strategy takes it for wrong. Raises UsageError for a table that is too small or has one outcome only.
    """
    outcomes = OutcomeTable.of(table, specs, unit=unit)
    answers = outcomes.answers()
    names = list(answers.features[0])
    say(f"{len(outcomes.ids)} problems, {len(answers.ids)} answers of the intern")

    def fit(rows: np.ndarray) -> Head:
        kept = rows[answers.readable[rows]]
        if not len(kept):
            raise UsageError("no answer can be read out of any of the intern's texts: there is nothing to learn from")
        return fit_probability([answers.features[k] for k in kept], answers.right[kept], names)

    def score(train: np.ndarray, test: np.ndarray) -> np.ndarray:
        head = fit(train)
        return np.array([[head.predict(answers.features[k]) if answers.readable[k] else 0.0] for k in test])

    # The mentor's answer does not depend on which sample was discarded: each meets the mean of the mentor's.
    right, cost, tokens = (of(ANSWER)[answers.place] for of in (outcomes.right, outcomes.costs, outcomes.mentor_tokens))
    choice = Choice(
        ids=answers.ids,
        names=(NONE, ANSWER),
        right=np.array([answers.right, right]),
        cost=np.array([answers.cost, cost + answers.cost]),
        mentor_tokens=np.array([np.zeros(len(tokens)), tokens]),
        score=score,
        take=lambda p, threshold: (p[:, 0] < threshold).astype(int),
        limits=(0.0, 1.01),
    )
    threshold, figures, notes = settle(choice, outcomes, seed)
    rows, p = choice.out_of_fold(outcomes.ids, seed)
    figures["out_of_fold"] = {"right": figure(answers.right[rows], p[:, 0])}
    return outcomes.predictor(
        seed,
        strategy="cascade",
        heads={"right": fit(np.arange(len(answers.ids)))},
        settings={"threshold": threshold},
        signal_version=SIGNAL_VERSION,
        command=command,
        figures=figures,
        notes=(*NOTES, *notes),
    )
