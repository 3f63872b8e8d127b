"""Bodies that people's servers really send: no stream, no reason, content in parts, log-probabilities with holes."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tandem.errors import CapabilityError, EndpointError
from tandem.ledger import Ledger
from tandem.models.base import Request
from tandem.models.call import Call
from tandem.models.openai import OpenAIModel
from tandem.spec import ModelSpec
from tandem.types import Message

SPEC = ModelSpec(name="odd", vocabulary=50_000)
JSON, EVENTS, HTML = "application/json", "text/event-stream", "text/html"


class Odd(ThreadingHTTPServer):
    """Sends its bodies in turn, the last one for ever, all with status 200."""

    def __init__(self, bodies: list[tuple[str, str]]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bodies, self.requests = bodies, 0
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: Odd

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        bodies = self.server.bodies
        kind, body = bodies[min(self.server.requests, len(bodies) - 1)]
        self.server.requests += 1
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body.encode())))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None: ...


@pytest.fixture(autouse=True)
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANDEM_HOME", str(tmp_path))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setattr("tandem.models.openai.errors.FIRST_PAUSE", 0.01)


@pytest.fixture
def odd() -> Iterator[Any]:
    made: list[Odd] = []

    def start(*bodies: tuple[str, str]) -> Odd:
        made.append(Odd(list(bodies)))
        return made[-1]

    yield start
    for server in made:
        server.shutdown()
        server.server_close()


def events(*chunks: dict[str, Any], done: bool = True) -> tuple[str, str]:
    lines = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks] + ["data: [DONE]\n\n"] * done
    return EVENTS, "".join(lines)


def chunk(content: Any = None, *, finish: str | None = None, logprobs: Any = None, **more: Any) -> dict[str, Any]:
    delta = {} if content is None else {"content": content}
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish, "logprobs": logprobs}], **more}


USAGE = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}
FINE = events(chunk("four", finish="stop"), {"choices": [], "usage": USAGE})


async def ask(server: Odd, **changes: Any) -> Call:
    """Read one answer to its end. Raises what the call raises."""
    model = OpenAIModel(SPEC, base_url=server.url)
    fields: dict[str, Any] = {
        "messages": (Message(role="user", content="2+2?"),),
        "purpose": "answer",
        "max_tokens": 64,
    }
    try:
        async with Call(model, Request(**(fields | changes)), "intern", Ledger()) as call:
            async for _ in call:
                pass
        return call
    finally:
        await model.aclose()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"error": {"code": 401, "message": "no such key"}}, "wants a key"),
        ({"error": {"code": "invalid_api_key", "message": "no such key"}}, "wants a key"),
        ({"error": {"code": "context_length_exceeded", "message": "8192 tokens at most"}}, "the prompt is too long"),
        ({"error": {"type": "invalid_request_error", "message": "no such field"}}, "no such field"),
        ({"error": {"code": "insufficient_quota", "message": "pay first"}}, "no credit left"),
    ],
)
async def test_an_error_with_status_200_is_final_and_has_the_servers_words(
    odd: Any, body: dict[str, Any], words: str
) -> None:
    server = odd((JSON, json.dumps(body)))
    with pytest.raises(EndpointError, match=words) as raised:
        await ask(server)
    assert server.requests == 1
    assert raised.value.usage is not None and raised.value.usage.worst == raised.value.usage.prompt == 0


@pytest.mark.parametrize("code", [429, "429", "rate_limit_exceeded", 503, "overloaded_error", 500])
async def test_a_busy_server_with_status_200_is_asked_again(odd: Any, code: object) -> None:
    server = odd((JSON, json.dumps({"error": {"code": code, "message": "later"}})), FINE)
    call = await ask(server)
    assert (call.text, server.requests) == ("four", 2)


async def test_an_error_within_a_stream_whose_code_is_a_word_is_final(odd: Any) -> None:
    server = odd(events({"error": {"code": "context_length_exceeded", "message": "8192 tokens at most"}}))
    with pytest.raises(EndpointError, match="the prompt is too long"):
        await ask(server)
    assert server.requests == 1


async def test_a_page_is_named_and_not_asked_for_again(odd: Any) -> None:
    server = odd((HTML, "<html><head><title>Sign in</title></head>\n<body>Sign in first</body></html>"))
    with pytest.raises(EndpointError, match=r"no stream: .*Sign in first; is its address right"):
        await ask(server)
    assert server.requests == 1


async def test_a_whole_answer_instead_of_a_stream_is_taken_and_charged(odd: Any) -> None:
    message = {"role": "assistant", "content": "four", "reasoning_content": "two and two"}
    entry = {"logprob": -0.1, "token": "four", "top_logprobs": [{"logprob": -0.1, "token": "four"}]}
    whole = {
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": {"content": [entry]}}],
        "usage": USAGE,
    }
    for body in (json.dumps(whole), json.dumps(whole, indent=2)):
        call = await ask(odd((JSON, body)), top_logprobs=1)
        assert call.text == "<think>two and two</think>four" and call.finish_reason == "stop"
        usage = call._usage
        assert usage is not None and (usage.prompt, usage.completion, usage.source) == (9, 2, "reported")
        assert len(call.stats) == 1


async def test_an_end_without_a_reason_is_an_end(odd: Any) -> None:
    server = odd(events(chunk("four"), {"choices": [], "usage": USAGE}))
    call = await ask(server)
    assert (call.text, call.finish_reason, server.requests) == ("four", "stop", 1)
    assert call._usage is not None and call._usage.source == "reported"


async def test_an_end_without_a_reason_at_the_limit_is_a_cut(odd: Any) -> None:
    call = await ask(odd(events(chunk("fo"), chunk("ur"))), max_tokens=2)
    assert (call.text, call.finish_reason) == ("four", "length")


async def test_a_stream_that_breaks_off_is_still_no_end(odd: Any) -> None:
    server = odd(events(chunk("four"), done=False), FINE)
    assert (await ask(server)).text == "four" and server.requests == 2


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ([[{"type": "text", "text": "fo"}, {"type": "text", "text": "ur"}]], "four"),
        ([[{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "four"}]], "<think>hm</think>four"),
        (
            [[{"type": "thinking", "thinking": [{"type": "text", "text": "h"}]}], [{"type": "text", "text": "four"}]],
            "<think>h</think>four",
        ),
        ([[], "four"], "four"),
    ],
)
async def test_content_in_parts_is_joined(odd: Any, parts: list[Any], text: str) -> None:
    server = odd(events(*(chunk(part) for part in parts), chunk(finish="stop"), {"choices": [], "usage": USAGE}))
    assert (await ask(server)).text == text


def logprobs(own: Any = -0.5, top: Any = (-0.5, -1.5)) -> dict[str, Any]:
    entry: dict[str, Any] = {"token": "x", "logprob": own}
    if top is not None:
        entry["top_logprobs"] = [{"token": str(n), "logprob": value} for n, value in enumerate(top)]
    return {"content": [entry]}


HOLES = [logprobs(None), logprobs(math.nan), logprobs(top=None), logprobs(top=(-0.5, None)), logprobs(top=(math.nan,))]


@pytest.mark.parametrize("hole", HOLES, ids=["own null", "own NaN", "no alternatives", "null", "NaN"])
async def test_a_hole_in_the_log_probabilities_is_a_hole(odd: Any, hole: dict[str, Any]) -> None:
    chunks = [chunk("a ", logprobs=logprobs()) for _ in range(6)]
    chunks[2] = chunk("b ", logprobs=hole)
    server = odd(events(*chunks, chunk("", finish="stop", logprobs={"content": None})))
    call = await ask(server, top_logprobs=2)
    assert call.text == "a a b a a a " and call.tokens == 6
    assert len(call.stats) == 5
    assert all(math.isfinite(value) for stat in call.stats for value in stat)


@pytest.mark.parametrize("hole", [*HOLES, {"content": []}, {"content": None}])
async def test_too_many_holes_are_one_clear_failure(odd: Any, hole: dict[str, Any]) -> None:
    server = odd(events(chunk("a ", logprobs=logprobs()), *(chunk("b ", logprobs=hole) for _ in range(40))))
    with pytest.raises(CapabilityError, match=r"'odd' at 127\.0\.0\.1:\d+ leaves out the log-probabilities of 9 of"):
        await ask(server, top_logprobs=2)
    assert server.requests == 1
