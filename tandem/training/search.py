"""The operating points: every ladder, draft length, threshold and lambda, replayed on sufficiencies out of fold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from tandem.ladder import QUESTION, Ladder
from tandem.sufficiency.policy import PolicyCard, Upgrades
from tandem.sufficiency.rows import Levels, PCorrectLater, Sufficiencies
from tandem.training.replay import BatchReplay, LevelCosts, Pair, ReplayResult, gains, means, p_by_level

DEGENERATE = 0.9
OWN_THRESHOLD = 100  # problems that must come to a level before it has a threshold of its own
_THRESHOLDS = tuple(round(0.05 * i, 2) for i in range(1, 20))
_COST_WEIGHTS = (None, 0.0, 0.05, 0.1, 0.2, 0.4)  # None: thresholds alone, whatever is to be gained


@dataclass(frozen=True, slots=True)
class DraftPredictions:
    """Of a draft length: sufficiency by problem and level, the upgrades fitted on it, and their predictions."""

    p: Sufficiencies
    upgrades: Upgrades
    p_correct_later: PCorrectLater


@dataclass(frozen=True, slots=True)
class Point:
    """An operating point of the policy, and what it does on the problems that it was replayed on."""

    ladder: Ladder
    draft: int | None
    thresholds: Mapping[str, float]
    cost_weight: float | None  # lambda; None: thresholds alone
    accuracy: float
    cost: float
    mentor_tokens: float
    shares: Mapping[str, float]
    lost: float = 0.0  # share of problems that the ladder's last level has right and this point wrong
    won: float = 0.0  # and the reverse

    @property
    def degenerate(self) -> bool:
        """Whether over 90 % of the problems end at one level; `question` and `none` end with the same answer."""
        alone = sum(self.shares.get(name, 0.0) for name in (QUESTION, "none"))
        return max(alone, *self.shares.values()) > DEGENERATE

    def card(self, upgrades: Upgrades) -> PolicyCard:
        names = {level.name for level in self.ladder}
        kept = {
            here: {there: gain for there, gain in later.items() if there in names}
            for here, later in ({} if self.cost_weight is None else upgrades).items()
            if here in names
        }
        return PolicyCard(
            thresholds=dict(self.thresholds),
            cost_weight=self.cost_weight or 0.0,
            upgrades=kept,
            stop_shares=self.stop_shares,
        )

    @property
    def stop_shares(self) -> dict[str, float]:
        """Of the problems that reach a level, the share that ends there."""
        reach, found = 1.0, {}
        for level in self.ladder:
            share = self.shares[level.name]
            found[level.name] = round(min(share / reach, 1.0), 4) if reach > 1e-9 else 0.0
            reach -= share
        return found

    def describe(self) -> dict[str, Any]:
        shares = {name: round(share, 4) for name, share in self.shares.items()}
        return means(self.accuracy, self.cost, self.mentor_tokens) | {"level_shares": shares}


def ladders(full: Ladder) -> list[Ladder]:
    """Return every sub-ladder of two levels or more that begins with the first, so that what is free is tried first.

    Where the first is the question alone, those that begin with the second come too.
    """
    found = [(full[0], *rest) for size in range(1, len(full)) for rest in combinations(full[1:], size)]
    return found + (ladders(full[1:]) if full[0].is_question else [])


class Space:
    """Every operating point of a table: made once, replayed often."""

    def __init__(
        self,
        problems: Mapping[str, Levels],
        by_draft: Mapping[int | None, DraftPredictions],
        full: Ladder,
        pair: Pair,
        costs: LevelCosts | None = None,
    ) -> None:
        self._replays: dict[tuple[Ladder, int | None], BatchReplay] = {}
        self._known: dict[int | None, tuple[Any, Any]] = {}
        self.problems, self.by_draft, self.full, self.pair = problems, by_draft, full, pair
        self.ids = list(next(iter(by_draft.values())).p)
        self.costs = LevelCosts(problems, self.ids, pair) if costs is None else costs
        self._last = self.costs.column(full[-1].name, "correct") > 0

    def replay_of(self, ladder: Ladder, draft: int | None) -> BatchReplay:
        key = (ladder, draft)
        if key not in self._replays:
            if draft not in self._known:
                own = self.by_draft[draft]
                self._known[draft] = p_by_level(own.p), gains(own.p, own.upgrades, own.p_correct_later)
            p, gained = self._known[draft]
            self._replays[key] = BatchReplay(self.costs, p, ladder, draft, gained)
        return self._replays[key]

    def ends(self, point: Point) -> ReplayResult:
        """Return how each problem ends at a point; levels are positions in the full ladder."""
        many = self.replay_of(point.ladder, point.draft).run_many([point.thresholds], point.cost_weight)
        places = np.asarray([self.full.index(level) for level in point.ladder])
        return replace(many.first(), level=places[many.level[0]])

    def many(
        self, ladder: Ladder, draft: int | None, thresholds: Sequence[Mapping[str, float]], *cost_weights: float | None
    ) -> list[Point]:
        """Return the points of several sets of thresholds at each of the cost weights."""
        return self._many(ladder, draft, thresholds, cost_weights).points()

    def _many(
        self,
        ladder: Ladder,
        draft: int | None,
        thresholds: Sequence[Mapping[str, float]],
        cost_weights: Sequence[float | None],
    ) -> _Many:
        ends = self.replay_of(ladder, draft).run_many(thresholds, *cost_weights)
        right = ends.correct > 0
        means = [v.mean(axis=1) for v in (ends.correct, ends.cost, ends.mentor_tokens)]
        changed = [values.mean(axis=1) for values in (self._last & ~right, right & ~self._last)]
        shares = np.stack([(ends.level == k).mean(axis=1) for k in range(len(ladder))], axis=1)
        return _Many(ladder, draft, thresholds, cost_weights, np.stack([*means, *changed]), shares)

    def search(self, *, hand_over: bool = True, every: bool = False) -> list[Point]:
        """Return points of the grid, and around the best of them points with thresholds of each level's own.

        They are those that no other beats in both accuracy and cost, among all and among those that adapt; or `every`
        point. Without `hand_over` no ladder ends with the mentor's own answer.
        """
        tried = []
        for draft in self.by_draft:
            for ladder in ladders(self.full):
                if (ladder[-1].is_answer and not hand_over) or all(level.tokens == 0 for level in ladder):
                    continue  # or the mentor never writes anything
                insight = [level.name for level in ladder if not level.is_answer]
                common = [dict.fromkeys(insight, threshold) for threshold in _THRESHOLDS]
                tried.append(self._many(ladder, draft, common, _COST_WEIGHTS))
        if not tried:
            return []
        points = [point for many in tried for point in many.points()] if every else _best_of(tried)
        return points + [finer for point in frontier(points) for finer in self._around(point)]

    def _around(self, point: Point) -> list[Point]:
        """Return the neighbours of a point: another threshold at one level, where enough problems come to it."""
        reach, found = float(len(self.ids)), []
        for level in point.ladder[:-1]:
            if reach >= OWN_THRESHOLD:
                others = [
                    {**point.thresholds, level.name: threshold}
                    for threshold in _THRESHOLDS
                    if threshold != point.thresholds[level.name]
                ]
                found += self.many(point.ladder, point.draft, others, point.cost_weight)
            reach *= 1 - point.stop_shares[level.name]
        return found


@dataclass(frozen=True, slots=True)
class _Many:
    """Points of one ladder and draft as arrays: `figures` (5, sets) are those of a Point from its accuracy on."""

    ladder: Ladder
    draft: int | None
    thresholds: Sequence[Mapping[str, float]]
    cost_weights: Sequence[float | None]
    figures: np.ndarray
    shares: np.ndarray  # (sets, levels)

    @property
    def adapting(self) -> np.ndarray:
        """Whether each point is not degenerate, (sets,); as `Point.degenerate` has it."""
        first = [level.name in (QUESTION, "none") for level in self.ladder]
        alone = self.shares[:, first].sum(axis=1)
        top: np.ndarray = np.maximum(alone, self.shares.max(axis=1)) <= DEGENERATE
        return top

    def points(self, which: Sequence[int] | None = None) -> list[Point]:
        names = [level.name for level in self.ladder]
        found = []
        for k in range(self.figures.shape[1]) if which is None else which:
            weight, own = divmod(k, len(self.thresholds))
            accuracy, cost, mentor, lost, won = self.figures[:, k].tolist()
            shares = dict(zip(names, self.shares[k].tolist(), strict=True))
            how = self.ladder, self.draft, self.thresholds[own], self.cost_weights[weight]
            found.append(Point(*how, accuracy, cost, mentor, shares, lost, won))
        return found


def _best_of(tried: Sequence[_Many]) -> list[Point]:
    """Return the points that none beats, among all and among those that adapt, without making the others."""
    accuracy, cost = np.concatenate([many.figures[:2] for many in tried], axis=1)
    adapting = np.concatenate([many.adapting for many in tried])
    kept = set(_unbeaten(accuracy, cost)) | {
        int(k) for k in np.flatnonzero(adapting)[_unbeaten(accuracy[adapting], cost[adapting])]
    }
    same = np.flatnonzero(~np.concatenate([many.figures[3:].any(axis=0) for many in tried]))
    if len(same):  # right wherever the last level is, and nowhere else: what no other is sure to be better than
        kept.add(int(same[np.argmin(cost[same])]))
    starts = np.cumsum([0, *(many.figures.shape[1] for many in tried)])
    return [
        point
        for many, start, end in zip(tried, starts, starts[1:], strict=False)
        for point in many.points([k - int(start) for k in sorted(kept) if start <= k < end])
    ]


def _unbeaten(accuracy: np.ndarray, cost: np.ndarray) -> list[int]:
    """Return the positions of the points that no other one beats in both, from the cheapest up."""
    order = np.lexsort((-accuracy, cost))
    best = np.maximum.accumulate(np.concatenate([[-np.inf], accuracy[order]]))
    return [int(k) for k in order[accuracy[order] > best[:-1]]]


def frontier(points: Sequence[Point]) -> list[Point]:
    """Return the points that no other one beats in both accuracy and cost, from the cheapest up."""
    best: list[Point] = []
    for point in sorted(points, key=lambda point: (point.cost, -point.accuracy)):
        if not best or point.accuracy > best[-1].accuracy:
            best.append(point)
    return best
