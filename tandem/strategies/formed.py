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
from tandem.tools import find_call
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
            if isinstance(event, AnswerDelta):
                if piece := event.text if problem.tools else answer.feed(event.text):
                    given += piece
                    yield replace(event, text=piece)
                continue
            if not isinstance(event, Solution):
                yield event
                continue
            if rest := answer.close():
                given += rest
                yield AnswerDelta(rest)
            called = problem.tools is not None and find_call(given) is not None
            fault = (
                None
                if event.truncated or called
                else await asyncio.to_thread(misfit, form.schema, answer.begun + given)
            )
            if fault:
                raise InvalidOutputError(f"the {event.answered_by}'s answer does not have the form asked for: {fault}")
            yield event if given == event.content else event.with_content(given)


def _is_object(form: ResponseFormat) -> bool:
    return not form.schema or json.loads(form.schema).get("type") == "object"
