"""A strategy's events with the calls of the problem's tools set apart from the answer's text."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import aclosing
from dataclasses import replace

from tandem.errors import EndpointError
from tandem.tools import CallPiece, CallSplitter, FunctionCall, ToolUse
from tandem.types import AnswerDelta, CallDelta, Event, ScoredToken, Solution


async def calls_apart(events: AsyncGenerator[Event, None], tools: ToolUse) -> AsyncGenerator[Event, None]:
    """Yield the events; of the answer's text, calls as CallDelta, and all of them in the solution.

    Raises EndpointError where a call is required and there is none.
    """
    calls, tokens = _Calls(tools), tuple[ScoredToken, ...]()
    told = tokens  # those of the text: a call has none
    async with aclosing(events):
        async for event in events:
            parts: Iterable[Event] = (event,)
            if isinstance(event, AnswerDelta):
                tokens += event.tokens
                parts = calls.feed(event.text)
            elif isinstance(event, Solution):
                parts = calls.end(whole=not event.truncated)
            for part in parts:
                if isinstance(part, AnswerDelta):  # with the tokens of what was held back, too
                    told += tokens
                    yield replace(part, tokens=tokens)
                else:
                    yield part
                if isinstance(part, AnswerDelta | CallDelta):
                    tokens = ()
            if isinstance(event, Solution):
                calls.check(event)
                found = event.with_calls(calls.made, "".join(calls.words))
                if calls.made and found.tokens is not None:
                    found.tokens = told
                yield found


class _Calls:
    """The calls of one answer, as they come; where none must be made, what looks like one is text without its tags."""

    def __init__(self, tools: ToolUse) -> None:
        self._tools = tools
        self._none = tools.choice == "none"
        self._splitter = CallSplitter(parallel=tools.parallel, names=() if self._none else tools.names)
        self._calls: list[list[str]] = []  # id, name, arguments
        self.words: list[str] = []

    def feed(self, text: str) -> Iterator[AnswerDelta | CallDelta]:
        return self._told(self._splitter.feed(text))

    def end(self, *, whole: bool) -> Iterator[AnswerDelta | CallDelta]:
        """Yield what was held back; a call without arguments is one of no arguments, unless it was cut."""
        yield from self._told(self._splitter.close())
        for index, call in enumerate(self._calls):
            if not call[2] and (whole or index < len(self._calls) - 1):
                call[2] = "{}"
                yield CallDelta(index, "{}")

    @property
    def made(self) -> tuple[FunctionCall, ...]:
        return tuple(FunctionCall(id=id, name=name, arguments=arguments) for id, name, arguments in self._calls)

    def check(self, solution: Solution) -> None:
        tools, names = self._tools, {call.name for call in self.made}
        if tools.choice != "required" or solution.truncated:
            return
        if not names or (tools.named and names != {tools.named}):
            must = f"call {tools.named}" if tools.named else "call a function"
            raise EndpointError(f"the {solution.answered_by} was to {must} and did not")

    def _told(self, pieces: Iterable[str | CallPiece]) -> Iterator[AnswerDelta | CallDelta]:
        for piece in pieces:
            if isinstance(piece, str) or self._none:
                text = piece if isinstance(piece, str) else piece.name + piece.arguments
                self.words.append(text)
                yield AnswerDelta(text)
            elif piece.name:
                call = [f"call_{uuid.uuid4().hex[:24]}", piece.name, piece.arguments]
                self._calls.append(call)
                yield CallDelta(piece.index, piece.arguments, id=call[0], name=piece.name)
            else:
                self._calls[piece.index][2] += piece.arguments
                yield CallDelta(piece.index, piece.arguments)
