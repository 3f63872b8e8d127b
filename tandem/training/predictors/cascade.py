"""The predictor of `cascade`: from the question and the intern's whole answer, whether that answer is right."""

from __future__ import annotations

import numpy as np

from tandem.errors import UsageError
from tandem.ladder import ANSWER
from tandem.spec import ModelSpec
from tandem.sufficiency.predictor import Head, Predictor
from tandem.sufficiency.signals import SIGNAL_VERSION
from tandem.training.data import Table
from tandem.training.heads import fit_probability
from tandem.training.predictors import Say, silent
from tandem.training.predictors.outcomes import OutcomeTable
from tandem.training.predictors.points import ChoiceOutcome, ThresholdChoice, settle


def train(
    table: Table, specs: tuple[ModelSpec, ModelSpec], *, seed: int = 0, command: str = "", say: Say = silent
) -> Predictor:
    """Fit the head on every sample of the intern's answers, choose the threshold out of fold, judge by nested folds.

    Needs the levels `none` and `answer`. A sample out of which no answer could be read is no matter of the head: the
    strategy takes it for wrong. Raises UsageError for a table that is too small or has one outcome only.
    """
    outcomes = OutcomeTable.of(table, specs)
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
        return np.array([head.predict(answers.features[k]) if answers.readable[k] else 0.0 for k in test])

    # The mentor's answer does not depend on which sample was discarded: each meets the mean of the mentor's.
    mentor = {"right": outcomes.right(ANSWER), "tflops": outcomes.tflops(ANSWER)}
    tokens = outcomes.mentor_tokens(ANSWER)[answers.place]
    choice = ThresholdChoice(
        ids=answers.ids,
        intern=ChoiceOutcome(answers.right, answers.tflops, np.zeros(len(tokens))),
        mentor=ChoiceOutcome(mentor["right"][answers.place], mentor["tflops"][answers.place] + answers.tflops, tokens),
        score=score,
        hands=lambda p, threshold: p < threshold,
        limits=(0.0, 1.01),
    )
    rows, p = choice.out_of_fold(outcomes.ids, seed)
    threshold, figures, notes = settle(choice, outcomes, {"right": (answers.right[rows], p)}, seed)
    return Predictor(
        strategy="cascade",
        mentor=table[1]["mentor"],
        intern=table[1]["intern"],
        heads={"right": fit(np.arange(len(answers.ids)))},
        settings={"threshold": threshold},
        signal_version=SIGNAL_VERSION,
        command=command,
        data=outcomes.data(seed),
        figures=figures,
        notes=notes,
    )
