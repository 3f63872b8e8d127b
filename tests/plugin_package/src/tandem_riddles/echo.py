"""A strategy for riddles: say it, and say it again."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Self

from tandem.config import Settings
from tandem.errors import UsageError
from tandem.insight import answer_messages
from tandem.ladder import Ladder
from tandem.ledger import Role
from tandem.strategies import Context, PlannedCall, Strategy
from tandem.types import AnswerDelta, Event, Message

MOST = 9


class EchoTwice(Strategy):
    """The intern answers, reads its answer and gives it anew, twice or as often as said: ``echo-twice:<times>``."""

    roles: tuple[Role, ...] = ("intern",)

    def __init__(self, times: int = 2) -> None:
        self.times = times

    @classmethod
    def of(cls, argument: str | None, budgets: Mapping[str, int]) -> Self:
        """Return the strategy for a number of times. Raises UsageError for what is none."""
        if argument is None:
            return cls()
        if not argument.isdecimal() or not 1 <= int(argument) <= MOST:
            raise UsageError(f"echo-twice takes a number from 1 to {MOST}, as in echo-twice:3, not '{argument}'")
        return cls(int(argument))

    def calls(self, ladder: Ladder, settings: Settings, draft_tokens: int | None) -> list[PlannedCall]:
        """Return the drafts and the answer."""
        drafts = [PlannedCall("intern", "probe", "none", settings.intern_max_tokens) for _ in range(self.times - 1)]
        return [*drafts, PlannedCall("intern", "answer", "none", settings.intern_max_tokens)]

    async def run(self, ctx: Context) -> AsyncGenerator[Event, None]:
        """Ask again and again; what is not the last answer is a discarded draft."""
        messages = answer_messages(ctx.problem)
        for _ in range(self.times - 1):
            draft = await ctx.call("intern", "probe", messages).complete()
            messages = (*messages, Message(role="assistant", content=draft.text), _AGAIN)
        async with ctx.call("intern", "answer", messages) as call:
            async for delta in call:
                if delta.text:
                    yield AnswerDelta(delta.text)
        yield ctx.conclude(call.require_end(), level="none")


_AGAIN = Message(role="user", content="Say that again, in full.")
