"""Shared by all endpoints: choices are solved one by one, returned whole or as server-sent events."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from tandem.server.errors import ApiError
from tandem.server.formats import DONE, AnswerFormat
from tandem.server.requests import SolveRequest
from tandem.server.schema import ChatRequest, CompletionRequest
from tandem.server.service import Bill, Service
from tandem.server.usage import usage
from tandem.types import Solution


async def answer(
    service: Service,
    request: ChatRequest | CompletionRequest,
    asked: Sequence[SolveRequest],
    bill: Bill,
    form: AnswerFormat,
) -> Mapping[str, Any]:
    """Solve every choice and return the whole answer. Raises ApiError."""
    solutions: list[Solution] = []
    for one in asked:
        async with aclosing(service.solve(one, bill)) as events:
            solutions += [event async for event in events if isinstance(event, Solution)]
    used = usage(solutions, asked, service.engine, request.n or 1)
    service.metrics.saved(bill.key, used["tandem"])
    return form.whole(request, solutions, used)


async def stream(
    service: Service,
    request: ChatRequest | CompletionRequest,
    asked: Sequence[SolveRequest],
    bill: Bill,
    form: AnswerFormat,
) -> AsyncGenerator[bytes, None]:
    """Yield all choices as server-sent events; an error midway is the last of them."""
    sent = form.stream(request)
    solutions: list[Solution] = []
    try:
        for index, one in enumerate(asked):
            for message in sent.piece(index, None):
                yield _sse(message)
            async with aclosing(service.solve(one, bill)) as events:
                async for event in events:
                    if isinstance(event, Solution):
                        solutions.append(event)
                    for message in sent.piece(index, event):
                        yield _sse(message)
    except ApiError as error:
        bill.failed = error.status
        for message in sent.failed(error):
            yield _sse(message)
        return
    used = usage(solutions, asked, service.engine, request.n or 1)
    service.metrics.saved(bill.key, used["tandem"])
    for message in sent.end(used):
        yield _sse(message)


def _sse(message: Mapping[str, Any]) -> bytes:
    """Return a server-sent event; one with a type is named by it, as the Responses API does."""
    if message is DONE:
        return b"data: [DONE]\n\n"
    name = f"event: {message['type']}\n" if "type" in message else ""
    return f"{name}data: {json.dumps(message, separators=(',', ':'))}\n\n".encode()
