"""A strategy's events where the answer's beginning was given to a model that cannot continue it: no word twice."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from tandem.strategies.context import Context
from tandem.strategies.insight_source import trim_overlap
from tandem.types import AnswerDelta, Event, Solution

_LEAST = 8  # characters that are a repetition: fewer may be a coincidence


async def continued(events: AsyncGenerator[Event, None], ctx: Context) -> AsyncGenerator[Event, None]:
    """Yield the events; of the answer what goes on from the problem's `begun`: one that is asked for may repeat that.

    A model that continues its own message repeats nothing, and its answer passes as it is.
    """
    begun, held = ctx.problem.begun, ""
    settled = False  # whether the answer begins with a repetition
    async with aclosing(events):
        async for event in events:
            native = not ctx.opened or ctx.opened[-1].request.prefix is not None
            if native or not isinstance(event, AnswerDelta | Solution):
                yield event
            elif isinstance(event, Solution):
                if held and not settled:
                    yield AnswerDelta(_fresh(begun, held))
                content = _fresh(begun, event.content)
                yield event if content == event.content else event.with_content(content)
            elif settled:
                yield event
            else:
                held += event.text
                settled = len(held) >= len(begun)
                if settled:
                    yield AnswerDelta(_fresh(begun, held), event.tokens)


def _fresh(begun: str, text: str) -> str:
    """Return a text without the beginning of it that repeats `begun`, or its end."""
    if text.startswith(begun):
        return text.removeprefix(begun)
    rest = trim_overlap(begun, text)
    return rest if len(text) - len(rest) >= _LEAST else text
