"""The oracle of shepherding (arXiv 2601.22132): the smallest hint with which the intern is right. An upper bound.

It is no method: it looks at the reference after every try, and is charged only for the path that it takes in the end
(the hint and the answer from it), as a predictor that always knows would be. The other tries are made too, and stand in
no ledger but a run's journal. We depart from the paper in the sizes: 0, 20, 40 and 60 % of the mentor's answer, then
all of it, where it tries every tenth up to 90 %. Where nothing helps, the intern answers alone.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace

from tandem.errors import CapabilityError, UsageError
from tandem.grading import grade
from tandem.ladder import ANSWER
from tandem.ledger import Ledger
from tandem.models.call import Call
from tandem.strategies.context import Context
from tandem.types import Action, AnswerDelta, Decision, Event, Problem

HINT = "hint"
SHARES = (20, 40, 60)  # % of the mentor's answer


@dataclass(frozen=True, slots=True)
class _Path:
    """One path to the answer: its level, the hint that it begins with, the call that ends it, and what it costs."""

    level: str
    hint: str
    call: Call
    ledger: Ledger


async def by_oracle(ctx: Context) -> AsyncGenerator[Event, None]:
    """Try hints from the smallest up, and conclude with the first right answer.

    Raises UsageError for a problem without a reference, CapabilityError for one that is judged by running code.
    """
    await _can_judge(ctx.problem)
    tried: list[Ledger] = []
    try:
        path, reason = await _smallest(ctx, tried)
    except BaseException:
        ctx.ledger.entries += [entry for ledger in tried for entry in ledger]  # no path was found: all is charged
        raise
    ctx.ledger.entries += path.ledger.entries
    reason = f"{reason}; an upper bound that looks at the reference, charged for this path alone"
    action: Action = "answer" if path.level == ANSWER else "stop"
    decision = Decision(path.level, action, reason=reason, insight_tokens=path.ledger.mentor_tokens)
    yield ctx.record(decision)
    yield AnswerDelta(path.hint + path.call.text)
    yield ctx.conclude(path.call, level=path.level, insight=path.hint)


async def _can_judge(problem: Problem) -> None:
    if problem.reference is None and problem.tests is None:
        raise UsageError(
            f"shepherding:oracle looks at the reference, and {problem.id} has none; "
            "take shepherding:proactive or shepherding:reactive"
        )
    if await grade(problem, "") is None:
        raise CapabilityError(
            f"shepherding:oracle would have to run code to judge {problem.id}, and a strategy has no sandbox; "
            "take shepherding:proactive or shepherding:reactive"
        )


async def _smallest(ctx: Context, tried: list[Ledger]) -> tuple[_Path, str]:
    """Return the path with the smallest right hint, and why; `tried` gets the ledger of every try."""

    def trial() -> Context:
        tried.append(Ledger())
        return replace(ctx, ledger=tried[-1])

    own = trial()
    alone = _Path("none", "", await own.call("intern", "answer").complete(), own.ledger)
    if await grade(ctx.problem, alone.call.text):
        return alone, "the intern is right by itself"
    own = trial()
    answer = _Path(ANSWER, "", await own.call("mentor", "answer").complete(), own.ledger)
    before = 0
    for share in SHARES:
        tokens = answer.call.tokens * share // 100
        if tokens <= before:
            continue
        before = tokens
        own = trial()
        sampling = ctx.sampling("mentor")  # what ends an answer ends its beginning too
        hint = await own.call("mentor", "insight", max_tokens=tokens, sampling=sampling).complete()
        call = await own.call("intern", "answer", prefix=hint.text or None, read_tokens=hint.tokens).complete()
        if await grade(ctx.problem, hint.text + call.text):
            return _Path(HINT, hint.text, call, own.ledger), f"a hint of {share} % is the smallest that is right"
    if await grade(ctx.problem, answer.call.text):
        return answer, "only the mentor's whole answer is right"
    return alone, "nothing is right"
