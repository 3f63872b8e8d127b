"""A choice among several ways by one threshold: searched out of fold, and judged on problems that nothing saw.

`points.py` does the same for two ways. What each way makes of a problem is known from the table; which way is taken
follows from scores that are fitted on other problems. Everything is grouped by problem.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tandem.ladder import ANSWER
from tandem.training.aims import Aim, choose
from tandem.training.folds import folds
from tandem.training.predictors.outcomes import NONE, OutcomeTable
from tandem.training.predictors.points import Ended, anchors_of, compared, tried
from tandem.training.search import DEGENERATE, Point


@dataclass(frozen=True, slots=True)
class ManyWayChoice:
    """What may be done with a problem, and what comes of it: arrays (ways, problems), in the order of the ids.

    `score(train, test)` fits on some problems (positions) and returns what it says of others, (test, columns).
    `take(scores, threshold)` returns the way of each, (test,). The first `thresholds` columns are compared with the
    threshold; at `limits` it takes the cheapest and the dearest way always.
    """

    names: tuple[str, ...]  # the last is the mentor's own answer
    right: np.ndarray
    tflops: np.ndarray
    mentor_tokens: np.ndarray
    score: Callable[[np.ndarray, np.ndarray], np.ndarray]
    take: Callable[[np.ndarray, float], np.ndarray]
    limits: tuple[float, float]
    thresholds: int = 1

    def ended(self, at: np.ndarray, taken: np.ndarray) -> Ended:
        """Return how the problems at some positions end by the ways that are taken."""
        handed = (taken == len(self.names) - 1).astype(float)
        return Ended(self.right[taken, at], self.tflops[taken, at], self.mentor_tokens[taken, at], handed)

    def out_of_fold(self, ids: Sequence[str], at: np.ndarray, seed: int) -> np.ndarray:
        """Return the scores of the problems at some positions of `ids`, each of a fit on the others, (at, columns)."""
        place = {ids[k]: n for n, k in enumerate(at)}
        parts: list[tuple[list[int], np.ndarray]] = []
        for kept, held in folds(list(place), seed):
            there = [place[i] for i in held]
            parts.append((there, self.score(at[[place[i] for i in kept]], at[there])))
        found = np.empty((len(at), parts[0][1].shape[1]))
        for there, scores in parts:
            found[there] = scores
        return found


def search(ways: ManyWayChoice, outcomes: OutcomeTable, at: np.ndarray, seed: int) -> tuple[Point, Point | None]:
    """Return the point for the default aim on some problems, and a degenerate one that it was preferred to, if any."""
    scores = ways.out_of_fold(outcomes.ids, at, seed)

    def ends(threshold: float) -> tuple[Ended, dict[str, float]]:
        taken = ways.take(scores, threshold)
        return ways.ended(at, taken), shares_of(ways, taken)

    points = tried(scores[:, : ways.thresholds], ways.limits, ends)
    mentor = outcomes.right(ANSWER)[at].mean(), outcomes.tflops(ANSWER)[at].mean()
    return choose(points, Aim(), float(mentor[0]), float(mentor[1]))


def judged(ways: ManyWayChoice, outcomes: OutcomeTable, seed: int) -> np.ndarray:
    """Return the way of every problem where each fold's fit and threshold come from the other folds, (problems,)."""
    taken = np.empty(len(outcomes.ids), dtype=int)
    for kept, held in folds(outcomes.ids, seed):
        train, test = outcomes.places(kept), outcomes.places(held)
        point, _ = search(ways, outcomes, train, seed + 1)
        taken[test] = ways.take(ways.score(train, test), point.thresholds[NONE])
    return taken


def settle(ways: ManyWayChoice, outcomes: OutcomeTable, seed: int) -> tuple[float, dict[str, Any], list[str]]:
    """Return the threshold for all problems, the figures of what it does, and what must be said beside them."""
    every = np.arange(len(outcomes.ids))
    point, passed_over = search(ways, outcomes, every, seed)
    taken = judged(ways, outcomes, seed)
    anchors = anchors_of(outcomes)
    held = compared(ways.ended(every, taken), anchors, seed) | {"way_shares": _rounded(shares_of(ways, taken))}
    always = {name: ways.ended(every, np.full(len(every), k)).describe() for k, name in enumerate(ways.names)}
    figures = {
        "chosen": {"threshold": point.thresholds[NONE]}
        | {"accuracy": round(point.accuracy, 4), "tflops": round(point.tflops, 4)}
        | {"mentor_tokens": round(point.mentor_tokens, 1), "way_shares": _rounded(point.shares)},
        "held_out": held,
        "always": always,
        "anchors": {name: ends.describe() for name, ends in anchors.items()},
    }
    return point.thresholds[NONE], figures, _notes(point, passed_over, figures)


def shares_of(ways: ManyWayChoice, taken: np.ndarray) -> dict[str, float]:
    """Return the share of the problems that takes each way."""
    return {name: float((taken == k).mean()) for k, name in enumerate(ways.names)}


def _rounded(shares: Mapping[str, float]) -> dict[str, float]:
    return {name: round(share, 4) for name, share in shares.items()}


def _notes(point: Point, passed_over: Point | None, figures: dict[str, Any]) -> list[str]:
    held, notes = figures["held_out"], []
    if point.degenerate:
        notes.append(f"FAILURE: over {DEGENERATE:.0%} of the problems end in one way: it does not adapt.")
    elif passed_over:
        way, share = max(passed_over.shares.items(), key=lambda one: one[1])
        notes.append(
            f"A point that takes the way '{way}' for {share:.0%} of the problems would serve the aim better (accuracy "
            f"{passed_over.accuracy:.3f}, {passed_over.tflops:.2f} TFLOPs) and was passed over."
        )
    for name in ("intern-only", "mentor-only"):
        other = figures["anchors"][name]
        if other["accuracy"] >= held["accuracy"] and other["tflops"] <= held["tflops"]:
            notes.append(
                f"{name} serves better: accuracy {other['accuracy']:.3f} at {other['tflops']:.2f} TFLOPs, against "
                f"{held['accuracy']:.3f} at {held['tflops']:.2f}."
            )
    gain = held["gain_over_chord"]
    if gain["low"] is None or gain["low"] <= 0:
        value = "" if gain["value"] is None else f" ({gain['value']:+.3f}, {gain['low']:+.3f} to {gain['high']:+.3f})"
        notes.append(f"No gain over a random mix of both models at the same cost is shown{value}.")
    return notes
