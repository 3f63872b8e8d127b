"""A strategy's events where the answer is to have a form: the JSON alone, and no solution whose answer does not fit."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from tandem.errors import InvalidOutputError
from tandem.json_schema import misfit
from tandem.response_format import JsonText, ResponseFormat
from tandem.tools import ToolUse, split_calls
from tandem.types import AnswerDelta, Event, Problem, Solution


async def formed(events: AsyncGenerator[Event, None], problem: Problem) -> AsyncGenerator[Event, None]:
    """Yield the events; of the answer only its JSON, where a model wrote more around it.

    An answer that calls a function is passed on. Raises InvalidOutputError, before the solution, for an answer that
    does not fit; one that was cut is not checked.
    """
    form, given = problem.response_format, ""
    assert form is not None
    answer = JsonText(begun=problem.begun, is_object=_is_object(form))
    async with aclosing(events):
        async for event in events:
            if isinstance(event, Solution):
                if not problem.tools and (rest := answer.close()):
                    given += rest
                    yield AnswerDelta(rest)
                called = _calls(event.content, problem.tools)
                if not (event.truncated or called):
                    await _check(event, form, problem.begun + event.content if problem.tools else answer.whole)
                yield event if problem.tools or given == event.content else event.with_content(given)
            elif not isinstance(event, AnswerDelta) or problem.tools:
                yield event
            elif piece := answer.feed(event.text):
                given += piece
                yield replace(event, text=piece)


def _calls(content: str, tools: ToolUse | None) -> bool:
    """Whether an answer calls a function: a call is text here, which has braces of its own."""
    if tools is None or tools.choice == "none":
        return False
    return bool(split_calls(content, parallel=tools.parallel, names=tools.names)[1])


async def _check(solution: Solution, form: ResponseFormat, text: str) -> None:
    """Raise InvalidOutputError for a text that does not have the form. In a thread: it may take a second."""
    if fault := await asyncio.to_thread(misfit, form.schema, text):
        raise InvalidOutputError(f"the {solution.answered_by}'s answer does not have the form asked for: {fault}")


def _is_object(form: ResponseFormat) -> bool:
    return not form.schema or json.loads(form.schema).get("type") == "object"
