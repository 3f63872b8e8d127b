"""The anchors of every chart: the mentor alone, the intern alone, and the intern under a fixed level of insight."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Self

from tandem.config import Settings
from tandem.errors import UsageError
from tandem.insight import trim
from tandem.ladder import Effort, Ladder, parse_ladder
from tandem.ledger import Role
from tandem.spec import ModelSpec
from tandem.strategies.base import PlannedCall, Strategy, climb_calls
from tandem.strategies.context import Context, stream_answer, tools_with_notes
from tandem.strategies.insight_source import InsightSource
from tandem.strategies.raw import stream_alone
from tandem.types import Event


class MentorOnly(Strategy):
    """The mentor answers with its own prompt."""

    roles: tuple[Role, ...] = ("mentor",)
    is_one_answer = True

    def without_tools(self, mentor: ModelSpec) -> str | None:
        return None

    def run(self, ctx: Context) -> AsyncGenerator[Event, None]:
        return stream_alone("mentor", ctx, "answer")


class InternOnly(Strategy):
    """The intern answers without any insight."""

    roles: tuple[Role, ...] = ("intern",)
    is_one_answer = True

    def without_tools(self, mentor: ModelSpec) -> str | None:
        return None

    def run(self, ctx: Context) -> AsyncGenerator[Event, None]:
        return stream_alone("intern", ctx, "none")


class Fixed(Strategy):
    """The intern answers under the insight of one level, whatever its uncertainty: ``fixed:<level>``."""

    def __init__(self, level: Effort) -> None:
        self.level = level

    @classmethod
    def of(cls, argument: str | None, budgets: Mapping[str, int]) -> Self:
        ladder = parse_ladder(argument, budgets) if argument else ()
        if len(ladder) != 1:
            raise UsageError("strategy 'fixed' takes one level, as in fixed:medium or fixed:medium=200")
        return cls(ladder[0])

    def calls(self, ladder: Ladder, settings: Settings, draft_tokens: int | None) -> list[PlannedCall]:
        return climb_calls((self.level,), settings)

    def without_tools(self, mentor: ModelSpec) -> str | None:
        return tools_with_notes(mentor)

    async def run(self, ctx: Context) -> AsyncGenerator[Event, None]:
        if self.level.tokens is None:
            async for event in stream_answer("mentor", ctx, self.level.name):
                yield event
            return
        async with aclosing(InsightSource.open(ctx, (self.level,), "thrifty")) as source:
            async for insight_delta in source.extend(self.level):
                yield insight_delta
        text, tokens = source.cut(self.level)
        async for event in stream_answer("intern", ctx, self.level.name, trim(text), tokens):
            yield event
