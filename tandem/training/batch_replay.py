"""A replay of all problems at once: what `replay.replay` does one by one, in numpy.

A search tries thousands of operating points on hundreds of problems; one point takes a fraction of a millisecond here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass

import numpy as np

from tandem.ladder import Ladder
from tandem.sufficiency.policy import PLACES, PolicyCard
from tandem.sufficiency.rows import Levels
from tandem.training.replay import Outcome, Pair, fixed, walk
from tandem.training.upgrades import PCorrectLater, Upgrades

_FIELDS = ("correct", "tflops", "published", "mentor_tokens")


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """How each problem ended, all of shape (problems,): the level's position in the ladder, and what it cost."""

    level: np.ndarray
    correct: np.ndarray
    tflops: np.ndarray
    published: np.ndarray
    mentor_tokens: np.ndarray

    @classmethod
    def of(cls, outcomes: Sequence[Outcome], level: int = 0) -> ReplayResult:
        """Return outcomes that all ended at one level as arrays."""
        columns = [np.asarray([getattr(o, field) for o in outcomes], dtype=float) for field in _FIELDS]
        return cls(np.full(len(outcomes), level), *columns)

    def first(self) -> ReplayResult:
        """Return the first of several sets of thresholds."""
        return ReplayResult(*(getattr(self, name)[0] for name in ("level", *_FIELDS)))

    @classmethod
    def join(cls, parts: Sequence[ReplayResult]) -> ReplayResult:
        """Return several sets of problems as one."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("level", *_FIELDS)))


class BatchReplay:
    """The walks of many problems through one ladder with one draft length, ready to be replayed together."""

    def __init__(
        self,
        problems: Mapping[str, Levels],
        p: Mapping[str, Mapping[str, float]],
        ladder: Ladder,
        pair: Pair,
        draft: int | None,
        upgrades: Upgrades,
        p_correct_later: PCorrectLater,
    ) -> None:
        """`p` is the sufficiency by problem and level; its problems are replayed, in its order.

        `p_correct_later` are those of the upgrades, by problem, level and later level.
        """
        self.ladder = ladder
        size, count = len(p), len(ladder)
        self._present = np.zeros((count, size), dtype=bool)
        self._later = np.zeros((count, count, size), dtype=bool)  # by level, by later level
        self._stop = np.zeros((count, 4, size))
        self._answer = np.zeros((count, 4, size))
        self._p = np.zeros((count, size))
        place = {level.name: k for k, level in enumerate(ladder)}
        for n, (i, by_level) in enumerate(p.items()):
            for step in walk(problems[i], ladder, pair, draft):
                k = place[step.level.name]
                self._present[k, n] = True
                self._stop[k, :, n] = [getattr(step.stop, field) for field in _FIELDS]
                self._p[k, n] = by_level.get(step.level.name, 1.0)
                for later in step.later:
                    self._later[k, place[later.name], n] = True
                if step.answer is not None:
                    self._answer[k, :, n] = [getattr(step.answer, field) for field in _FIELDS]
        self._verdicts: dict[tuple[int, float | None], tuple[np.ndarray, np.ndarray]] = {}
        self._p_correct_later = {
            (here, there): (np.asarray([p_correct_later[i][here][there] for i in p]) - self._p[place[here]], gain.cost)
            for here, later in upgrades.items()
            for there, gain in later.items()
            if here in place and there in place
        }

    def judged(self, p: Mapping[str, Mapping[str, float]]) -> BatchReplay:
        """Return the same walks under other sufficiencies of the same problems in the same order; without upgrades."""
        other = copy(self)
        other._p = np.asarray([[by_level.get(level.name, 1.0) for by_level in p.values()] for level in self.ladder])
        other._p_correct_later = {}
        return other

    def ends(self, card: PolicyCard) -> ReplayResult:
        """Return how every problem ends under a policy's thresholds and cost weight; the upgrades are given already."""
        return self.many([card.thresholds], card.cost_weight).first()

    def many(self, thresholds: Sequence[Mapping[str, float]], cost_weight: float | None) -> ReplayResult:
        """Return the ends for each of several sets of thresholds at one cost_weight, shape (sets, problems).

        Without a cost_weight the thresholds decide alone, whatever is to be gained.
        """
        shape = (len(thresholds), self._p.shape[1])
        active = np.ones(shape, dtype=bool)
        level, found = np.zeros(shape, dtype=int), np.zeros((4, *shape))
        for k, effort in enumerate(self.ladder):
            here = active & self._present[k]
            if effort.is_answer:
                stop, answer = here, np.zeros(shape, dtype=bool)
            else:
                bound = np.asarray([[own[effort.name]] for own in thresholds])
                always, otherwise = self._verdict(k, cost_weight)
                enough = always | (self._p[k] >= bound)
                stop, answer = here & enough, here & ~enough & otherwise
            level = np.where(stop, k, np.where(answer, len(self.ladder) - 1, level))
            found = np.where(stop, self._stop[k][:, None], np.where(answer, self._answer[k][:, None], found))
            active &= ~(stop | answer)
        if active.any():
            raise ValueError("the ladder has no level that completes")
        return ReplayResult(level, *found)

    def _verdict(self, k: int, cost_weight: float | None) -> tuple[np.ndarray, np.ndarray]:
        """Return where `Policy.verdict` stops whatever the threshold, and where it answers if it does not stop."""
        if (k, cost_weight) in self._verdicts:
            return self._verdicts[k, cost_weight]
        name, later = self.ladder[k].name, self._later[k]
        last = self.ladder[-1].is_answer
        size = self._p.shape[1]
        worth, best_is_answer, known = np.full(size, -np.inf), np.zeros(size, bool), np.zeros(size, bool)
        for j in sorted(range(k + 1, len(self.ladder)), key=lambda j: self.ladder[j].name):
            if cost_weight is None or (name, self.ladder[j].name) not in self._p_correct_later:
                continue
            more, cost = self._p_correct_later[name, self.ladder[j].name]
            value = np.where(later[j], np.round(more - cost_weight * cost, PLACES), -np.inf)
            best_is_answer = np.where(value >= worth, self.ladder[j].is_answer, best_is_answer)
            worth, known = np.maximum(worth, value), known | later[j]
        only_answer = later[-1] & (later.sum(axis=0) == 1) if last else np.zeros(size, dtype=bool)
        answer = np.where(known, best_is_answer & last, only_answer)
        self._verdicts[k, cost_weight] = ~later.any(axis=0) | (known & (worth <= 0)), answer
        return self._verdicts[k, cost_weight]


def fixed_ends(problems: Mapping[str, Levels], ids: Sequence[str], level: str, pair: Pair) -> ReplayResult:
    """Return how problems end when one level is always used."""
    return ReplayResult.of([fixed(problems[i], level, pair) for i in ids])
