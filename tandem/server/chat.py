"""/v1/chat/completions: events of a strategy become OpenAI's messages, at once or chunk by chunk."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict
from typing import Any

from tandem.server.errors import ApiError
from tandem.server.requests import SolveRequest
from tandem.server.schema import ChatRequest
from tandem.server.service import Bill, Service
from tandem.server.usage import usage_of
from tandem.types import AnswerDelta, Decision, Event, InsightDelta, Solution

DONE = b"data: [DONE]\n\n"


async def answer(service: Service, request: ChatRequest, asked: Sequence[SolveRequest], bill: Bill) -> dict[str, Any]:
    """Solve every choice and return the whole answer. Raises ApiError."""
    solutions = [await solution_of(service, one, bill) for one in asked]
    choices = [
        {
            "index": index,
            "message": {
                "role": "assistant",
                "content": solution.text,
                "reasoning_content": solution.insight or None,
                "refusal": None,
            },
            "finish_reason": finish(solution),
            "logprobs": None,
        }
        for index, solution in enumerate(solutions)
    ]
    head = _head(request.model, "chat.completion")
    return head | {"choices": choices, "usage": usage(service, solutions, asked)}


async def stream(
    service: Service, request: ChatRequest, asked: Sequence[SolveRequest], bill: Bill
) -> AsyncGenerator[bytes, None]:
    """Yield the answer as server-sent events, choice by choice; an error in its midst is the last of them."""
    head = _head(request.model, "chat.completion.chunk")
    told = bool(request.tandem and request.tandem.events)
    with_usage = bool(request.stream_options and request.stream_options.include_usage)
    solutions: list[Solution] = []
    try:
        for index, one in enumerate(asked):
            section: str | None = None
            yield _chunk(head, index, {"role": "assistant", "content": ""})
            async with aclosing(service.solve(one, bill)) as events:
                async for event in events:
                    if isinstance(event, Solution):
                        solutions.append(event)
                    elif told:
                        yield _chunk(head, index, _delta(event), extra=_told(event))
                    elif isinstance(event, InsightDelta):  # who is told of no sections reads them as headings
                        heading = f"{event.section.capitalize()}: " if event.section not in (None, section) else ""
                        section = event.section
                        yield _chunk(head, index, {"reasoning_content": heading + event.text})
                    elif isinstance(event, AnswerDelta):
                        yield _chunk(head, index, _delta(event))
            end = finish(solutions[-1])
            yield _chunk(head, index, {}, end=end, extra=_told(solutions[-1]) if told else None)
    except ApiError as error:
        bill.failed = error.status
        yield sse(error.body)
        return
    if with_usage:
        yield sse(head | {"choices": [], "usage": usage(service, solutions, asked)})
    yield DONE


async def solution_of(service: Service, asked: SolveRequest, bill: Bill) -> Solution:
    """Return the solution of one choice. Raises ApiError."""
    found: Event | None = None
    async with aclosing(service.solve(asked, bill)) as events:
        async for event in events:
            found = event
    if not isinstance(found, Solution):
        raise ApiError(500, "the strategy ended without an answer")
    return found


def usage(service: Service, solutions: Sequence[Solution], asked: Sequence[SolveRequest]) -> dict[str, Any]:
    """Return the usage of one request."""
    return usage_of(solutions, asked[0].problem, service.engine.mentor, service.engine.intern)


def finish(solution: Solution) -> str:
    """Return why an answer ended, as OpenAI says it."""
    return "length" if solution.truncated else "stop"


def sse(data: Mapping[str, Any]) -> bytes:
    """Return one server-sent event."""
    return b"data: " + json.dumps(data, separators=(",", ":")).encode() + b"\n\n"


def _delta(event: Event) -> dict[str, Any]:
    if isinstance(event, InsightDelta):
        return {"reasoning_content": event.text}
    return {"content": event.text} if isinstance(event, AnswerDelta) else {}


def _told(event: Event) -> dict[str, Any] | None:
    """Return what only Tandem's own clients read."""
    match event:
        case InsightDelta():
            return {"type": "insight", "section": event.section, "level": event.level}
        case Decision():
            told = asdict(event)
            del told["signals"]
            return {"type": "decision", **told}
        case Solution():
            names = ("level", "answered_by", "answer", "strategy", "truncated", "synthetic", "classifier")
            return {"type": "solution", **{n: getattr(event, n) for n in names}, "seconds": round(event.seconds, 3)}
        case _:
            return None


def _head(model: str, kind: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{uuid.uuid4().hex}", "object": kind, "created": int(time.time()), "model": model}


def _chunk(
    head: Mapping[str, Any],
    index: int,
    delta: Mapping[str, Any],
    *,
    end: str | None = None,
    extra: Mapping[str, Any] | None = None,
) -> bytes:
    choice = {"index": index, "delta": delta, "finish_reason": end, "logprobs": None}
    return sse({**head, "choices": [choice], **({"tandem": extra} if extra else {})})
