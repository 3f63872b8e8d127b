"""Replaying a collected table: what a policy would have answered and paid, without calling a model.

A problem is a dict of level name to row (collection/ writes them). Costs are honest TFLOPs by
`ModelSpec.tflops`: without a prefix cache every draft pays its whole prompt; with one (`Pair.prefix_cache`) a draft
pays what is new since the draft before it. The insight is charged as one generation that ends at the level reached: a
thrifty mentor without a cache re-reads more, an eager one overshoots.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tandem.errors import UsageError
from tandem.ladder import ANSWER, Effort, Ladder
from tandem.spec import ModelSpec
from tandem.sufficiency.policy import Policy
from tandem.sufficiency.rows import Levels, Row, is_mentors

BLOCK = 16  # tokens; what vLLM's prefix cache keeps or drops as one


@dataclass(frozen=True, slots=True)
class Outcome:
    """One problem replayed."""

    level: str
    correct: bool
    tflops: float
    mentor_tokens: int
    published: float = 0.0  # TFLOPs by the published formula: no prefill, no probes (see Ledger.tflops_published)


@dataclass(frozen=True, slots=True)
class Pair:
    """The two specs that price a replay; both need their sizes. `prefix_cache`: the intern's server keeps prompts."""

    mentor: ModelSpec
    intern: ModelSpec
    prefix_cache: bool = False

    @property
    def begins_answer(self) -> bool:
        """Whether the mentor's insight is the beginning of its own answer (`prefix` mode)."""
        return self.mentor.insight_mode == "prefix"

    def insight(self, row: Row) -> float:
        """TFLOPs of the mentor's one generation up to this level."""
        tokens = row["insight_tokens"]
        return _known(self.mentor.tflops(row["mentor_prompt_tokens"], 0, tokens)) if tokens else 0.0

    def answer(self, row: Row, before: Row | None = None) -> float:
        """TFLOPs of the whole answer in this row, by whoever wrote it; `before` is the last level drafted."""
        spec = self.mentor if is_mentors(row["level"]) else self.intern
        return _known(spec.tflops(row["prompt_tokens"], self._cached(row, before), row["completion_tokens"]))

    def draft(self, row: Row, tokens: int | None, before: Row | None = None) -> float:
        """TFLOPs of a discarded draft of `tokens` (None: the whole answer)."""
        written = row["completion_tokens"] if tokens is None else min(tokens, row["completion_tokens"])
        return _known(self.intern.tflops(row["prompt_tokens"], self._cached(row, before), written))

    def published(self, mentor_tokens: int, row: Row | None) -> float:
        """TFLOPs by the published formula: all that the mentor wrote, and the intern's final answer in `row`."""
        if not self.mentor.parameters or not self.intern.parameters:
            raise UsageError("a replay is priced in TFLOPs and needs the sizes and architectures of both models")
        intern = 0 if row is None else row["insight_tokens"] + row["completion_tokens"]
        return 2e-12 * (self.mentor.parameters * mentor_tokens + self.intern.parameters * intern)

    def _cached(self, row: Row, before: Row | None) -> int:
        """Prompt tokens that the cache holds: the earlier, shorter prompt in whole blocks."""
        if not self.prefix_cache or before is None or is_mentors(row["level"]):
            return 0
        shared: int = min(before["prompt_tokens"], row["prompt_tokens"] - 1)
        return shared // BLOCK * BLOCK


def _known(tflops: float | None) -> float:
    if tflops is None:
        raise UsageError("a replay is priced in TFLOPs and needs the sizes and architectures of both models")
    return tflops


def fixed(problem: Levels, level: str, pair: Pair) -> Outcome:
    """Return the outcome of always using one level."""
    row = problem[level]
    alone = is_mentors(level)
    mentor = row["completion_tokens"] if alone else row["insight_tokens"]
    insight = 0.0 if alone else pair.insight(row)
    published = pair.published(mentor, None if alone else row)
    return Outcome(level, bool(row["correct"]), insight + pair.answer(row), mentor, published)


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
    cost, bought, before = 0.0, -1, 0.0  # without an answer: TFLOPs so far, mentor tokens, and TFLOPs of those
    drafted: Row | None = None

    def by_mentor() -> Outcome:
        there = (cost - before, 0) if pair.begins_answer else (cost, max(bought, 0))
        return _by_mentor(problem, pair, *there)

    for position, level in enumerate(ladder):
        row = problem[level.name]
        if level.is_answer or (pair.begins_answer and ladder[-1].is_answer and row.get("insight_finished")):
            steps.append(Step(ladder[-1], (), by_mentor(), None))
            break
        if level.is_question:
            later = ladder[position + 1 :]
            alone = Outcome(level.name, bool(row["correct"]), pair.answer(row), 0, pair.published(0, row))
            steps.append(Step(level, later, alone, by_mentor() if later and later[-1].is_answer else None))
            continue
        tokens = row["insight_tokens"]
        later = tuple(e for e in ladder[position + 1 :] if e.is_answer or not row.get("insight_finished"))
        if tokens == bought and later:
            continue
        insight = pair.insight(row)
        cost, bought, before = cost + insight - before, tokens, insight
        total = cost + pair.answer(row, drafted)
        stop = Outcome(level.name, bool(row["correct"]), total, tokens, pair.published(tokens, row))
        cost += pair.draft(row, draft, drafted)
        drafted = row
        answered = by_mentor() if later and later[-1].is_answer else None
        steps.append(Step(level, later, stop, answered))
        if not later:
            break
    return steps


def replay(
    steps: Sequence[Step],
    policy: Policy,
    p: Mapping[str, float],
    signals: Mapping[str, Mapping[str, float]] | None = None,
) -> Outcome:
    """Return what the policy makes of a walk; `p` is the sufficiency at each level, `signals` those of its draft."""
    for step in steps:
        if step.level.is_answer:
            return step.stop
        action, _ = policy.verdict(
            step.level, p[step.level.name], step.later, signals=(signals or {}).get(step.level.name, {})
        )
        if action == "stop":
            return step.stop
        if action == "answer" and step.answer is not None:
            return step.answer
    raise ValueError("the ladder has no level that completes")


def _by_mentor(problem: Levels, pair: Pair, cost: float, bought: int) -> Outcome:
    row = problem[ANSWER]
    tokens = bought + row["completion_tokens"]
    return Outcome(ANSWER, bool(row["correct"]), cost + pair.answer(row), tokens, pair.published(tokens, None))


def oracle(problem: Levels, levels: Sequence[str], pair: Pair) -> Outcome:
    """Return the cheapest right level, else the cheapest level."""
    outcomes = sorted((fixed(problem, level, pair) for level in levels), key=lambda o: o.tflops)
    return next((o for o in outcomes if o.correct), outcomes[0])


def mean_of(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """Return accuracy, mean TFLOPs and mean mentor tokens."""
    return {
        "accuracy": float(np.mean([o.correct for o in outcomes])),
        "tflops": float(np.mean([o.tflops for o in outcomes])),
        "published": float(np.mean([o.published for o in outcomes])),
        "mentor_tokens": float(np.mean([o.mentor_tokens for o in outcomes])),
    }


def level_shares(outcomes: Sequence[Outcome], ladder: Ladder) -> dict[str, float]:
    """Return the share of problems that ended at each level."""
    return {level.name: sum(o.level == level.name for o in outcomes) / max(len(outcomes), 1) for level in ladder}
