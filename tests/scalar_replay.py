"""The oracle of the batch replay: strategies/tandem.py's walk and `Policy.verdict`, one problem and level at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tandem.ladder import ANSWER, Effort, Ladder
from tandem.sufficiency.policy import Policy
from tandem.sufficiency.rows import Levels, Row
from tandem.training.replay import Outcome, Pair


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


def mean_of(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """Return accuracy, mean cost and mean mentor tokens."""
    return {
        "accuracy": float(np.mean([o.correct for o in outcomes])),
        "cost": float(np.mean([o.cost for o in outcomes])),
        "mentor_tokens": float(np.mean([o.mentor_tokens for o in outcomes])),
    }


def level_shares(outcomes: Sequence[Outcome], ladder: Ladder) -> dict[str, float]:
    """Return the share of problems that ended at each level."""
    return {level.name: sum(o.level == level.name for o in outcomes) / max(len(outcomes), 1) for level in ladder}
