"""Choosing the operating point: ladder, draft length, threshold and lambda, by replay on held-out problems.

The default aim is the cheapest point whose accuracy is at least the mentor's alone, else the best accuracy. A point
that sends over 90 % of the problems to one level does not adapt; such points are passed over and reported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from tandem.ladder import Effort, Ladder
from tandem.sufficiency.policy import Gain, Policy, PolicyCard
from tandem.sufficiency.replay import Pair, level_shares, mean_of, replay, walk
from tandem.sufficiency.training import Problems

DEGENERATE = 0.9
_THRESHOLDS = tuple(round(0.05 * i, 2) for i in range(1, 20))
_PRICES = (0.0, 0.05, 0.1, 0.2, 0.4)


@dataclass(frozen=True, slots=True)
class Point:
    """One way to run the policy, and what it does on the held-out problems."""

    ladder: Ladder
    draft: int | None
    threshold: float
    price: float
    accuracy: float
    tflops: float
    mentor_tokens: float
    shares: dict[str, float]

    @property
    def degenerate(self) -> bool:
        """Whether over 90 % of the problems end at one level."""
        return max(self.shares.values()) > DEGENERATE

    def describe(self) -> dict[str, Any]:
        """Return the point for a card."""
        return {
            "accuracy": round(self.accuracy, 4),
            "tflops": round(self.tflops, 4),
            "mentor_tokens": round(self.mentor_tokens, 1),
            "level_shares": {name: round(share, 4) for name, share in self.shares.items()},
        }


class FixedSufficiency:
    """A judge for replays, whose sufficiencies are known beforehand."""

    id = "replay"

    def sufficiency(self, level: Effort, signals: Mapping[str, float], insight_tokens: int) -> float:
        """Raise: a replay passes the value itself."""
        raise NotImplementedError


def card_of(ladder: Ladder, threshold: float, price: float, gains: Mapping[str, Mapping[str, Gain]]) -> PolicyCard:
    """Return the policy card of a point, without its stop shares."""
    names = {level.name for level in ladder}
    kept = {
        here: {there: gain for there, gain in later.items() if there in names}
        for here, later in gains.items()
        if here in names
    }
    thresholds = {level.name: threshold for level in ladder if not level.is_answer}
    return PolicyCard(thresholds=thresholds, price=price, gains=kept)


def ladders(full: Ladder) -> list[Ladder]:
    """Return every sub-ladder of two levels or more that begins with the first, so that what is free is tried first."""
    return [(full[0], *rest) for size in range(1, len(full)) for rest in combinations(full[1:], size)]


def search(
    problems: Problems,
    by_draft: Mapping[int | None, tuple[Mapping[str, Mapping[str, float]], Mapping[str, Mapping[str, Gain]]]],
    full: Ladder,
    pair: Pair,
) -> list[Point]:
    """Return every point of the grid; `by_draft` has sufficiencies and gains for each draft length."""
    points = []
    for draft, (p, gains) in by_draft.items():
        for ladder in ladders(full):
            walks = {i: walk(problems[i], ladder, pair, draft) for i in p}
            for threshold in _THRESHOLDS:
                for price in _PRICES:
                    policy = Policy(FixedSufficiency(), card_of(ladder, threshold, price, gains))
                    outcomes = [replay(steps, policy, p[i]) for i, steps in walks.items()]
                    found, shares = mean_of(outcomes), level_shares(outcomes, ladder)
                    points.append(Point(ladder, draft, threshold, price, shares=shares, **found))
    return points


def choose(points: Sequence[Point], goal: float) -> tuple[Point, Point | None]:
    """Return the point for the default aim among those that adapt, and the degenerate one it was preferred to, if any.

    `goal` is the mentor's own accuracy on the same problems, not rounded.
    """

    def best(candidates: Sequence[Point]) -> Point:
        enough = [point for point in candidates if point.accuracy >= goal]
        if enough:
            return min(enough, key=lambda point: (point.tflops, -point.accuracy))
        return max(candidates, key=lambda point: (point.accuracy, -point.tflops))

    overall = best(points)
    if not overall.degenerate:
        return overall, None
    adapting = [point for point in points if not point.degenerate]
    return (best(adapting), overall) if adapting else (overall, overall)
