"""A stream says that it lives: in the queue and while nothing is written; what is known before stays an HTTP error."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
from serving import ANSWER, Held, Server, chat, error_of, until

from tandem.server.gate import Gate

Start = Callable[..., Server]
COMMENT = ": keep-alive"
EVERY = 0.05


def lines_until(response: httpx.Response, wanted: int) -> list[str]:
    """Read a stream until it has had so many comments."""
    found: list[str] = []
    for line in response.iter_lines():
        found += [line] if line else []
        if found.count(COMMENT) == wanted:
            break
    return found


def test_a_stream_in_the_queue_has_its_headers_and_comments_then_its_answer(start: Start) -> None:
    model = Held(ANSWER)
    server = start(None, model, concurrency=1, queue=1, keep_alive=EVERY)
    body = chat("intern", stream=True)
    with ThreadPoolExecutor(1) as pool, server.http() as client:
        first = pool.submit(server.post, chat("intern"))
        until(model.reached.is_set)
        with client.stream("POST", "/v1/chat/completions", json=body) as queued:
            assert queued.status_code == 200 and queued.headers["content-type"].startswith("text/event-stream")
            lines = queued.iter_lines()
            seen = [line for line, _ in zip(filter(None, lines), range(3), strict=False)]
            assert seen == [COMMENT] * 3 and server.service.gate.waiting == 1
            over = server.post(body)  # whose place there is none for
            assert error_of(over, 429)["code"] == "overloaded" and over.headers["Retry-After"]
            model.let_go()
            rest = [line for line in lines if line and line != COMMENT]
        assert rest[-1] == "data: [DONE]" and sum('"content":"' in line for line in rest) > 3
        assert first.result().status_code == 200
    server.idle()
    assert server.service.gate.waiting == 0


def test_comments_come_while_a_draft_is_silent_and_clients_read_over_them(start: Start) -> None:
    model = Held(ANSWER)
    server = start(None, model, keep_alive=EVERY)
    with server.openai() as client, ThreadPoolExecutor(1) as pool:
        asked: Any = {"model": "tandem", "messages": [{"role": "user", "content": "What is 17*23?"}]}
        answer = pool.submit(
            lambda: "".join(
                chunk.choices[0].delta.content or "" for chunk in client.chat.completions.create(**asked, stream=True)
            )
        )
        with server.http() as raw, raw.stream("POST", "/v1/chat/completions", json=chat(stream=True)) as response:
            assert COMMENT in lines_until(response, 2)
        model.let_go()
        assert answer.result(60) == ANSWER


def test_a_client_that_leaves_the_queue_gives_its_place_back(start: Start) -> None:
    model = Held(ANSWER)
    server = start(None, model, concurrency=1, queue=1, keep_alive=EVERY)
    with ThreadPoolExecutor(1) as pool, server.http() as client:
        first = pool.submit(server.post, chat("intern"))
        until(model.reached.is_set)
        with client.stream("POST", "/v1/chat/completions", json=chat("intern", stream=True)) as queued:
            lines_until(queued, 1)
        until(lambda: server.service.gate.waiting == 0)
        model.let_go()
        assert first.result().status_code == 200
    server.idle()
    assert server.ask("intern")["choices"][0]["message"]["content"] == ANSWER
    assert len(model.calls) == 2, "nothing was asked for the one that left"


def test_an_error_behind_the_queue_is_the_streams_last_event(start: Start) -> None:
    model = Held(ANSWER)
    server = start(None, model, concurrency=1, queue=1, keep_alive=EVERY, deadline=0.2)
    body = chat("intern", stream=True)
    with server.http() as client, client.stream("POST", "/v1/chat/completions", json=body) as response:
        lines = [line for line in response.iter_lines() if line]
    assert lines[0].startswith('data: {"id"') and COMMENT in lines
    assert '"code":"timeout"' in lines[-1] and response.status_code == 200
    server.idle()


async def test_a_place_that_is_left_at_once_is_no_longer_waited_for() -> None:
    gate = Gate(1, 8)
    async with gate.enter() as first:
        await first.taken()
        for _ in range(3):
            async with gate.enter():
                assert gate.waiting == 1
        async with gate.enter():
            await asyncio.sleep(0)
        assert (gate.running, gate.waiting) == (1, 0)
    async with gate.enter() as next_one:
        await next_one.taken()
        assert (gate.running, gate.waiting) == (1, 0)
    assert (gate.running, gate.waiting) == (0, 0)


async def test_slots_go_round_while_requests_come_and_leave() -> None:
    gate, draw = Gate(3, 1000), random.Random(5)
    most = 0

    async def one(patience: float) -> None:
        nonlocal most
        async with asyncio.timeout(patience), gate.enter() as seat:
            await seat.taken()
            most = max(most, gate.running)
            await asyncio.sleep(0.001)

    await asyncio.gather(*(one(draw.choice([0.0, 0.002, 5.0])) for _ in range(200)), return_exceptions=True)
    assert most == 3 and (gate.running, gate.waiting) == (0, 0)
    async with gate.enter(), gate.enter(), gate.enter() as last:
        await last.taken()
        assert gate.running == 3, "all slots were given back"
