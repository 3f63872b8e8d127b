"""The predictor of `shepherding`: whether a hint is needed, and of how many tokens (arXiv 2601.22132).

The label of a problem is n*, the fewest tokens of the mentor's answer with which the intern is right: 0, a collected
hint, or the whole answer where only the mentor is right. A problem that nothing solves has n* = 0, as a hint brings
nothing there; the paper does not say. Success is not monotone in n, so a larger hint than n* may fail.

As in the paper the classifier weighs both outcomes alike (weighted sampling) and the size is a Huber regression of
log(1 + n*) on the problems that need one. We depart from it in linear heads, in fitting each by itself, and in the
sizes: those of the table (20, 40 and 60 %), not every tenth. A predicted n is replayed as the next larger size that was
collected, at that one's cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tandem.costs import Unit, amount
from tandem.errors import UsageError
from tandem.ladder import ANSWER
from tandem.spec import ModelSpec
from tandem.statistics.reliability import figure
from tandem.strategies.learned import TRUNCATED
from tandem.strategies.shepherding import size_of
from tandem.sufficiency.predictor import Head, Predictor
from tandem.sufficiency.rows import HINT, Row
from tandem.sufficiency.signals import NAMES, QUESTION_CANDIDATES, SIGNAL_VERSION
from tandem.training.data import Table
from tandem.training.heads import Features, fit_huber, fit_probability, out_of_fold
from tandem.training.predictors import Say, silent
from tandem.training.predictors.choice import NOTES, Choice, settle
from tandem.training.predictors.outcomes import NONE, OutcomeTable

_CONSTANT = "ended"  # a whole answer always has
_FEWEST = 5  # problems that need a hint, for a regression of its size
# Few problems need a hint: its size is predicted from fewer features than whether one is needed.
_SIZE = {*QUESTION_CANDIDATES, "log_perplexity", "length"}


@dataclass(frozen=True, slots=True)
class _Sizes:
    """What each size of hint makes of each problem, by its first sample, all (sizes, problems); sizes rise."""

    names: tuple[str, ...]
    tokens: np.ndarray  # of the mentor's answer
    right: np.ndarray  # 0 or 1
    cost: np.ndarray

    @property
    def needed(self) -> np.ndarray:
        """Tokens of the smallest hint that is right, (problems,); 0 where none is needed or none helps."""
        first = np.argmax(self.right > 0, axis=0)
        return np.where(self.right.any(axis=0), self.tokens[first, np.arange(self.tokens.shape[1])], 0)


def train(
    table: Table,
    specs: tuple[ModelSpec, ModelSpec],
    *,
    unit: Unit | None = None,
    seed: int = 0,
    command: str = "",
    say: Say = silent,
) -> Predictor:
    """Fit both stages for both methods, choose their thresholds out of fold, evaluate each by nested folds.

    The figures are those of `proactive`, the default; those of `reactive` stand beside them under its name.
    Needs the levels `none`, `answer` and at least one hint. Raises UsageError for a table without hints, one that is
    too small, or one with a single outcome.
    """
    hints = sorted({row["level"] for row in table[0] if row["level"].startswith(HINT)})
    hints.sort(key=lambda level: int(level.removeprefix(HINT)))
    if not hints:
        raise UsageError("the table has no hints, which shepherding learns from: collect them with --hints 20,40,60")
    outcomes = OutcomeTable.of(table, specs, (NONE, ANSWER, *hints), unit)
    sizes = _sizes(outcomes, hints)
    needed = sizes.needed
    say(
        f"{len(outcomes.ids)} problems: {np.mean(sizes.right[0]):.0%} need no hint, {np.mean(needed > 0):.0%} need "
        f"one, {np.mean(~sizes.right.any(axis=0)):.0%} are solved by nothing"
    )
    methods = {
        "proactive": _Method(outcomes.ids, outcomes.questions(), sizes, discards=False),
        "reactive": _Method(outcomes.ids, _reactive(outcomes), sizes, discards=True),
    }
    every = np.arange(len(outcomes.ids))
    heads: dict[str, Head] = {}
    settings: dict[str, float] = {}
    figures: dict[str, Any] = {"labels": _labels(sizes)}
    notes = [
        *NOTES,
        "A predicted size counts as the next larger one of the table.",
        "A problem that nothing solves counts as one that needs no hint.",
    ]
    for name, method in methods.items():
        threshold, found, own_notes = settle(method.choice, outcomes, seed)
        settings["threshold" if name == "proactive" else f"threshold-{name}"] = threshold
        heads |= {f"{name}-{stage}": head for stage, head in method.fit(every).items()}
        found["out_of_fold"] = method.stages(seed)
        figures |= found if name == "proactive" else {name: found}
        notes += [f"{name}: {line}" for line in own_notes]
        held = found["held_out"]
        say(f"{name}: held-out accuracy {held['accuracy']:.3f} at {amount(held['cost'], outcomes.pair.unit)}")
    return outcomes.predictor(
        seed,
        strategy="shepherding",
        heads=heads,
        settings=settings,
        signal_version=SIGNAL_VERSION,
        command=command,
        figures=figures,
        notes=tuple(notes),
    )


class _Method:
    """One method's features, its fits, and what its choices come to; where it `discards`, the intern answers first."""

    def __init__(self, ids: tuple[str, ...], features: Sequence[Features], sizes: _Sizes, *, discards: bool) -> None:
        self.features, self.sizes, self.needed = features, sizes, sizes.needed
        self.names = list(features[0])
        self.of_size = [name for name in self.names if name in _SIZE]
        extra = sizes.cost[0] * (np.arange(len(sizes.names)) > 0)[:, None] if discards else 0.0
        self.choice = Choice(
            ids=ids,
            names=sizes.names,
            right=sizes.right,
            cost=sizes.cost + extra,
            mentor_tokens=sizes.tokens,
            score=self._score,
            take=lambda scores, threshold: np.where(scores[:, 0] >= threshold, scores[:, 1], 0).astype(int),
            limits=(1.01, 0.0),
        )

    def fit(self, at: np.ndarray) -> dict[str, Head]:
        rows, needs = [self.features[k] for k in at], self.needed[at] > 0
        if needs.sum() < _FEWEST:
            raise UsageError(
                f"a hint helps {needs.sum()} of {len(at)} problems: too few to learn its size from; collect more"
            )
        hinted = np.flatnonzero(needs)
        return {
            "needs": fit_probability(rows, needs.astype(float), self.names, balanced=True),
            "size": fit_huber([rows[k] for k in hinted], np.log1p(self.needed[at][hinted]), self.of_size),
            "right": fit_probability(rows, self.sizes.right[0][at], self.names),
        }

    def stages(self, seed: int) -> dict[str, Any]:
        """Return the figures of each stage on problems that its fit has not seen."""
        ids, needs, right = self.choice.ids, (self.needed > 0).astype(float), self.sizes.right[0]
        of_needs = out_of_fold(
            ids, self.features, needs, lambda x, y: fit_probability(x, y, self.names, balanced=True), seed=seed
        )
        of_right = out_of_fold(ids, self.features, right, lambda x, y: fit_probability(x, y, self.names), seed=seed)
        hinted = np.flatnonzero(needs)
        log = np.log1p(self.needed[hinted])
        of_size = out_of_fold(
            [ids[k] for k in hinted],
            [self.features[k] for k in hinted],
            log,
            lambda x, y: fit_huber(x, y, self.of_size),
            seed=seed,
        )
        return {
            "needs": figure(needs.astype(int), of_needs),
            "right": figure(right.astype(int), of_right),
            "size": {
                "n": len(hinted),
                "error": round(float(np.abs(log - of_size).mean()), 4),  # of log(1 + tokens)
                "error_of_the_median": round(float(np.abs(log - np.median(log)).mean()), 4),
            },
        }

    def _score(self, train: np.ndarray, test: np.ndarray) -> np.ndarray:
        """Return how likely a hint is needed, and the option that is taken if one is requested, (test, 2)."""
        heads = self.fit(train)
        found = []
        for k in test:
            tokens = size_of(heads["size"].predict(self.features[k]))
            option = int(np.argmax(self.sizes.tokens[:, k] >= tokens)) if tokens <= self.sizes.tokens[-1, k] else -1
            found.append((heads["needs"].predict(self.features[k]), option % len(self.sizes.names)))
        return np.array(found)


def _sizes(outcomes: OutcomeTable, hints: Sequence[str]) -> _Sizes:
    """Return every size of hint; of several samples the first alone counts, as one problem is answered once."""
    names = (NONE, *hints, ANSWER)
    rows = [[samples[0] for samples in outcomes.rows(level)] for level in names]
    return _Sizes(
        names,
        tokens=np.array([[_tokens(row) for row in own] for own in rows]),
        right=np.array([[float(row["correct"]) for row in own] for own in rows]),
        cost=np.array([[outcomes.cost(i, row) for i, row in zip(outcomes.ids, own, strict=True)] for own in rows]),
    )


def _tokens(row: Row) -> int:
    tokens: int = row["completion_tokens"] if row["level"] == ANSWER else row.get("hint_tokens", 0)
    return tokens


def _reactive(outcomes: OutcomeTable) -> list[Features]:
    """Return the question's features with those of the intern's first whole answer."""
    answers = outcomes.answers()
    first = np.unique(answers.place, return_index=True)[1]
    keep = {*outcomes.questions()[0], *NAMES, TRUNCATED} - {_CONSTANT}
    return [{name: value for name, value in answers.features[k].items() if name in keep} for k in first]


def _labels(sizes: _Sizes) -> dict[str, float]:
    """Return the share of the problems whose smallest right hint is each size, and of those that nothing solves."""
    solved = sizes.right.any(axis=0)
    first = np.where(solved, np.argmax(sizes.right > 0, axis=0), -1)
    shares = {name: round(float((first == k).mean()), 4) for k, name in enumerate(sizes.names)}
    return shares | {"nothing": round(float((~solved).mean()), 4)}
