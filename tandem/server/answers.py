"""Shared by all endpoints: choices are solved side by side, returned whole or as server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from tandem.server.errors import ApiError
from tandem.server.formats import DONE, AnswerFormat, Body
from tandem.server.requests import SolveRequest
from tandem.server.service import Bill, Service
from tandem.server.usage import usage
from tandem.types import Event, Solution

_AHEAD = 16  # events of several choices that may wait for a slow client


async def answer(
    service: Service,
    request: Body,
    asked: Sequence[SolveRequest],
    bill: Bill,
    form: AnswerFormat,
) -> Mapping[str, Any]:
    """Solve every choice and return the whole answer. Raises ApiError."""
    found: dict[int, Solution] = {}
    async with aclosing(_solved(service, asked, bill)) as events:
        async for index, event in events:
            if isinstance(event, Solution):
                found[index] = event
    solutions = [found[index] for index in range(len(asked))]
    return form.whole(request, solutions, _used(service, request, asked, bill, solutions))


async def stream(
    service: Service,
    request: Body,
    asked: Sequence[SolveRequest],
    bill: Bill,
    form: AnswerFormat,
) -> AsyncGenerator[bytes, None]:
    """Yield all choices as server-sent events; an error midway is the last of them."""
    sent = form.stream(request)
    found: dict[int, Solution] = {}
    try:
        async with aclosing(_solved(service, asked, bill)) as events:
            async for index, event in events:
                if isinstance(event, Solution):
                    found[index] = event
                for message in sent.piece(index, event):
                    yield _sse(message)
    except ApiError as error:
        bill.failed = error.status
        for message in sent.failed(error):
            yield _sse(message)
        return
    solutions = [found[index] for index in range(len(asked))]
    for message in sent.end(_used(service, request, asked, bill, solutions)):
        yield _sse(message)


def _used(
    service: Service, request: Body, asked: Sequence[SolveRequest], bill: Bill, solutions: Sequence[Solution]
) -> dict[str, Any]:
    """Return the usage of a request that is solved, and count what it saved."""
    used = usage(solutions, asked, service.engine, request.n or 1)
    service.metrics.saved(bill.key, used["tandem"])
    return used


async def _solved(
    service: Service, asked: Sequence[SolveRequest], bill: Bill
) -> AsyncGenerator[tuple[int, Event | None], None]:
    """Yield each choice's events with its number, from None on, which is its start; their events mix.

    The request's slot solves one choice after the other; for each further one another slot is waited for, so that no
    more problems are solved at once than the server was started for. Raises the ApiError of the first that fails, when
    all others have ended.
    """
    await bill.begin()
    if len(asked) == 1:
        yield 0, None
        async with aclosing(service.solve(asked[0], bill)) as events:
            async for event in events:
                yield 0, event
        return
    left = deque(enumerate(asked))
    ready: asyncio.Queue[tuple[int, Event | None] | Exception] = asyncio.Queue(_AHEAD)

    async def work() -> None:
        try:
            while left:
                index, one = left.popleft()
                await ready.put((index, None))
                async with aclosing(service.solve(one, bill)) as events:
                    async for event in events:
                        await ready.put((index, event))
        except Exception as error:  # raised where the events are read
            await ready.put(error)

    async def further() -> None:
        async with service.gate.further():
            await work()

    tasks = [asyncio.create_task(work()), *(asyncio.create_task(further()) for _ in asked[1:])]
    try:
        over = 0
        while over < len(asked):
            item = await ready.get()
            if isinstance(item, Exception):
                raise item
            over += isinstance(item[1], Solution)
            yield item
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _sse(message: Mapping[str, Any]) -> bytes:
    """Return a server-sent event; one with a type is named by it, as the Responses API does."""
    if message is DONE:
        return b"data: [DONE]\n\n"
    name = f"event: {message['type']}\n" if "type" in message else ""
    return f"{name}data: {json.dumps(message, separators=(',', ':'))}\n\n".encode()
