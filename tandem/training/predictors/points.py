"""The threshold of a choice between two ways: searched out of fold, and the search judged on problems it never saw.

A choice is the intern's answer or the mentor's, by one score against one threshold. Everything is grouped by problem.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tandem.ladder import ANSWER, parse_ladder
from tandem.statistics.intervals import Bootstrap, gain_of, interval
from tandem.statistics.reliability import figure
from tandem.training.aims import Aim, choose
from tandem.training.fit import dataset_of
from tandem.training.folds import folds
from tandem.training.predictors.outcomes import NONE, OutcomeTable
from tandem.training.replay import oracle
from tandem.training.search import DEGENERATE, Point

LADDER = parse_ladder(f"{NONE},{ANSWER}")
_QUANTILES = np.linspace(0.025, 0.975, 39)
_SMALL = 20  # problems of a data set below which it has no figures of its own


@dataclass(frozen=True, slots=True)
class ChoiceOutcome:
    """What one way makes of each row, all (rows,): 0..1 right, TFLOPs, tokens that the mentor writes."""

    right: np.ndarray
    tflops: np.ndarray
    mentor_tokens: np.ndarray


@dataclass(frozen=True, slots=True)
class ThresholdChoice:
    """Rows (a problem, or one sample of it), either way of each, and the score that chooses.

    `score(train, test)` fits on some rows (positions) and returns the scores of others. `hands(scores, threshold)` says
    which rows go to the mentor; at `limits` none does, and all do.
    """

    ids: tuple[str, ...]  # (rows,) the rows' problems
    intern: ChoiceOutcome
    mentor: ChoiceOutcome  # for a cascade with the discarded answer
    score: Callable[[np.ndarray, np.ndarray], np.ndarray]
    hands: Callable[[np.ndarray, float], np.ndarray]
    limits: tuple[float, float]

    def rows_of(self, problems: Sequence[str]) -> np.ndarray:
        """Return the positions of the rows of some problems."""
        wanted = set(problems)
        return np.array([k for k, i in enumerate(self.ids) if i in wanted], dtype=int)

    def out_of_fold(self, problems: Sequence[str], seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of some problems and their scores, each of a fit on those problems without the row's."""
        rows, scores = self.rows_of(problems), np.full(len(self.ids), np.nan)
        for kept, held in folds(problems, seed):
            test = self.rows_of(held)
            scores[test] = self.score(self.rows_of(kept), test)
        return rows, scores[rows]


@dataclass(frozen=True, slots=True)
class Ended:
    """How problems ended, all (problems,): 0..1 right, TFLOPs, mentor tokens, share handed to the mentor."""

    correct: np.ndarray
    tflops: np.ndarray
    mentor_tokens: np.ndarray
    handed: np.ndarray

    def describe(self) -> dict[str, Any]:
        """Return the means, for a file."""
        return {
            "accuracy": round(float(self.correct.mean()), 4),
            "tflops": round(float(self.tflops.mean()), 4),
            "mentor_tokens": round(float(self.mentor_tokens.mean()), 1),
            "mentor_share": round(float(self.handed.mean()), 4),
        }

    def only(self, where: np.ndarray) -> Ended:
        """Return some of the problems."""
        return Ended(self.correct[where], self.tflops[where], self.mentor_tokens[where], self.handed[where])


def ended(choice: ThresholdChoice, rows: np.ndarray, handed: np.ndarray) -> Ended:
    """Return how the problems of `rows` end, in the order of their ids; `handed` (rows,) go to the mentor."""
    names = np.array(choice.ids)[rows]
    problems, place = np.unique(names, return_inverse=True)
    counts = np.bincount(place, minlength=len(problems))

    def mean(stay: np.ndarray, go: np.ndarray) -> np.ndarray:
        found: np.ndarray = np.bincount(place, weights=np.where(handed, go[rows], stay[rows])) / counts
        return found

    intern, mentor = choice.intern, choice.mentor
    return Ended(
        mean(intern.right, mentor.right),
        mean(intern.tflops, mentor.tflops),
        mean(intern.mentor_tokens, mentor.mentor_tokens),
        mean(np.zeros(len(choice.ids)), np.ones(len(choice.ids))),
    )


def tried(
    scores: np.ndarray, limits: tuple[float, float], ends: Callable[[float], tuple[Ended, dict[str, float]]]
) -> list[Point]:
    """Return the points of the thresholds worth trying: both limits, and quantiles of the scores between them.

    `ends` says of a threshold how the problems end, and the share that ends in each way.
    """
    between = np.unique(np.round(np.quantile(scores, _QUANTILES), 4)).tolist()
    points = []
    for threshold in (limits[0], *between, limits[1]):
        found, shares = ends(threshold)
        right, cost, tokens = (float(a.mean()) for a in (found.correct, found.tflops, found.mentor_tokens))
        points.append(Point(LADDER, None, {NONE: float(threshold)}, None, right, cost, tokens, shares))
    return points


def search(
    choice: ThresholdChoice, problems: Sequence[str], anchor: tuple[float, float], seed: int
) -> tuple[Point, Point | None]:
    """Return the point for the default aim, and the one that hardly adapts and was passed over for it, if any.

    The aim (aims.choose): the cheapest point that is as accurate as the mentor alone and costs no more, else the most
    accurate of those that cost no more. `anchor` is accuracy and TFLOPs of the mentor alone on these problems.
    """
    rows, scores = choice.out_of_fold(problems, seed)

    def ends(threshold: float) -> tuple[Ended, dict[str, float]]:
        found = ended(choice, rows, choice.hands(scores, threshold))
        share = float(found.handed.mean())
        return found, {NONE: 1 - share, ANSWER: share}

    points = tried(scores, choice.limits, ends)
    return choose(points, Aim(), *anchor)


def judged(choice: ThresholdChoice, outcomes: OutcomeTable, seed: int) -> Ended:
    """Return how all problems end where each fold's threshold and fit come from the other folds; in the ids' order."""
    accuracy, cost = outcomes.right(ANSWER), outcomes.tflops(ANSWER)
    handed = np.zeros(len(choice.ids), dtype=bool)
    for kept, held in folds(outcomes.ids, seed):
        own = outcomes.places(kept)
        point, _ = search(choice, kept, (float(accuracy[own].mean()), float(cost[own].mean())), seed + 1)
        test = choice.rows_of(held)
        handed[test] = choice.hands(choice.score(choice.rows_of(kept), test), point.thresholds[NONE])
    return ended(choice, np.arange(len(choice.ids)), handed)


def settle(
    choice: ThresholdChoice, outcomes: OutcomeTable, labels: Mapping[str, tuple[np.ndarray, np.ndarray]], seed: int
) -> tuple[float, dict[str, Any], tuple[str, ...]]:
    """Return the threshold for all problems, the figures of a predictor, and what must be said beside them.

    `labels` are, by head, what happened (rows,) and the probabilities that were said out of fold (rows,).
    """
    anchors = anchors_of(outcomes)
    mentor = anchors["mentor-only"]
    point, passed_over = search(choice, outcomes.ids, (mentor.correct.mean(), mentor.tflops.mean()), seed)
    held = judged(choice, outcomes, seed)
    names = np.array([dataset_of(i) for i in outcomes.ids])
    found: dict[str, Any] = {
        "out_of_fold": {name: figure(np.round(y).astype(int), p) for name, (y, p) in labels.items()},
        "chosen": {
            "threshold": point.thresholds[NONE],
            "accuracy": round(point.accuracy, 4),
            "tflops": round(point.tflops, 4),
            "mentor_tokens": round(point.mentor_tokens, 1),
            "mentor_share": round(point.shares[ANSWER], 4),
        },
        "held_out": compared(held, anchors, seed),
        "held_out_by_set": {
            str(one): compared(held.only(names == one), {k: v.only(names == one) for k, v in anchors.items()}, seed)
            for one in np.unique(names)
            if (names == one).sum() >= _SMALL
        },
        "anchors": {name: ends.describe() for name, ends in anchors.items()},
    }
    return point.thresholds[NONE], found, tuple(_notes(point, passed_over, found))


def anchors_of(outcomes: OutcomeTable) -> dict[str, Ended]:
    """Return how all problems end with the intern alone, the mentor alone, and an oracle (of the first samples)."""
    found = {}
    for name, level, share in (("intern-only", NONE, 0.0), ("mentor-only", ANSWER, 1.0)):
        tokens = outcomes.mentor_tokens(level)
        found[name] = Ended(outcomes.right(level), outcomes.tflops(level), tokens, np.full(len(tokens), share))
    firsts = [
        {NONE: none[0], ANSWER: answer[0]}
        for none, answer in zip(outcomes.rows(NONE), outcomes.rows(ANSWER), strict=True)
    ]
    best = [oracle(own, (NONE, ANSWER), outcomes.pair) for own in firsts]
    found["oracle"] = Ended(
        np.array([float(one.correct) for one in best]),
        np.array([one.tflops for one in best]),
        np.array([float(one.mentor_tokens) for one in best]),
        np.array([float(one.level == ANSWER) for one in best]),
    )
    return found


def compared(held: Ended, anchors: Mapping[str, Ended], seed: int = 0) -> dict[str, Any]:
    """Return what was done on held-out problems: means, gain over the chord and loss against the mentor alone.

    Both have paired 95 % intervals over problems; the chord is a random mix of both models at the same TFLOPs.
    """
    boot = Bootstrap(len(held.correct), seed=seed)
    cheap, expensive = anchors["intern-only"], anchors["mentor-only"]
    return held.describe() | {
        "problems": len(held.correct),
        "gain_over_chord": interval(gain_of(boot, held, cheap, expensive)),
        "loss_against_mentor": interval(boot.mean(expensive.correct) - boot.mean(held.correct)),
    }


def _notes(point: Point, passed_over: Point | None, found: Mapping[str, Any]) -> list[str]:
    held, gain = found["held_out"], found["held_out"]["gain_over_chord"]
    notes = [
        "`chosen` is the best of many thresholds on the problems that chose it, so its figures are optimistic; "
        "`held_out` judges fit and choice together on problems that neither saw.",
        "Costs are replayed without any prefix cache.",
    ]
    if point.degenerate:
        notes.append(f"FAILURE: over {DEGENERATE:.0%} of the problems end with one model: it does not adapt.")
    elif passed_over:
        notes.append(
            f"To give {passed_over.shares[ANSWER]:.0%} of the problems to the mentor would serve the aim better "
            f"(accuracy {passed_over.accuracy:.3f}, {passed_over.tflops:.2f} TFLOPs); a point that hardly adapts is "
            "passed over."
        )
    for name in ("intern-only", "mentor-only"):
        other = found["anchors"][name]
        if other["accuracy"] >= held["accuracy"] and other["tflops"] <= held["tflops"]:
            notes.append(
                f"{name} serves better: accuracy {other['accuracy']:.3f} at {other['tflops']:.2f} TFLOPs, against "
                f"{held['accuracy']:.3f} at {held['tflops']:.2f}."
            )
    if gain["value"] is None:
        notes.append("The gain over a random mix of both models at the same cost is not known.")
    elif gain["low"] <= 0:
        said = f"(gain {gain['value']:+.3f}, 95 % interval {gain['low']:+.3f} to {gain['high']:+.3f})"
        notes.append(
            f"A random mix of both models at the same cost serves better {said}."
            if gain["high"] < 0
            else f"No gain over a random mix of both models at the same cost is shown {said}."
        )
    return notes
