"""Log-probabilities of a given text, from a real HTTP server that answers as vLLM does."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tandem.errors import CapabilityError, EndpointError
from tandem.ledger import Usage
from tandem.models.base import Reads, Tokenizes
from tandem.models.logprobs import token_stat
from tandem.models.openai import OpenAIModel
from tandem.spec import ModelSpec
from tandem.types import ScoredToken

SPEC = ModelSpec(name="reader", vocabulary=1000)


class Server(ThreadingHTTPServer):
    """Splits a prompt into words and says what it is told to; `bodies` are the requests."""

    refuses = 0  # requests answered with 503 first
    shape = "vllm"

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.bodies: list[dict[str, Any]] = []


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *args: object) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.bodies.append(body)
        if len(self.server.bodies) <= self.server.refuses:
            return self._send(503, {"error": {"message": "busy"}})
        if self.server.shape == "refuses":
            return self._send(400, {"error": {"message": "Unsupported parameter: prompt_logprobs"}})
        if self.path == "/detokenize":
            return self._send(200, {"prompt": " ".join(f"w{token}" for token in body["tokens"])})
        if self.path == "/tokenize":
            return self._send(200, {"tokens": [100 + k for k, _ in enumerate(body["prompt"].split())]})
        text = body["prompt"] if isinstance(body["prompt"], str) else " ".join(f"w{token}" for token in body["prompt"])
        words = text.replace(" ", "| ").split("|")
        choice: dict[str, Any] = {"text": "x", "finish_reason": "length"}
        if self.server.shape == "vllm":
            entries: list[Any] = [None]
            for place, word in enumerate(words[1:], 1):
                best = {"7": {"logprob": -0.25, "rank": 1, "decoded_token": "a"}}
                best["8"] = {"logprob": -2.0, "rank": 2, "decoded_token": "b"}
                own = {"logprob": -5.0 - place, "rank": 40, "decoded_token": word}
                entries.append({str(100 + place): own} | best)
            choice |= {"prompt_logprobs": entries, "prompt_token_ids": [100 + k for k in range(len(words))]}
        if "logprobs" in body:
            choice["logprobs"] = {"tokens": ["x"], "token_logprobs": [-0.5], "top_logprobs": [{"x": -0.5, "y": -1.5}]}
        usage = {"prompt_tokens": len(words), "completion_tokens": 1, "total_tokens": len(words) + 1}
        return self._send(200, {"choices": [choice], "usage": usage})

    def _send(self, status: int, answer: dict[str, Any]) -> None:
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr("tandem.models.openai.errors.FIRST_PAUSE", 0.01)
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def model_at(server: Server, **options: Any) -> OpenAIModel:
    return OpenAIModel(SPEC, base_url=f"http://127.0.0.1:{server.server_port}/v1", **options)


async def test_a_text_is_read_with_its_tokens_and_their_statistics(server: Server) -> None:
    model = model_at(server)
    assert isinstance(model, Reads)
    reading = await model.read("What is it", top_logprobs=2)
    await model.aclose()
    assert list(reading.pieces) == ["What", " is", " it"]
    # A token that is not among the best does not count to the entropy twice.
    assert list(reading.stats) == [token_stat(own, [-0.25, -2.0], 1000) for own in (-6.0, -7.0)]
    assert reading.usage == Usage(prompt=3, completion=1)
    body = server.bodies[0]
    assert (body["prompt_logprobs"], body["max_tokens"], body["temperature"]) == (2, 1, 0.0)
    assert body["prompt"] == "What is it" and "messages" not in body


async def test_a_long_text_is_cut_to_its_beginning(server: Server) -> None:
    model = model_at(server)
    await model.read("word " * 3000, max_tokens=50)
    await model.aclose()
    sent = server.bodies[0]["prompt"]
    assert ("word " * 3000).startswith(sent) and 0 < len(sent) <= 50 * 8


async def test_a_busy_server_is_asked_again(server: Server) -> None:
    server.refuses = 2
    model = model_at(server)
    reading = await model.read("a b")
    await model.aclose()
    assert len(server.bodies) == 3 and len(reading.stats) == 1


async def test_a_server_that_stays_busy_is_given_up(server: Server) -> None:
    server.refuses = 99
    model = model_at(server, retries=1)
    with pytest.raises(EndpointError):
        await model.read("a b")
    await model.aclose()
    assert len(server.bodies) == 2


@pytest.mark.parametrize("shape", ["refuses", "ignores"])
async def test_a_server_without_them_is_said_to_have_none(server: Server, shape: str) -> None:
    server.shape = shape
    model = model_at(server)
    with pytest.raises(CapabilityError, match="log-probabilities of a prompt"):
        await model.read("a b")
    await model.aclose()
    assert len(server.bodies) == 1


@pytest.mark.parametrize("text", ["w5 w6 w7", (5, 6, 7)])
async def test_with_alternatives_its_tokens_come_too(server: Server, text: str | tuple[int, ...]) -> None:
    model = model_at(server)
    reading = await model.read(text, top_logprobs=2, alternatives=1)
    assert isinstance(model, Tokenizes) and await model.encode("a b", special=False) == [100, 101]
    await model.aclose()
    assert reading.text == "w5 w6 w7" and [token.text for token in reading.scored] == ["w5", " w6", " w7"]
    assert [token.logprob for token in reading.scored] == [None, -6.0, -7.0]
    assert [token.top for token in reading.scored] == [(), *[(ScoredToken("a", -0.25),)] * 2]
    assert reading.following == ScoredToken("x", -0.5, (ScoredToken("x", -0.5),)) and not reading.ended
    body = server.bodies[0]
    assert body["logprobs"] == 2 and body["prompt"] == (text if isinstance(text, str) else [5, 6, 7])


async def test_a_server_without_a_tokenizer_says_so(server: Server) -> None:
    server.shape = "refuses"
    model = model_at(server)
    with pytest.raises(CapabilityError, match="'reader' has no tokenizer at its endpoint"):
        await model.encode("a b", special=True)
    await model.aclose()
