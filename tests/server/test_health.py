"""Alive, ready, draining: what a balancer is told, and what a request meets while the models are not there."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from anyio.from_thread import start_blocking_portal
from serving import Server, chat, intern, serving, until
from stub import Reply, Stub

from tandem.errors import EndpointError
from tandem.models.fake import FakeModel
from tandem.server.running import listen
from tandem.spec import ModelSpec

Start = Callable[..., Server]


class Late(FakeModel):
    """A model that fails until it is `there`."""

    def __init__(self, error: Exception) -> None:
        super().__init__(name="fake-mentor")
        self.there = threading.Event()
        self.probes = 0
        self._error = error

    async def probe(self) -> ModelSpec:
        self.probes += 1
        if not self.there.is_set():
            raise self._error
        return await super().probe()


def get(server: Server, path: str) -> tuple[int, dict[str, Any]]:
    with server.http() as client:
        response = client.get(path)
    return response.status_code, response.json()


@pytest.mark.slow
@pytest.mark.parametrize(
    "error", [EndpointError("the mentor's server is down", retryable=True), RuntimeError("the mentor's server is odd")]
)
def test_ready_as_soon_as_the_models_are_there(start: Start, error: Exception) -> None:
    model = Late(error)
    server = start(model, ready=False)
    until(lambda: get(server, "/readyz") == (503, {"status": "failed", "reason": str(error)}))
    assert get(server, "/healthz") == (200, {"status": "ok"})
    for body in (chat(), chat(stream=True)):
        refused = server.post(body)
        assert refused.status_code == 503 and int(refused.headers["retry-after"]) > 0
        assert refused.json()["error"]["message"] == str(error)
    with server.http() as client:
        assert client.get("/v1/models").status_code == client.get("/metrics").status_code == 200
    model.there.set()
    until(lambda: server.service.ready)
    assert get(server, "/readyz") == (200, {"status": "ready"})
    assert server.ask("mentor")["choices"]
    assert model.probes >= 2 and len(model.calls) == 1


def test_starting_until_the_models_have_answered() -> None:
    holding, go = threading.Event(), threading.Event()

    class Slow(FakeModel):
        async def probe(self) -> ModelSpec:
            holding.set()
            await asyncio.to_thread(go.wait, 60)
            return await super().probe()

    with serving(Slow(name="fake-mentor"), ready=False) as server:
        assert holding.wait(60)
        assert get(server, "/readyz") == (503, {"status": "starting", "reason": None})
        assert "being made ready" in server.post(chat()).json()["error"]["message"]
        go.set()
        until(lambda: get(server, "/readyz")[0] == 200)


def test_a_server_ends_while_it_waits_for_its_models() -> None:
    with serving(Late(EndpointError("down")), ready=False) as server:
        until(lambda: server.service.failure)


def test_a_draining_server_lets_nobody_new_in(start: Start) -> None:
    server = start()
    server.service.gate.drain()
    assert get(server, "/readyz") == (503, {"status": "draining"})
    assert get(server, "/healthz") == (200, {"status": "ok"})
    for body in (chat(), chat(stream=True)):
        refused = server.post(body)
        assert refused.status_code == 503 and int(refused.headers["retry-after"]) > 0
        assert refused.json()["error"]["type"] == "server_error"
    assert server.metrics("tandem_requests_total", status="503") == 2


@pytest.fixture
def stubs() -> Iterator[Callable[[Stub], Stub]]:
    with ExitStack() as stack:
        portal = stack.enter_context(start_blocking_portal())
        yield lambda stub: stack.enter_context(portal.wrap_async_context_manager(stub))


@pytest.mark.slow
def test_a_mentor_whose_endpoint_comes_up_later(stubs: Callable[[Stub], Stub]) -> None:
    with listen("127.0.0.1", 0) as found:
        port = found.getsockname()[1]
    endpoint = f"http://127.0.0.1:{port}/v1"
    with serving("big-one", intern(), mentor_endpoint=endpoint, ready=False) as server:  # type: ignore[arg-type]
        until(lambda: get(server, "/readyz")[1]["status"] == "failed", 60)
        status, body = get(server, "/readyz")
        assert status == 503 and f"127.0.0.1:{port}" in body["reason"]
        refused = server.post(chat("mentor"))
        assert refused.status_code == 503 and refused.json()["error"]["message"] == body["reason"]
        stub = stubs(Stub(Reply(tokens=("It", " is", " 391.")), models=[{"id": "big-one"}], port=port))
        until(lambda: get(server, "/readyz")[0] == 200, 60)
        assert server.ask("mentor")["choices"][0]["message"]["content"] == "It is 391."
        assert stub.chats


def test_every_answer_of_health_is_json(plain: Server) -> None:
    with httpx.Client(base_url=plain.url, trust_env=False, verify=False) as client:
        for path in ("/healthz", "/readyz", "/openapi.json"):
            assert client.get(path).headers["content-type"] == "application/json"
