"""The anchors of every chart: the mentor alone, the intern alone, and the intern under a fixed level of insight."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Self

from tandem.config import Settings
from tandem.errors import UsageError
from tandem.insight import trim
from tandem.ladder import Effort, Ladder, parse_ladder
from tandem.ledger import Role
from tandem.strategies.context import Context, Planned, answer_alone, answer_under
from tandem.strategies.insight_source import InsightSource
from tandem.types import Event


class MentorOnly:
    """The mentor answers with its own prompt."""

    roles: tuple[Role, ...] = ("mentor",)
    judges = False

    def calls(self, ladder: Ladder, settings: Settings, draft_tokens: int | None) -> list[Planned]:
        """Return the one call."""
        return [Planned("mentor", "answer", "answer", settings.mentor_max_tokens)]

    def run(self, ctx: Context) -> AsyncGenerator[Event, None]:
        """Stream the mentor's answer."""
        return answer_alone("mentor", ctx, "answer")


class InternOnly:
    """The intern answers without any insight."""

    roles: tuple[Role, ...] = ("intern",)
    judges = False

    def calls(self, ladder: Ladder, settings: Settings, draft_tokens: int | None) -> list[Planned]:
        """Return the one call."""
        return [Planned("intern", "answer", "none", settings.intern_max_tokens)]

    def run(self, ctx: Context) -> AsyncGenerator[Event, None]:
        """Stream the intern's answer."""
        return answer_alone("intern", ctx, "none")


class Fixed:
    """The intern answers under the insight of one level, whatever its uncertainty: ``fixed:<level>``."""

    roles: tuple[Role, ...] = ("mentor", "intern")
    judges = False

    def __init__(self, level: Effort) -> None:
        self.level = level

    @classmethod
    def of(cls, argument: str | None, budgets: Mapping[str, int]) -> Self:
        """Return the strategy for one level. Raises UsageError for none, several or an unknown one."""
        ladder = parse_ladder(argument, budgets) if argument else ()
        if len(ladder) != 1:
            raise UsageError("strategy 'fixed' takes one level, as in fixed:medium or fixed:medium=200")
        return cls(ladder[0])

    def calls(self, ladder: Ladder, settings: Settings, draft_tokens: int | None) -> list[Planned]:
        """Return the insight and the answer under it."""
        name, tokens = self.level.name, self.level.tokens
        if tokens is None:
            return [Planned("mentor", "answer", name, settings.mentor_max_tokens)]
        insight = [Planned("mentor", "insight", name, tokens)] if tokens else []
        return [*insight, Planned("intern", "answer", name, settings.intern_max_tokens, tokens)]

    async def run(self, ctx: Context) -> AsyncGenerator[Event, None]:
        """Buy the insight up to the level in one call, then stream the intern's answer."""
        if self.level.tokens is None:
            async for event in answer_alone("mentor", ctx, self.level.name):
                yield event
            return
        source = InsightSource.open(ctx, (self.level,), "thrifty")
        try:
            async for insight_delta in source.extend(self.level):
                yield insight_delta
        finally:
            await source.close()
        text, tokens = source.cut(self.level)
        async for event in answer_under(trim(text), tokens, ctx, self.level.name):
            yield event
