"""Budget forcing: the mentor alone, its reasoning cut at N tokens, then a fixed cue that makes it give its answer.

The baseline of the code behind arXiv 2604.23623 (after s1, arXiv 2501.19393): a thinking model is cut at N tokens,
``</think>`` is forced, and it writes at most 2,048 further ones. We depart from it for models that do not think aloud:
their cue asks for the boxed answer, or the function once more, and leaves room for no more. A mentor that cannot go on
from its own text is asked in a further turn, and reads itself again at its cost.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Self

from tandem.config import Settings
from tandem.errors import UsageError
from tandem.insight import answer_messages
from tandem.ladder import ANSWER, Ladder
from tandem.ledger import Role
from tandem.spec import Continuation, ModelSpec
from tandem.strategies.base import PlannedCall, Strategy
from tandem.strategies.context import Context
from tandem.types import AnswerDelta, Event, Message, Problem

DEFAULT_BUDGET = 500


@dataclass(frozen=True, slots=True)
class Forced:
    """What the mentor is asked when its reasoning was cut: `head` stands before what it then writes."""

    messages: tuple[Message, ...]
    prefix: str | None
    head: str
    max_tokens: int


def force(problem: Problem, written: str, spec: ModelSpec, cap: int) -> Forced:
    """Return the request that makes a mentor end `written` with its answer, in at most `cap` tokens."""
    messages = answer_messages(problem)
    if spec.insight_mode == "prefix" and "</think>" not in written:
        cue, room = _END_OF_THINKING, _ROOM_AFTER_THINKING
    else:
        cue, room = _CUE[problem.task], _ROOM[problem.task]
    if spec.continuation is Continuation.NATIVE:
        return Forced(messages, written + cue, written + cue, min(room, cap))
    turns = (Message(role="assistant", content=written), Message(role="user", content=_ASK[problem.task]))
    return Forced((*messages, *turns), None, written + "\n\n", min(room, cap))


class BudgetForcing(Strategy):
    """The mentor answers alone; after `budget` tokens of reasoning it must: ``budget-forcing:<tokens>``."""

    roles: tuple[Role, ...] = ("mentor",)

    def __init__(self, budget: int = DEFAULT_BUDGET) -> None:
        if budget < 1:
            raise UsageError(f"budget-forcing takes a positive number of tokens, not {budget}")
        self.budget = budget

    @classmethod
    def of(cls, argument: str | None, budgets: Mapping[str, int]) -> Self:
        if argument is None:
            return cls()
        if not argument.isdecimal():
            raise UsageError(f"budget-forcing takes a number of tokens, as in budget-forcing:300, not '{argument}'")
        return cls(int(argument))

    def calls(self, ladder: Ladder, settings: Settings, draft_tokens: int | None) -> list[PlannedCall]:
        cap = settings.mentor_max_tokens
        first = PlannedCall("mentor", "answer", ANSWER, min(self.budget, cap))
        room = min(max(*_ROOM.values(), _ROOM_AFTER_THINKING), cap)
        return [first] if self.budget >= cap else [first, PlannedCall("mentor", "answer", ANSWER, room, self.budget)]

    async def run(self, ctx: Context) -> AsyncGenerator[Event, None]:
        cap = ctx.max_tokens("mentor")
        async with ctx.call("mentor", "answer", max_tokens=min(self.budget, cap)) as call:
            async for delta in call:
                if delta.text:
                    yield AnswerDelta(delta.text)
        call.require_end()
        spent = self.budget >= cap or call.request.max_tokens < self.budget  # the cap, or the mentor's context
        if call.finish_reason != "length" or spent:
            yield ctx.conclude(call, level=ANSWER)
            return
        given = call.request.prefix
        written = (given if isinstance(given, str) else "") + call.text
        forced = force(ctx.problem, written, ctx.mentor.spec, cap)
        yield AnswerDelta(forced.head[len(written) :])
        async with ctx.call(
            "mentor", "answer", forced.messages, max_tokens=forced.max_tokens, prefix=forced.prefix
        ) as end:
            async for delta in end:
                if delta.text:
                    yield AnswerDelta(delta.text)
        yield ctx.conclude(end.require_end(), level=ANSWER, prefix=forced.head)


_END_OF_THINKING = "\n</think>\n\n"
_ROOM_AFTER_THINKING = 2048  # tokens, as published
_BOXED = "\n\nThe final answer is \\boxed{"
_CUE = {
    "math": _BOXED,
    "choice": _BOXED,
    "code": "\n```\n\nThe complete function, as short as possible:\n```python\n",
    "general": "\n\nIn short: ",
}
_ROOM = {"math": 48, "choice": 8, "code": 256, "general": 128}
_ASK = {
    "math": "Stop there. Give only the final answer now, in \\boxed{}.",
    "choice": "Stop there. Give only the letter of your choice now, in \\boxed{}.",
    "code": "Stop there. Give the complete function now, as short as possible, in one ```python code block.",
    "general": "Stop there. Give your answer now, in short.",
}
