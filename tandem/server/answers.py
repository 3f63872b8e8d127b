"""Shared by all endpoints: choices are solved one by one, returned whole or as server-sent events."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from tandem.server.errors import ApiError
from tandem.server.formats import AnswerFormat
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
) -> dict[str, Any]:
    """Solve every choice and return the whole answer. Raises ApiError."""
    solutions: list[Solution] = []
    for one in asked:
        async with aclosing(service.solve(one, bill)) as events:
            solutions += [event async for event in events if isinstance(event, Solution)]
    choices = [form.choice(index, solution) for index, solution in enumerate(solutions)]
    used = usage(solutions, asked, service.engine, request.n or 1)
    service.metrics.saved(bill.key, used["tandem"])
    return form.head(request.model, form.whole) | {"choices": choices, "usage": used}


async def stream(
    service: Service,
    request: ChatRequest | CompletionRequest,
    asked: Sequence[SolveRequest],
    bill: Bill,
    form: AnswerFormat,
) -> AsyncGenerator[bytes, None]:
    """Yield all choices as server-sent events; an error midway is the last of them."""
    head, piece = form.head(request.model, form.chunk), form.pieces(request)
    solutions: list[Solution] = []
    try:
        for index, one in enumerate(asked):
            if first := piece(index, None):
                yield _sse({**head, **first})
            async with aclosing(service.solve(one, bill)) as events:
                async for event in events:
                    if isinstance(event, Solution):
                        solutions.append(event)
                    if found := piece(index, event):
                        yield _sse({**head, **found})
    except ApiError as error:
        bill.failed = error.status
        yield _sse(error.body)
        return
    used = usage(solutions, asked, service.engine, request.n or 1)
    service.metrics.saved(bill.key, used["tandem"])
    if request.stream_options and request.stream_options.include_usage:
        yield _sse({**head, "choices": [], "usage": used})
    yield b"data: [DONE]\n\n"


def _sse(data: Mapping[str, Any]) -> bytes:
    return b"data: " + json.dumps(data, separators=(",", ":")).encode() + b"\n\n"
