"""A strategy's events with what was thought set apart from the answer: strategies pass on all that a model writes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import aclosing

from tandem.strategies.context import Context, begins_within
from tandem.thinking import ThinkingSplitter, is_open
from tandem.types import AnswerDelta, Event, InsightDelta, ScoredToken, Solution, ThinkingDelta


async def apart(events: AsyncGenerator[Event, None], ctx: Context) -> AsyncGenerator[Event, None]:
    """Yield the events; of an answer's text, what is thought as ThinkingDelta, and neither's tags.

    What was taken for a thought and turns out to be the answer comes once more, before the solution. Tokens go with the
    answer's text, and those of the whole answer into the solution.
    """
    answer: ThinkingSplitter | None = None
    insight = ThinkingSplitter()
    given, answered = "", False
    tokens = _AnswerTokens(asked=ctx.problem.logprobs is not None)
    last: InsightDelta | None = None
    prefix = ctx.mentor.spec.insight_mode == "prefix"  # the insight is the beginning of a thought or of an answer
    async with aclosing(events):
        async for event in events:
            if ctx.problem.raw is not None:  # a text that was given may have such tags
                yield event
                continue
            parts: Iterable[Event] = (event,)
            if last and not isinstance(event, InsightDelta):
                for _, held in insight.close():
                    yield InsightDelta(held, last.level, last.section)
            if isinstance(event, InsightDelta) and prefix:
                given, last = given + event.text, event
                parts = [InsightDelta(text, event.level, event.section) for _, text in insight.feed(event.text)]
            elif isinstance(event, AnswerDelta):
                parts, text = [], event.text
                tokens.came(event.tokens)
                if answer is None:
                    answer = ThinkingSplitter(within=_within(ctx))
                    if given and text.startswith(given):  # the mentor's own answer, whose beginning was the insight
                        parts = [part for part in _parts(answer.feed(given)) if isinstance(part, AnswerDelta)]
                        text = text.removeprefix(given)
                parts = [*parts, *_parts(answer.feed(text))]
            elif isinstance(event, Solution):
                parts = [*_parts(answer.close() if answer else ())]
                if not answered and not any(isinstance(part, AnswerDelta) for part in parts) and event.content:
                    tokens.all_are_answer()
                    parts = [*parts, AnswerDelta(event.content)]
                parts = [*parts, event]
            for part in parts:
                answered |= isinstance(part, AnswerDelta)
                yield tokens.with_its_own(part)


class _AnswerTokens:
    """The tokens of an answer, told from those of its thought by the text that they come with."""

    def __init__(self, *, asked: bool) -> None:
        self._asked = asked
        self._all: list[ScoredToken] = []
        self._new: list[ScoredToken] = []  # their text has not been told apart yet
        self._answer: list[ScoredToken] = []

    def came(self, tokens: Sequence[ScoredToken]) -> None:
        self._all += tokens
        self._new += tokens

    def all_are_answer(self) -> None:
        self._new = list(self._all)

    def with_its_own(self, event: Event) -> Event:
        if isinstance(event, AnswerDelta) and self._new:
            event = AnswerDelta(event.text, tuple(self._new))
            self._answer += self._new
            self._new = []
        elif isinstance(event, ThinkingDelta):
            self._new = []
        elif isinstance(event, Solution) and self._asked:
            event.tokens = tuple(self._answer)
        return event


def _within(ctx: Context) -> bool:
    """Whether the call that writes the answer begins within a thought."""
    if not ctx.opened:  # a strategy without models
        return False
    call = ctx.opened[-1]
    prefix = call.request.prefix
    return is_open(prefix if isinstance(prefix, str) else "", begins_within(call.model.spec))


def _parts(pieces: Iterable[tuple[bool, str]]) -> Iterator[Event]:
    for thought, text in pieces:
        yield ThinkingDelta(text) if thought else AnswerDelta(text)
