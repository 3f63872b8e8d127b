"""Replaying a collected table: what a policy would have answered, and at what cost, without calling a model.

A problem is a dict of level name to row (collection/ writes them). Costs are in one unit, by the pair's rates
(costs.py): without a prefix cache every draft prefills its whole prompt; with one (`Pair.prefix_cache`) a draft
prefills what is new since the draft before it. The insight is charged as one generation that ends at the level
reached: a thrifty mentor without a cache re-reads more, an eager one overshoots. The same policy replayed with a pair
in another unit decides the same and costs otherwise.

`BatchReplay` walks all problems at once through a ladder, as strategies/tandem.py walks one, and decides as
`Policy.verdict` does: a search tries thousands of operating points on hundreds of problems. Levels that add nothing are
passed over, and a mentor whose insight begins its answer ends that one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from tandem.costs import Rates, Unit, pair_rates
from tandem.ladder import ANSWER, Ladder
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
        read = row.get("insight_tokens", 0) or row.get("hint_tokens", 0)
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


class LevelCosts:
    """What each level of each problem costs in a pair's unit, and the rows' columns: arrays (problems,), made once.

    `before` says, by level, in which problems that one was drafted last: what the prefix cache holds.
    """

    def __init__(self, problems: Mapping[str, Levels], ids: Sequence[str], pair: Pair) -> None:
        self.pair, self._problems = pair, [problems[i] for i in ids]
        self._known: dict[tuple[Any, ...], np.ndarray] = {}

    def __len__(self) -> int:
        return len(self._problems)

    def column(self, level: str, name: str) -> np.ndarray:
        """Return a number of each row at a level; 0 where it has none."""
        return self._made((level, name), lambda levels: levels[level].get(name) or 0)

    def fixed(self, level: str) -> np.ndarray:
        """Return the cost of always using a level."""
        return self.answer(level) + (0.0 if is_mentors(level) else self.insight(level))

    def insight(self, level: str) -> np.ndarray:
        return self._made((level,), lambda levels: self.pair.insight(levels[level]))

    def answer(self, level: str, before: Mapping[str, np.ndarray] | None = None) -> np.ndarray:
        def cost(levels: Levels, last: str) -> float:
            return self.pair.answer(levels[level], levels.get(last))

        return self._after(("answer", level), cost, before)

    def draft(self, level: str, tokens: int | None, before: Mapping[str, np.ndarray] | None = None) -> np.ndarray:
        """Return the cost of a discarded draft of `tokens` (None: the whole answer)."""

        def cost(levels: Levels, last: str) -> float:
            return self.pair.draft(levels[level], tokens, levels.get(last))

        return self._after(("draft", level, tokens), cost, before)

    def _after(
        self, key: tuple[Any, ...], cost: Callable[..., float], before: Mapping[str, np.ndarray] | None
    ) -> np.ndarray:
        found = self._made((*key, ""), partial(cost, last=""))
        for last, where in (before or {}).items() if self.pair.prefix_cache else ():
            if where.any():
                found = np.where(where, self._made((*key, last), partial(cost, last=last)), found)
        return found

    def _made(self, key: tuple[Any, ...], value: Callable[[Levels], float]) -> np.ndarray:
        if key not in self._known:
            self._known[key] = np.asarray([value(levels) for levels in self._problems], dtype=float)
        return self._known[key]


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

    @property
    def present(self) -> np.ndarray:
        """Whether each problem comes to each level if nothing ends it before, shape (levels, problems)."""
        return self._present

    def decide(
        self, thresholds: Sequence[Mapping[str, float]], *cost_weights: float | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the position where each problem ends, and whether by handing over, both (sets, problems).

        `thresholds` are several sets, by level; all of them come with the first cost weight, then with the next. With
        None for a weight the thresholds decide alone.
        """
        shape = (len(cost_weights), len(thresholds), self._p.shape[1])
        at, handed_over = np.full(shape, -1), np.zeros(shape, dtype=bool)
        for k, effort in enumerate(self.ladder):
            here = (at < 0) & self._present[k]
            if effort.is_answer:
                ends = here
            else:
                always, otherwise = (
                    np.stack(found)[:, None, :]
                    for found in zip(*(self._verdict(k, weight) for weight in cost_weights), strict=True)
                )
                enough = always | (self._p[k] >= np.asarray([[own[effort.name]] for own in thresholds]))
                ends = here & (enough | otherwise)
                handed_over |= ends & ~enough
            at[ends] = k
        if (at < 0).any():
            raise ValueError("the ladder has no level that completes")
        return at.reshape(-1, shape[2]), handed_over.reshape(-1, shape[2])

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
        costs: LevelCosts,
        p: Mapping[str, np.ndarray],
        ladder: Ladder,
        draft: int | None,
        upgrades: Mapping[tuple[str, str], tuple[np.ndarray, float]] | None = None,
    ) -> None:
        """`p` is the sufficiency by level, (problems,); `upgrades` by two levels what is gained, and its cost."""
        size, count = len(costs), len(ladder)
        present, later = np.zeros((count, size), dtype=bool), np.zeros((count, count, size), dtype=bool)
        self._outcomes = np.zeros((2, count, len(_FIELDS), size))  # where it stops, and where it hands over
        self._walk(costs, ladder, draft, present, later)
        place = {level.name: k for k, level in enumerate(ladder)}
        gained = {
            (place[here], place[there]): own
            for (here, there), own in (upgrades or {}).items()
            if here in place and there in place
        }
        super().__init__(ladder, _stacked(p, ladder, size), present, later, gained)

    @classmethod
    def of(
        cls,
        problems: Mapping[str, Levels],
        p: Sufficiencies,
        ladder: Ladder,
        pair: Pair,
        draft: int | None,
        upgrades: Upgrades | None = None,
        p_correct_later: PCorrectLater | None = None,
    ) -> BatchReplay:
        """Return the replay of the problems that have a sufficiency, in that order; predictions are by problem."""
        by_level = p_by_level(p)
        gained = gains(p, upgrades or {}, p_correct_later or {})
        return cls(LevelCosts(problems, tuple(p), pair), by_level, ladder, draft, gained)

    def _walk(
        self, costs: LevelCosts, ladder: Ladder, draft: int | None, present: np.ndarray, later: np.ndarray
    ) -> None:
        """Fill in where a policy that never stops would come, and what each verdict there makes of the problem."""
        size = present.shape[1]
        cost, before = np.zeros(size), np.zeros(size)  # so far without an answer, and its part that is the mentor's
        read, drafted = np.full(size, -1.0), np.full(size, -1)  # mentor tokens; the position of the level drafted last
        going, answers, begins = np.ones(size, dtype=bool), ladder[-1].is_answer, costs.pair.begins_answer
        names = [level.name for level in ladder]

        def by_mentor() -> tuple[np.ndarray, ...]:
            spent, tokens = (cost - before, 0.0) if begins else (cost, np.maximum(read, 0.0))
            written = tokens + costs.column(ANSWER, "completion_tokens")
            return costs.column(ANSWER, "correct"), spent + costs.answer(ANSWER), written

        def ends(k: int, where: np.ndarray, outcome: tuple[np.ndarray, ...], *, handed_over: bool = False) -> None:
            self._outcomes[int(handed_over), k][:, where] = np.stack(outcome)[:, where]

        for k, level in enumerate(ladder):
            finished = costs.column(level.name, "insight_finished") > 0
            over = going & (level.is_answer | (begins and answers) & finished)
            if over.any():
                present[-1] |= over
                ends(-1, over, by_mentor())
                going &= ~over
            if level.is_answer:
                break
            if level.is_question:
                present[k], later[k, k + 1 :] = going, going
                ends(k, going, (costs.column(level.name, "correct"), costs.answer(level.name), np.zeros(size)))
                if answers and k + 1 < len(ladder):
                    ends(k, going, by_mentor(), handed_over=True)
                continue
            tokens, insight = costs.column(level.name, "insight_tokens"), costs.insight(level.name)
            further = np.asarray([np.full(size, True) if e.is_answer else ~finished for e in ladder[k + 1 :]])
            more = further.any(axis=0) if len(further) else np.zeros(size, dtype=bool)
            here = going & ~((tokens == read) & more)
            present[k] = here
            later[k, k + 1 :] = here & further if len(further) else False
            cost = np.where(here, cost + insight - before, cost)
            read, before = np.where(here, tokens, read), np.where(here, insight, before)
            earlier = {names[j]: drafted == j for j in range(k)}
            stopped = cost + costs.answer(level.name, earlier)
            ends(k, here, (costs.column(level.name, "correct"), stopped, tokens))
            cost = np.where(here, cost + costs.draft(level.name, draft, earlier), cost)
            drafted = np.where(here, k, drafted)
            if answers:
                ends(k, here & more, by_mentor(), handed_over=True)
            going &= ~here | more

    def predicting(self, p: Sufficiencies) -> BatchReplay:
        """Return the same walks under other sufficiencies of the same problems in the same order; without upgrades."""
        other = copy(self)
        other._p, other._upgrades, other._verdicts = _stacked(p_by_level(p), self.ladder, len(p)), {}, {}
        return other

    def run(self, card: PolicyCard) -> ReplayResult:
        """Return how every problem ends under a policy's thresholds and cost weight; the upgrades are given already."""
        thresholds = {level.name: card.threshold(level.name) for level in self.ladder}
        return self.run_many([thresholds], card.cost_weight).first()

    def run_many(self, thresholds: Sequence[Mapping[str, float]], *cost_weights: float | None) -> ReplayResult:
        """Return the results of several sets of thresholds and cost weights, all (sets, problems); see `decide`."""
        at, handed_over = self.decide(thresholds, *cost_weights)
        found = self._outcomes[handed_over.astype(int), at, :, np.arange(at.shape[1])]
        return ReplayResult(np.where(handed_over, len(self.ladder) - 1, at), *np.moveaxis(found, -1, 0))


def _stacked(p: Mapping[str, np.ndarray], ladder: Ladder, size: int) -> np.ndarray:
    """Return sufficiencies as (levels, problems); 1 where a level has none."""
    return np.asarray([p.get(level.name, np.ones(size)) for level in ladder])


def p_by_level(p: Sufficiencies) -> dict[str, np.ndarray]:
    """Return the sufficiency of all problems at each level that the first one has, (problems,)."""
    names = next(iter(p.values()), {})
    return {name: np.asarray([by_level[name] for by_level in p.values()]) for name in names}


def gains(
    p: Sufficiencies, upgrades: Upgrades, p_correct_later: PCorrectLater
) -> dict[tuple[str, str], tuple[np.ndarray, float]]:
    """Return, for two levels, what each problem gains in predicted correctness by going on, and what that costs."""
    now = p_by_level(p)
    return {
        (here, there): (np.asarray([p_correct_later[i][here][there] for i in p]) - now[here], upgrade.cost)
        for here, own in upgrades.items()
        for there, upgrade in own.items()
    }


def replay_fixed(problems: Mapping[str, Levels], ids: Sequence[str], level: str, pair: Pair) -> ReplayResult:
    return ReplayResult.of([fixed(problems[i], level, pair) for i in ids])
