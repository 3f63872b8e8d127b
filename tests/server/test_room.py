"""Room and time: who finds the server full is told when to come again, who takes too long is stopped at both models."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from serving import ANSWER, INSIGHT, Held, Server, chat, events, intern, mentor, until

from tandem.models.fake import FakeModel, Rule, Script

Start = Callable[..., Server]
EAGER = {"tandem": {"pace": "eager"}}


def error(response: httpx.Response) -> dict[str, Any]:
    found: dict[str, Any] = response.json()["error"]
    return found


def stopped(server: Server) -> None:
    """Wait until nothing of a request is left: both models were stopped, its room is free."""
    assert isinstance(server.mentor, FakeModel) and isinstance(server.intern, FakeModel)
    until(lambda: server.service.gate.running == server.service.gate.waiting == 0)
    assert [call.purpose for call in server.mentor.aborted] == ["insight"]
    assert [call.purpose for call in server.intern.aborted] == ["answer"]


def held_pair() -> tuple[Held, Held]:
    """Return a mentor and an intern that are both held in the midst of their first text."""
    return Held(INSIGHT, after=2, name="fake-mentor"), Held(ANSWER, after=2)


def test_a_full_server_says_when_to_come_again(start: Start) -> None:
    model = Held("one two three")
    server = start(None, model, concurrency=1, queue=1)
    with ThreadPoolExecutor(2) as threads:
        inside = threads.submit(server.post, chat("intern"))
        assert model.reached.wait(60)
        waiting = threads.submit(server.post, chat("intern"))
        until(lambda: server.service.gate.waiting == 1)
        assert server.metrics("tandem_requests_running") == server.metrics("tandem_requests_waiting") == 1
        for body in (chat("intern"), chat("intern", stream=True)):
            refused = server.post(body)
            assert refused.status_code == 429 and 1 <= int(refused.headers["retry-after"]) <= 300
            assert (error(refused)["type"], error(refused)["code"]) == ("rate_limit_error", "overloaded")
        with server.http() as client:
            assert client.get("/readyz").status_code == client.get("/v1/models").status_code == 200
        assert len(model.calls) == 1
        model.let_go()
        assert inside.result().status_code == waiting.result().status_code == 200
    assert server.post(chat("intern")).status_code == 200
    assert server.metrics("tandem_requests_total", status="429") == 2


def test_a_full_server_takes_nobodys_turn(start: Start, tmp_path: Any) -> None:
    from tandem.server.keys import add_key

    model, file = Held("one two three"), tmp_path / "keys.yaml"
    server = start(None, model, concurrency=1, queue=0, keys=file, key=add_key(file, "alice", 2, None))
    with ThreadPoolExecutor(1) as threads:
        inside = threads.submit(server.post, chat("intern"))
        assert model.reached.wait(60)
        assert [error(server.post(chat("intern")))["code"] for _ in range(3)] == ["overloaded"] * 3
        model.let_go()
        assert inside.result().status_code == 200
    assert server.post(chat("intern")).status_code == 200  # the second of two a minute


@pytest.mark.slow
@pytest.mark.parametrize("stream", [False, True])
def test_what_takes_too_long_is_stopped_at_both_models(start: Start, climbing: str, stream: bool) -> None:
    server = start(*held_pair(), deadline=5.0, classifier=climbing)
    response = server.post(chat(stream=stream, **EAGER))
    if stream:
        chunks = events(response)
        told = chunks[-1]["error"]
        assert response.status_code == 200 and chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    else:
        told = error(response)
        assert response.status_code == 504
    assert (told["type"], told["code"]) == ("server_error", "timeout") and "server's 5 s" in told["message"]
    stopped(server)
    until(lambda: server.metrics("tandem_requests_total", model="tandem", status="504") == 1)
    assert server.metrics("tandem_tokens_total", role="mentor") == 2  # what was written is noted all the same


@pytest.mark.slow
def test_waiting_for_room_is_no_part_of_the_deadline(start: Start) -> None:
    model = Held("one two three")
    server = start(None, model, concurrency=1, queue=4, deadline=5.0)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(server.post, chat("intern"))
        assert model.reached.wait(60)
        second = threads.submit(server.post, chat("intern"))
        assert first.result().status_code == 504
        model.let_go()
        assert second.result().status_code == 200


@pytest.mark.slow
def test_all_choices_share_one_deadline(start: Start) -> None:
    script = Script(rules=(Rule(text="one two three"),), first_token_seconds=1.0)
    server = start(None, FakeModel(script, name="fake-intern"), deadline=3.5, concurrency=1)
    assert server.post(chat("intern")).status_code == 200
    assert server.post(chat("intern", n=4, temperature=1)).status_code == 504  # one after another: there is one slot


@contextmanager
def connection(server: Server, body: dict[str, Any], path: str = "/v1/chat/completions") -> Iterator[socket.socket]:
    """Send a request over a bare socket, which is closed without a word."""
    host, port = server.url.removeprefix("http://").split(":")
    content = json.dumps(body).encode()
    with socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.connect((host, int(port)))
        head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        raw.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
        yield raw


@pytest.mark.parametrize("http", ["h11", "httptools"])
@pytest.mark.parametrize("stream", [False, True])
def test_who_goes_away_stops_both_models(start: Start, climbing: str, stream: bool, http: str) -> None:
    if http == "httptools":
        pytest.importorskip("httptools")
    first, second = held_pair()
    server = start(first, second, concurrency=1, classifier=climbing, http=http)
    with connection(server, chat(stream=stream, **EAGER)) as raw:
        assert first.reached.wait(60) and second.reached.wait(60)
        if stream:
            assert b"200 OK" in raw.recv(4096)
        assert server.service.gate.running == 1
    stopped(server)
    until(lambda: server.metrics("tandem_requests_total", model="tandem", status="499") == 1)
    first.let_go()
    second.let_go()
    assert server.ask("tandem")["choices"][0]["message"]["content"] == ANSWER  # the only room there is


def test_the_official_client_may_close_a_stream(start: Start) -> None:
    model = Held("one two three four", after=2)
    server = start(None, model)
    with server.openai() as client:
        asked: Any = [{"role": "user", "content": "x"}]
        stream = client.chat.completions.create(model="intern", messages=asked, stream=True)
        assert next(iter(stream)).choices[0].delta.role == "assistant"
        assert model.reached.wait(60)
        stream.close()
    until(lambda: len(model.aborted) == 1 and server.service.gate.running == 0)


def test_who_goes_away_from_a_text_completion(start: Start) -> None:
    model = Held("one two three", after=1)
    server = start(None, model)
    for stream in (False, True):
        model.reached.clear()
        body = {"model": "intern", "prompt": "x", "stream": stream}
        with connection(server, body, "/v1/completions"):
            assert model.reached.wait(60)
        until(lambda: server.service.gate.running == 0)
    assert len(model.aborted) == 2


def test_who_goes_away_while_waiting_gives_up_the_place(start: Start) -> None:
    model = Held("one two three")
    server = start(None, model, concurrency=1, queue=1)
    with ThreadPoolExecutor(1) as threads:
        inside = threads.submit(server.post, chat("intern"))
        assert model.reached.wait(60)
        with connection(server, chat("intern")):
            until(lambda: server.service.gate.waiting == 1)
        until(lambda: server.service.gate.waiting == 0)
        model.let_go()
        assert inside.result().status_code == 200
    assert len(model.calls) == 1


@pytest.mark.slow
def test_who_stops_reading_does_not_keep_the_room(start: Start) -> None:
    long = intern(("x" * 20_000 + " ") * 1000)  # 20 MB: more than the sockets on its way hold
    server = start(None, long, concurrency=1, deadline=5.0)
    with connection(server, chat("intern", stream=True)) as raw:
        assert b"200 OK" in raw.recv(100)
        until(lambda: server.service.gate.running == 0)
    until(lambda: server.metrics("tandem_requests_total", model="intern", status="504") == 1)
    assert len(long.aborted) == 1
    assert server.post(chat("mentor")).status_code == 200


def test_many_at_once_all_get_their_own_answer(start: Start) -> None:
    model = FakeModel(name="fake-intern")
    model.answer = lambda request: "echo " + request.messages[-1].content.partition("Problem: ")[2]
    server = start(mentor(), model, concurrency=4, queue=100)
    barrier = threading.Barrier(24)

    def ask(number: int) -> str:
        barrier.wait(60)
        with server.http() as client:
            response = client.post(
                "/v1/chat/completions", json=chat("intern", f"number {number}", stream=number % 2 == 0)
            )
            if number % 2:
                return str(response.json()["choices"][0]["message"]["content"])
            return "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in events(response)[:-1])

    with ThreadPoolExecutor(24) as threads:
        assert list(threads.map(ask, range(24))) == [f"echo number {number}" for number in range(24)]
