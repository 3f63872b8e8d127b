"""What goes wrong behind a request that was well meant: models that fail, faults of ours, too much, nowhere."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from serving import Server, chat, error_of, events

from tandem.models.fake import FakeModel, Rule, Script

Start = Callable[..., Server]
CHAT = "/v1/chat/completions"


def test_a_prompt_that_leaves_no_room_for_the_instructions(start: Start) -> None:
    server = start()  # it fits by itself, and is over the context with what the mentor is told beside it
    words = "word " * 32_760
    error = error_of(server.post(chat("fixed:low", words)))
    assert error["type"] == "invalid_request_error" and "too long" in error["message"]
    (event,) = [chunk for chunk in events(server.post(chat("fixed:low", words, stream=True))) if "error" in chunk]
    assert "too long" in event["error"]["message"]


@pytest.mark.parametrize("http", ["h11", "httptools"])
def test_a_body_that_is_too_large(start: Start, http: str) -> None:
    if http == "httptools":
        pytest.importorskip("httptools")
    server = start(max_body=50_000, http=http)
    large = json.dumps(chat(content="x" * 200_000)).encode()

    def pieces() -> Iterator[bytes]:
        for place in range(0, len(large), 10_000):
            yield large[place : place + 10_000]

    with server.http() as client:
        for content in (large, pieces()):  # with its length said, and without
            response = client.post(CHAT, content=content, headers={"Content-Type": "application/json"})
            error = error_of(response, 413)
            assert error["code"] == "body_too_large" and "50,000 bytes" in error["message"]
        assert client.post(CHAT, json=chat("intern", "x" * 40_000)).status_code == 200
    assert isinstance(server.intern, FakeModel) and len(server.intern.calls) == 1
    assert server.metrics("tandem_requests_total", status="413") == 2


def test_paths_and_methods_that_there_are_not(plain: Server) -> None:
    with plain.http() as client:
        assert "/v1/embeddings" in error_of(client.post("/v1/embeddings", json={}), 404)["message"]
        assert "GET" in error_of(client.get(CHAT), 405)["message"]
        assert client.get(CHAT).headers["allow"] == "POST"
        error_of(client.get("/v1"), 404)
        error_of(client.get("/page/../app.py"), 404)
        error_of(client.get("/page/%2e%2e%2fapp.py"), 404)
        error_of(client.delete("/v1/models/tandem"), 405)


class Broken(FakeModel):
    """A model with a fault of its own, not one that it knows of."""

    async def stream(self, request: Any) -> Any:
        if self.script.rules:
            async for delta in super().stream(request):
                yield delta
        raise RuntimeError("secret: an invariant broke")


@pytest.mark.parametrize("rules", [(), (Rule(text="one two"),)], ids=["at once", "in its midst"])
def test_a_fault_of_ours_is_an_error_too(start: Start, rules: tuple[Rule, ...]) -> None:
    server = start(None, Broken(Script(rules=rules), name="fake-intern"))
    error = error_of(server.post(chat("intern")), 500)
    assert error["type"] == "server_error" and "secret" not in error["message"]
    chunks = events(server.post(chat("intern", stream=True)))
    assert chunks[-1] == {"error": error}
    error_of(server.post({"model": "intern", "prompt": "x"}, "/v1/completions"), 500)
    assert events(server.post({"model": "intern", "prompt": "x", "stream": True}, "/v1/completions"))[-1]["error"]
    server.idle()
    assert server.metrics("tandem_requests_total", status="500") == 4


@pytest.mark.parametrize("after", [0, 2])
def test_a_models_failure_is_told(start: Start, after: int) -> None:
    script = Script(rules=(Rule(text="one two three", fault="the GPU is gone", fault_after=after),))
    server = start(None, FakeModel(script, name="fake-intern"))
    error = error_of(server.post(chat("intern")), 502)
    assert (error["type"], error["code"]) == ("server_error", "upstream") and "the GPU is gone" in error["message"]
    chunks = events(server.post(chat("intern", stream=True)))
    written = [chunk["choices"][0]["delta"]["content"] for chunk in chunks[1:-1]]
    assert written == ["one", " two"][:after] and chunks[-1] == {"error": error}  # no [DONE] behind it
    server.idle()
    assert server.metrics("tandem_requests_total", model="intern", status="502") == 2
    assert server.metrics("tandem_requests_total", status="200") == 0
    assert server.metrics("tandem_tokens_total", role="intern") == 2 * after  # what was written for nothing was paid
