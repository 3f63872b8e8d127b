"""Replaying a collected table: what a policy would have answered, and at what cost, without calling a model.

A problem is a dict of level name to row (collection/ writes them). Costs are in one unit, by the pair's rates
(costs.py): without a prefix cache every draft prefills its whole prompt; with one (`Pair.prefix_cache`) a draft
prefills what is new since the draft before it. The insight is charged as one generation that ends at the level
reached: a thrifty mentor without a cache re-reads more, an eager one overshoots. The same policy replayed with a pair
in another unit decides the same and costs otherwise.

`walk` follows strategies/tandem.py through one problem; `BatchReplay` decides for all problems at once, as
`Policy.verdict` does for one: a search tries thousands of operating points on hundreds of problems.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tandem.costs import Rates, Unit, pair_rates
from tandem.ladder import ANSWER, Effort, Ladder
from tandem.spec import ModelSpec
from tandem.sufficiency.policy import PLACES, PolicyCard, Upgrades
from tandem.sufficiency.rows import Levels, PCorrectLater, Row, Sufficiencies, is_mentors

BLOCK = 16  # tokens; what vLLM's prefix cache keeps or drops as one
_FIELDS = ("correct", "cost", "mentor_tokens")


@dataclass(frozen=True, slots=True)
class Outcome:
    level: str
    correct: bool
    cost: float  # in the pair's unit
    mentor_tokens: int


@dataclass(frozen=True)
class Pair:
    """The two specs that a replay counts costs by, in one unit. Raises UnknownRatesError where one has no rates in it.

    `prefix_cache`: the intern's server keeps prompts.
    """

    mentor: ModelSpec
    intern: ModelSpec
    prefix_cache: bool = False
    unit: Unit = "tflops"
    mentor_rates: Rates = field(init=False, repr=False)
    intern_rates: Rates = field(init=False, repr=False)

    def __post_init__(self) -> None:
        mentor, intern = pair_rates(self.mentor, self.intern, self.unit)
        object.__setattr__(self, "mentor_rates", mentor)
        object.__setattr__(self, "intern_rates", intern)

    @property
    def begins_answer(self) -> bool:
        """Whether the mentor's insight is the beginning of its own answer (`prefix` mode)."""
        return self.mentor.insight_mode == "prefix"

    def insight(self, row: Row) -> float:
        """Return the cost of the mentor's one generation up to this level."""
        tokens = row["insight_tokens"]
        return self.mentor_rates.cost(row["mentor_prompt_tokens"], 0, tokens) if tokens else 0.0

    def answer(self, row: Row, before: Row | None = None) -> float:
        """Return the cost of the whole answer in this row, whoever wrote it; `before` is the last level drafted."""
        prompt, written = row["prompt_tokens"], row["completion_tokens"]
        if is_mentors(row["level"]):
            return self.mentor_rates.cost(prompt, 0, written)
        read = row.get("insight_tokens", 0)
        return self.intern_rates.cost(prompt, self._cached(row, before), written, read_tokens=read)

    def draft(self, row: Row, tokens: int | None, before: Row | None = None) -> float:
        """Return the cost of a discarded draft of `tokens` (None: the whole answer)."""
        written = row["completion_tokens"] if tokens is None else min(tokens, row["completion_tokens"])
        return self.intern_rates.cost(row["prompt_tokens"], self._cached(row, before), written, discarded=True)

    def _cached(self, row: Row, before: Row | None) -> int:
        """Prompt tokens that the cache holds: the earlier, shorter prompt in whole blocks."""
        if not self.prefix_cache or before is None or is_mentors(row["level"]):
            return 0
        shared: int = min(before["prompt_tokens"], row["prompt_tokens"] - 1)
        return shared // BLOCK * BLOCK


def fixed(problem: Levels, level: str, pair: Pair) -> Outcome:
    row = problem[level]
    alone = is_mentors(level)
    mentor = row["completion_tokens"] if alone else row["insight_tokens"]
    insight = 0.0 if alone else pair.insight(row)
    return Outcome(level, bool(row["correct"]), insight + pair.answer(row), mentor)


@dataclass(frozen=True, slots=True)
class Step:
    """A level that the walk comes to, with what each verdict there would make of the problem."""

    level: Effort
    later: Ladder
    stop: Outcome
    answer: Outcome | None  # after the mentor's own answer instead; None where there is none, or where the walk ends


def walk(problem: Levels, ladder: Ladder, pair: Pair, draft: int | None) -> list[Step]:
    """Return the levels that a policy which never stops would come to.

    The walk is that of strategies/tandem.py: levels that add nothing are passed over, and a mentor whose insight begins
    its answer ends that one.
    """
    steps: list[Step] = []
    cost, read, before = 0.0, -1, 0.0  # without an answer: cost so far, mentor tokens, and the cost of those
    drafted: Row | None = None

    def by_mentor() -> Outcome:
        row = problem[ANSWER]
        spent, tokens = (cost - before, 0) if pair.begins_answer else (cost, max(read, 0))
        tokens += row["completion_tokens"]
        return Outcome(ANSWER, bool(row["correct"]), spent + pair.answer(row), tokens)

    for position, level in enumerate(ladder):
        row = problem[level.name]
        if level.is_answer or (pair.begins_answer and ladder[-1].is_answer and row.get("insight_finished")):
            steps.append(Step(ladder[-1], (), by_mentor(), None))
            break
        if level.is_question:
            later = ladder[position + 1 :]
            alone = Outcome(level.name, bool(row["correct"]), pair.answer(row), 0)
            steps.append(Step(level, later, alone, by_mentor() if later and later[-1].is_answer else None))
            continue
        tokens = row["insight_tokens"]
        later = tuple(e for e in ladder[position + 1 :] if e.is_answer or not row.get("insight_finished"))
        if tokens == read and later:
            continue
        insight = pair.insight(row)
        cost, read, before = cost + insight - before, tokens, insight
        total = cost + pair.answer(row, drafted)
        stop = Outcome(level.name, bool(row["correct"]), total, tokens)
        cost += pair.draft(row, draft, drafted)
        drafted = row
        answered = by_mentor() if later and later[-1].is_answer else None
        steps.append(Step(level, later, stop, answered))
        if not later:
            break
    return steps


def oracle(problem: Levels, levels: Sequence[str], pair: Pair) -> Outcome:
    """Return the cheapest right level, else the cheapest level."""
    outcomes = sorted((fixed(problem, level, pair) for level in levels), key=lambda o: o.cost)
    return next((o for o in outcomes if o.correct), outcomes[0])


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """How each problem ended, all of shape (problems,): the level's position in the ladder, and what it cost."""

    level: np.ndarray
    correct: np.ndarray
    cost: np.ndarray
    mentor_tokens: np.ndarray

    @classmethod
    def of(cls, outcomes: Sequence[Outcome], level: int = 0) -> ReplayResult:
        columns = [np.asarray([getattr(o, field) for o in outcomes], dtype=float) for field in _FIELDS]
        return cls(np.full(len(outcomes), level), *columns)

    @classmethod
    def join(cls, parts: Sequence[ReplayResult]) -> ReplayResult:
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("level", *_FIELDS)))

    def means(self) -> dict[str, float]:
        return means(self.correct, self.cost, self.mentor_tokens)

    def first(self) -> ReplayResult:
        return ReplayResult(*(getattr(self, name)[0] for name in ("level", *_FIELDS)))


def means(correct: Any, cost: Any, mentor_tokens: Any) -> dict[str, float]:
    """Return the means of replayed problems (or of what is one already), rounded as in every file."""
    return {
        "accuracy": round(float(np.mean(correct)), 4),
        "cost": rounded(float(np.mean(cost))),
        "mentor_tokens": round(float(np.mean(mentor_tokens)), 1),
    }


def rounded(cost: float) -> float:
    """Return a mean cost with the digits that a file keeps: US$ a problem are small."""
    return float(f"{cost:.6g}")


class BatchVerdicts:
    """`Policy.verdict` level by level for many problems at once; a problem's last level always ends it.

    `p` and `present` are (levels, problems): the sufficiency, and whether the problem comes to the level; `later`
    (levels, levels, problems) says which levels may still follow. `upgrades` are, by the positions of two levels, the
    gain in correctness (problems,) and its cost.
    """

    def __init__(
        self,
        ladder: Ladder,
        p: np.ndarray,
        present: np.ndarray,
        later: np.ndarray,
        upgrades: Mapping[tuple[int, int], tuple[np.ndarray, float]] | None = None,
    ) -> None:
        self.ladder = ladder
        self._p, self._present, self._later = p, present, later
        self._upgrades = dict(upgrades or {})
        self._verdicts: dict[tuple[int, float | None], tuple[np.ndarray, np.ndarray]] = {}

    def decide(
        self, thresholds: Sequence[Mapping[str, float]], cost_weight: float | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the position where each problem ends, and whether by handing over, both (sets, problems).

        `thresholds` are several sets, by level. Without a `cost_weight` the thresholds decide alone.
        """
        shape = (len(thresholds), self._p.shape[1])
        at, handed_over = np.full(shape, -1), np.zeros(shape, dtype=bool)
        for k, effort in enumerate(self.ladder):
            here = (at < 0) & self._present[k]
            if effort.is_answer:
                ends = here
            else:
                always, otherwise = self._verdict(k, cost_weight)
                enough = always | (self._p[k] >= np.asarray([[own[effort.name]] for own in thresholds]))
                ends = here & (enough | otherwise)
                handed_over |= ends & ~enough
            at = np.where(ends, k, at)
        if (at < 0).any():
            raise ValueError("the ladder has no level that completes")
        return at, handed_over

    def _verdict(self, k: int, cost_weight: float | None) -> tuple[np.ndarray, np.ndarray]:
        """Return where `Policy.verdict` stops whatever the threshold, and where it answers if it does not stop."""
        if (k, cost_weight) in self._verdicts:
            return self._verdicts[k, cost_weight]
        later, last = self._later[k], self.ladder[-1].is_answer
        size = self._p.shape[1]
        best, best_is_answer, known = np.full(size, -np.inf), np.zeros(size, bool), np.zeros(size, bool)
        for j in sorted(range(k + 1, len(self.ladder)), key=lambda j: self.ladder[j].name):  # as ties are broken there
            if cost_weight is None or (k, j) not in self._upgrades:
                continue
            more, cost = self._upgrades[k, j]
            net_gain = np.where(later[j], np.round(more - cost_weight * cost, PLACES), -np.inf)
            best_is_answer = np.where(net_gain >= best, self.ladder[j].is_answer, best_is_answer)
            best, known = np.maximum(best, net_gain), known | later[j]
        only_answer = later[-1] & (later.sum(axis=0) == 1) if last else np.zeros(size, dtype=bool)
        answer = np.where(known, best_is_answer & last, only_answer)
        self._verdicts[k, cost_weight] = ~later.any(axis=0) | (known & (best <= 0)), answer
        return self._verdicts[k, cost_weight]


class BatchReplay(BatchVerdicts):
    """The walks of many problems through one ladder with one draft length, ready to be replayed together."""

    def __init__(
        self,
        problems: Mapping[str, Levels],
        p: Sufficiencies,
        ladder: Ladder,
        pair: Pair,
        draft: int | None,
        upgrades: Upgrades | None = None,
        p_correct_later: PCorrectLater | None = None,
    ) -> None:
        """`p` is the sufficiency by problem and level; its problems are replayed, in its order.

        `p_correct_later` are the upgrades' predictions, by problem, level and later level.
        """
        size, count = len(p), len(ladder)
        present, later = np.zeros((count, size), dtype=bool), np.zeros((count, count, size), dtype=bool)
        self._outcomes = np.zeros((2, count, len(_FIELDS), size))  # where it stops, and where it hands over
        place = {level.name: k for k, level in enumerate(ladder)}
        for n, i in enumerate(p):
            for step in walk(problems[i], ladder, pair, draft):
                k = place[step.level.name]
                present[k, n] = True
                for further in step.later:
                    later[k, place[further.name], n] = True
                for handed_over, outcome in enumerate((step.stop, step.answer)):
                    if outcome is not None:
                        self._outcomes[handed_over, k, :, n] = [getattr(outcome, field) for field in _FIELDS]
        by_level = _by_level(p, ladder)
        gained = {
            (place[here], place[there]): (
                np.asarray([(p_correct_later or {})[i][here][there] for i in p]) - by_level[place[here]],
                upgrade.cost,
            )
            for here, own in (upgrades or {}).items()
            for there, upgrade in own.items()
            if here in place and there in place
        }
        super().__init__(ladder, by_level, present, later, gained)

    def predicting(self, p: Sufficiencies) -> BatchReplay:
        """Return the same walks under other sufficiencies of the same problems in the same order; without upgrades."""
        other = copy(self)
        other._p, other._upgrades, other._verdicts = _by_level(p, self.ladder), {}, {}
        return other

    def run(self, card: PolicyCard) -> ReplayResult:
        """Return how every problem ends under a policy's thresholds and cost weight; the upgrades are given already."""
        thresholds = {level.name: card.threshold(level.name) for level in self.ladder}
        return self.run_many([thresholds], card.cost_weight).first()

    def run_many(self, thresholds: Sequence[Mapping[str, float]], cost_weight: float | None) -> ReplayResult:
        """Return the results of several sets of thresholds at one cost weight, all (sets, problems); see `decide`."""
        at, handed_over = self.decide(thresholds, cost_weight)
        found = self._outcomes[handed_over.astype(int), at, :, np.arange(at.shape[1])]
        return ReplayResult(np.where(handed_over, len(self.ladder) - 1, at), *np.moveaxis(found, -1, 0))


def _by_level(p: Sufficiencies, ladder: Ladder) -> np.ndarray:
    """Return sufficiencies as (levels, problems); 1 where a level has none."""
    return np.asarray([[by_level.get(level.name, 1.0) for by_level in p.values()] for level in ladder])


def replay_fixed(problems: Mapping[str, Levels], ids: Sequence[str], level: str, pair: Pair) -> ReplayResult:
    return ReplayResult.of([fixed(problems[i], level, pair) for i in ids])
