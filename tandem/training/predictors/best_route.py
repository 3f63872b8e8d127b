"""The predictor of `best-route`: for each number of the intern's samples, whether their best matches the mentor.

A match is a right answer, or one to a problem that the mentor has wrong too (arXiv 2506.22716 with right and wrong for
a reward model's score). What the best of n is comes from the table's samples at level `none`: the mean over every
choice of n among the k that are there (the paper draws ten times with replacement).

Where a majority decides (closed answers), the table has right and wrong, not which wrong answers agree. Wrong
answers are taken to agree all, which is the worst case: the best of n is right where more are right than wrong, and
where equally many are, if the likeliest sample is right. The gain of more samples is thus never overestimated. A sample
without an answer has no vote. Other answers (code, free text) are chosen by likelihood, which the table has exactly;
where the strategy can run the examples of a code problem's prompt, it chooses by these, which no table knows.

With one sample a problem the table does not show what more would bring, and the router chooses between one and the
mentor. Of a table that was drawn at a temperature, one sample stands for the greedy answer, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from tandem.costs import Unit
from tandem.datasets.cards import card_of_set
from tandem.ladder import ANSWER
from tandem.spec import ModelSpec
from tandem.statistics.reliability import figure
from tandem.strategies.best_route import MOST
from tandem.sufficiency.predictor import Head, Predictor
from tandem.sufficiency.rows import Row
from tandem.training.data import Table
from tandem.training.fit import dataset_of
from tandem.training.heads import Features, fit_probability, out_of_fold
from tandem.training.predictors import Say, silent
from tandem.training.predictors.choice import NOTES, Choice, settle
from tandem.training.predictors.outcomes import NONE, OutcomeTable

_HALF = 0.5  # where samples make a share of a label, the nearer outcome counts for them


def train(
    table: Table,
    specs: tuple[ModelSpec, ModelSpec],
    *,
    unit: Unit | None = None,
    seed: int = 0,
    command: str = "",
    say: Say = silent,
) -> Predictor:
    """Fit both heads of every n, choose the threshold out of fold, evaluate fits and choice by nested folds.

    Needs the levels `none` (with up to five samples) and `answer`. Raises UsageError for a table that is too small or
    has one outcome only.
    """
    outcomes = OutcomeTable.of(table, specs, unit=unit)
    questions, samples = outcomes.questions(), outcomes.rows(NONE)
    names = list(questions[0])
    numbers = range(1, min(MOST, *(len(own) for own in samples)) + 1)
    closed = [_closed(i) for i in outcomes.ids]
    right = np.array([[best_right(own, n, shut) for own, shut in zip(samples, closed, strict=True)] for n in numbers])
    mentor, cost = outcomes.right(ANSWER), outcomes.costs(NONE)
    match = 1 - mentor * (1 - right)
    # A candidate that costs what the mentor costs is none: the mentor always matches.
    most = max([n for n in numbers if n * cost.mean() < outcomes.costs(ANSWER).mean()], default=1)
    say(f"{len(outcomes.ids)} problems, {len(numbers)} samples each; up to {most} cost less than the mentor")

    def by_question(rows: Sequence[Features], target: np.ndarray) -> Head:
        return fit_probability(rows, target, names)

    def fit(labels: np.ndarray, at: np.ndarray) -> Head:
        return by_question([questions[k] for k in at], labels[at])

    def score(train: np.ndarray, test: np.ndarray) -> np.ndarray:
        heads = [fit(match[n - 1], train) for n in range(1, most + 1)]
        return np.array([[head.predict(questions[k]) for head in heads] for k in test])

    choice = Choice(
        ids=outcomes.ids,
        names=(NONE, *(f"best-of-{n}" for n in range(2, most + 1)), ANSWER),
        right=np.array([*right[:most], mentor]),
        cost=np.array([*(n * cost for n in range(1, most + 1)), outcomes.costs(ANSWER)]),
        mentor_tokens=np.array([*([np.zeros(len(cost))] * most), outcomes.mentor_tokens(ANSWER)]),
        score=score,
        take=lambda p, threshold: np.where((p >= threshold).any(axis=1), np.argmax(p >= threshold, axis=1), p.shape[1]),
        limits=(0.0, 1.01),
        thresholds=most,
    )
    threshold, figures, notes = settle(choice, outcomes, seed)
    every = np.arange(len(outcomes.ids))
    labels = {f"{what}-{n}": own[n - 1] for n in numbers for what, own in (("match", match), ("right", right))}
    figures["out_of_fold"] = {
        name: figure((own >= _HALF).astype(int), out_of_fold(outcomes.ids, questions, own, by_question, seed=seed))
        for name, own in labels.items()
    }
    figures["right"] = {f"best-of-{n}": round(float(right[n - 1].mean()), 4) for n in numbers}
    return outcomes.predictor(
        seed,
        {"samples": len(numbers), "temperature": table[1]["sampling"]["temperature"]},
        strategy="best-route",
        heads={name: fit(own, every) for name, own in labels.items()},
        settings={"threshold": threshold, "most": float(most)},
        command=command,
        figures=figures,
        notes=(*_notes(len(numbers), most, table[1]), *notes),
    )


def best_right(samples: Sequence[Row], n: int, closed: bool) -> float:
    """Return the share of all choices of n among a problem's samples whose best is right, as the module says."""
    return float(np.mean([_best(chosen, closed) for chosen in combinations(samples, n)]))


def _best(chosen: Sequence[Row], closed: bool) -> bool:
    if not closed:
        return bool(min(chosen, key=_perplexity)["correct"])
    voting = [row for row in chosen if row["extracted"]]
    right = sum(bool(row["correct"]) for row in voting)
    if 2 * right == len(voting):
        return bool(voting) and bool(min(voting, key=_perplexity)["correct"])
    return 2 * right > len(voting)


def _perplexity(row: Row) -> float:
    value: float = row["signals"]["all"]["log_perplexity"]
    return value


def _closed(problem: str) -> bool:
    """Whether a problem's answers are put to the vote, by its data set's card; those of an unknown set are."""
    card = card_of_set(dataset_of(problem))
    return card is None or card.task in ("math", "choice") or bool(card.grader)


def _notes(samples: int, most: int, manifest: Mapping[str, Any]) -> list[str]:
    notes = list(NOTES)
    if samples == 1:
        return [
            *notes,
            "The table has one sample a problem, which does not tell what more would bring: this router chooses "
            "between one answer of the intern's and the mentor. Collect with --samples 5 --temperature 0.7 for more.",
        ]
    notes.append("Wrong answers are taken to agree: what a vote among more samples brings is a lower bound.")
    if most < samples:
        notes.append(f"More than {most} samples cost as much as the mentor, and are never drawn.")
    if manifest["sampling"]["temperature"]:
        notes.append("One sample at the table's temperature stands for the greedy answer.")
    return notes
