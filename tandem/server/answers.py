"""Shared by all endpoints: choices are solved one by one, returned whole or as server-sent events."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from tandem.server.errors import ApiError
from tandem.server.requests import SolveRequest
from tandem.server.schema import ChatRequest, CompletionRequest
from tandem.server.service import Bill, Service
from tandem.server.usage import usage
from tandem.types import Event, Solution


def head_of(model: str, kind: str, prefix: str) -> dict[str, Any]:
    """Return the common fields of every answer and every chunk."""
    return {"id": f"{prefix}-{uuid.uuid4().hex}", "object": kind, "created": int(time.time()), "model": model}


async def solve_all(service: Service, asked: Sequence[SolveRequest], bill: Bill) -> list[Solution]:
    """Return the solutions of all choices. Raises ApiError."""
    solutions = []
    for one in asked:
        async with aclosing(service.solve(one, bill)) as events:
            async for event in events:
                if isinstance(event, Solution):
                    solutions.append(event)
    return solutions


async def stream_all(
    service: Service,
    request: ChatRequest | CompletionRequest,
    asked: Sequence[SolveRequest],
    bill: Bill,
    head: Mapping[str, Any],
    piece: Callable[[int, Event | None], Mapping[str, Any] | None],
) -> AsyncGenerator[bytes, None]:
    """Yield all choices as server-sent events; an error midway is the last of them.

    `piece` returns the fields to send besides `head` for an event of this choice (None: its start), or None.
    """
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
    if request.stream_options and request.stream_options.include_usage:
        yield _sse({**head, "choices": [], "usage": usage(solutions, asked, service.engine)})
    yield b"data: [DONE]\n\n"


def finish(solution: Solution) -> str:
    """Return an answer's finish reason in OpenAI's terms."""
    return "length" if solution.truncated else "stop"


def _sse(data: Mapping[str, Any]) -> bytes:
    return b"data: " + json.dumps(data, separators=(",", ":")).encode() + b"\n\n"
