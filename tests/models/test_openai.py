"""OpenAIModel against a real HTTP server that answers, stalls and breaks as scripted."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from stub import Reply, Stub

from tandem.errors import CapabilityError, EndpointError, MissingKeyError, TandemError
from tandem.ledger import Usage
from tandem.models.base import Delta, Model, Request
from tandem.models.logprobs import token_stat
from tandem.models.openai import OpenAIModel
from tandem.models.openai.api_keys import ApiKeys
from tandem.models.openai.errors import Origin, retry_after
from tandem.models.openai.request import Dialect
from tandem.models.openai.stream import StreamReader
from tandem.models.openai.usage import reported_usage
from tandem.spec import Continuation, ModelSpec
from tandem.types import Message, Sampling

SPEC = ModelSpec(name="stub", vocabulary=50_000)
KEY = "sk-very-secret-0123456789"
SOON = (("retry-after-ms", "1"),)
SLOW = Reply(tokens=("word ",) * 400, token_delay=0.01, fault="stall", fault_after=40)  # it never ends


@pytest.fixture(autouse=True)
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep every test away from the user's keys and cache."""
    monkeypatch.setenv("TANDEM_HOME", str(tmp_path / "home"))
    for name in ("OPENAI_API_KEY", "OPENROUTER_API_KEY", "TANDEM_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("tandem.models.openai.errors.FIRST_PAUSE", 0.01)


opened: list[OpenAIModel] = []


@pytest.fixture
async def stub() -> AsyncIterator[Stub]:
    async with Stub() as server:
        yield server
        while opened:
            await opened.pop().aclose()


def model_at(stub: Stub, spec: ModelSpec = SPEC, **options: Any) -> OpenAIModel:
    model = OpenAIModel(spec, base_url=stub.url, **options)
    opened.append(model)
    return model


def ask(**changes: Any) -> Request:
    fields: dict[str, Any] = {
        "messages": (Message(role="user", content="Say hello to the world."),),
        "purpose": "answer",
        "max_tokens": 500,
    }
    return Request(**(fields | changes))


async def read(model: Model, request: Request) -> tuple[list[Delta], EndpointError | None]:
    """Return the deltas of a stream and the error that ended it, if one did."""
    deltas: list[Delta] = []
    try:
        async for delta in model.stream(request):
            deltas.append(delta)
    except EndpointError as error:
        return deltas, error
    return deltas, None


def text_of(deltas: list[Delta]) -> str:
    return "".join(d.text for d in deltas)


# What is sent


@pytest.mark.parametrize(
    ("spec", "request_changes", "expected", "absent"),
    [
        pytest.param(
            SPEC,
            {},
            {"model": "stub", "max_tokens": 500, "temperature": 0.0, "top_p": 1.0, "stream": True},
            ["logprobs", "top_logprobs", "seed", "stop", "reasoning_effort", "max_completion_tokens"],
            id="plain",
        ),
        pytest.param(
            SPEC,
            {"sampling": Sampling(temperature=0.7, top_p=0.9, seed=3, stop=("END",)), "top_logprobs": 5},
            {"temperature": 0.7, "top_p": 0.9, "seed": 3, "stop": ["END"], "logprobs": True, "top_logprobs": 5},
            [],
            id="sampling",
        ),
        pytest.param(
            SPEC.model_copy(update={"reasoning": True}),
            {},
            {"max_completion_tokens": 500, "reasoning_effort": "minimal"},
            ["max_tokens", "temperature", "top_p", "logprobs"],
            id="reasoning",
        ),
        pytest.param(
            SPEC.model_copy(update={"continuation": Continuation.NATIVE}),
            {"prefix": "Hello, w"},
            {
                "messages": [
                    {"role": "user", "content": "Say hello to the world."},
                    {"role": "assistant", "content": "Hello, w"},
                ],
                "continue_final_message": True,
                "add_generation_prompt": False,
            },
            [],
            id="prefix",
        ),
    ],
)
async def test_body(
    stub: Stub, spec: ModelSpec, request_changes: dict[str, Any], expected: dict[str, Any], absent: list[str]
) -> None:
    await model_at(stub, spec).complete(ask(**request_changes))
    body = stub.chats[0].body
    assert {name: body.get(name) for name in expected} == expected
    assert [name for name in absent if name in body] == []


async def test_served_name_is_sent(stub: Stub) -> None:
    await model_at(stub, served_name="org/other").complete(ask())
    assert stub.chats[0].body["model"] == "org/other"


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/"])
async def test_base_url_may_lack_v1(stub: Stub, path: str) -> None:
    await OpenAIModel(SPEC, base_url=f"http://127.0.0.1:{stub.port}{path}").complete(ask())
    assert stub.seen[0].path == "/v1/chat/completions"


# What comes back


async def test_stream_yields_each_piece_and_ends_with_usage(stub: Stub) -> None:
    stub.script(Reply(tokens=("a", "b", "c"), prompt_tokens=9, cached_tokens=4, reasoning_tokens=5))
    deltas, error = await read(model_at(stub), ask())
    assert error is None
    assert [d.text for d in deltas if d.text] == ["a", "b", "c"]
    assert [d.finish_reason for d in deltas[:-1]] == [None] * (len(deltas) - 1)
    assert deltas[-1].finish_reason == "stop"
    assert deltas[-1].usage == Usage(prompt=9, cached=4, completion=8, reasoning=5, source="reported")


async def test_length_is_told_from_stop(stub: Stub) -> None:
    done = await model_at(stub).complete(ask(max_tokens=2))
    assert (done.text, done.finish_reason, done.tokens) == ("Hello,", "length", 2)


async def test_stats_are_those_of_each_tokens_log_probabilities(stub: Stub) -> None:
    top = ((-0.5, -1.0, -4.0), (-2.0, -0.2, -9.0), (-0.01, -9999.0, -9999.0))
    stub.script(Reply(tokens=("a", "", "c"), top=top))
    done = await model_at(stub).complete(ask(top_logprobs=3))
    assert list(done.stats) == [token_stat(t[0], t, 50_000) for t in top]
    assert done.tokens == 3  # the one without text counts too


async def test_tokens_are_usage_differences_where_usage_is_continuous(stub: Stub) -> None:
    stub.script(Reply(tokens=("abc", "def"), weight=3))
    deltas, _ = await read(model_at(stub), ask(purpose="insight"))
    assert [d.tokens for d in deltas] == [3, 3, 0]


@pytest.mark.parametrize(
    ("changes", "continuous"),
    [({}, False), ({"purpose": "insight"}, True), ({"top_logprobs": 5}, True)],
    ids=["whole answer", "insight", "draft"],
)
async def test_usage_is_asked_for_as_it_goes_where_a_call_may_be_cut(
    stub: Stub, changes: dict[str, Any], continuous: bool
) -> None:
    done = await model_at(stub).complete(ask(**changes))
    options = stub.chats[0].body["stream_options"]
    assert options == {"include_usage": True} | ({"continuous_usage_stats": True} if continuous else {})
    assert (done.tokens, done.usage) == (4, Usage(prompt=12, completion=4))


async def test_tokens_are_chunks_where_nothing_else_is_known(stub: Stub) -> None:
    stub.script(Reply(tokens=("abc", "", "def"), weight=3, refuses=("stream_options.continuous_usage_stats",)))
    stub.script(Reply(tokens=("abc", "", "def"), weight=3))
    deltas, _ = await read(model_at(stub), ask(purpose="insight"))
    assert [d.tokens for d in deltas] == [1, 1, 0]
    assert deltas[-1].usage is not None
    assert deltas[-1].usage.completion == 9


async def test_the_first_delta_of_continuous_usage_knows_the_prompt(stub: Stub) -> None:
    stub.default = SLOW
    async with aclosing(model_at(stub).stream(ask(purpose="insight"))) as stream:
        first = await anext(stream)
    assert first.usage is not None
    assert first.usage.prompt == 12


@pytest.mark.parametrize(
    ("refuses", "source", "requests"),
    [
        (("stream_options.continuous_usage_stats",), "reported", 3),
        (("stream_options",), "counted", 4),
    ],
)
async def test_usage_options_are_dropped_once_for_all(
    stub: Stub, refuses: tuple[str, ...], source: str, requests: int
) -> None:
    stub.default = Reply(refuses=refuses)
    model = model_at(stub, retries=0)
    done = await model.complete(ask(purpose="insight"))
    await model.complete(ask(purpose="insight"))
    assert done.usage.source == source
    assert done.usage.completion == 4
    assert done.usage.prompt > 0
    assert len(stub.chats) == requests


async def test_reasoning_effort_falls_back(stub: Stub) -> None:
    stub.default = Reply(refuses=("reasoning_effort=minimal",))
    model = model_at(stub, SPEC.model_copy(update={"reasoning": True}), retries=0)
    await model.complete(ask())
    await model.complete(ask())
    assert [s.body["reasoning_effort"] for s in stub.chats] == ["minimal", "low", "low"]


def test_an_effort_that_is_called_a_level_falls_back_too() -> None:
    complaint = "Thinking level MINIMAL is not supported for this model. Please retry with other thinking level."
    once = Dialect().narrower(complaint)
    assert once and once.effort == "low"
    twice = once.narrower(complaint)
    assert twice and twice.effort is None and twice.narrower(complaint) is None


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
async def test_thinking_is_part_of_the_text(stub: Stub, name: str) -> None:
    stub.script(Reply(thinking=("Let me", " see."), thinking_field=name, tokens=("4", "2")))
    done = await model_at(stub).complete(ask())
    assert done.text == "<think>Let me see.</think>42"
    assert done.tokens == 4


async def test_thinking_that_was_cut_stays_open(stub: Stub) -> None:
    stub.script(Reply(thinking=("Let me", " see."), tokens=(), finish="length"))
    assert (await model_at(stub).complete(ask())).text == "<think>Let me see."


async def test_thinking_opened_by_the_prefix_is_not_opened_again(stub: Stub) -> None:
    stub.script(Reply(thinking=(" see.",), tokens=("42",)))
    spec = SPEC.model_copy(update={"continuation": Continuation.NATIVE})
    assert (await model_at(stub, spec).complete(ask(prefix="<think>Let me"))).text == " see.</think>42"


async def test_reasoning_reported_apart_belongs_to_the_completion() -> None:
    report = {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "total_tokens": 35,
        "completion_tokens_details": {"reasoning_tokens": 20},
    }
    assert reported_usage(report) == Usage(prompt=10, completion=25, reasoning=20)


def test_events_may_be_split_anywhere() -> None:
    events: list[dict[str, Any]] = [
        {"choices": [{"delta": {"content": "Grüße, "}, "finish_reason": None}]},
        {"choices": [{"delta": {"content": "\U0001f30d"}, "finish_reason": "stop"}]},
        {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}},
    ]
    lines = [": hello", "", *(f"data: {json.dumps(e, ensure_ascii=False)}" for e in events), "data: [DONE]", ""]
    for end in ("\n", "\r\n"):
        data = end.join(lines).encode()
        for size in (1, 2, 7, len(data)):
            reader = StreamReader(Origin("here", "stub", ApiKeys("here")), vocabulary=None, logprobs=False)
            pieces = [data[i : i + size] for i in range(0, len(data), size)]
            deltas = [d for piece in pieces for d in reader.feed(piece)]
            assert [d.text for d in deltas] == ["Grüße, ", "\U0001f30d"]
            assert (reader.done, reader.finish(), reader.usage) == (True, "stop", Usage(prompt=3, completion=2))


async def test_a_server_without_done_is_understood(stub: Stub) -> None:
    stub.script(Reply(done=False))
    assert (await model_at(stub).complete(ask())).text == "Hello, world!"


# Connections


async def test_closing_the_stream_aborts_the_request(stub: Stub) -> None:
    stub.default = SLOW
    stream = model_at(stub).stream(ask())
    for _ in range(3):
        await anext(stream)
    assert stub.in_flight == 1
    await stream.aclose()
    await stub.until(lambda: stub.chats[0].disconnected)
    assert stub.chats[0].sent < 50 and not stub.chats[0].finished
    assert stub.in_flight == 0


async def test_a_cancelled_call_aborts_the_request(stub: Stub) -> None:
    stub.default = SLOW
    task = asyncio.create_task(model_at(stub).complete(ask()))
    await stub.until(lambda: bool(stub.chats) and stub.chats[0].sent > 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await stub.until(lambda: stub.chats[0].disconnected)


async def test_a_call_cancelled_before_the_first_token_aborts_the_request(stub: Stub) -> None:
    stub.default = Reply(first_delay=30)
    task = asyncio.create_task(model_at(stub).complete(ask()))
    await stub.until(lambda: stub.in_flight == 1)
    task.cancel()
    await stub.until(lambda: stub.chats[0].disconnected)


async def test_connections_are_used_again(stub: Stub) -> None:
    model = model_at(stub)
    for _ in range(4):
        await model.complete(ask())
    assert stub.connections == 1


async def test_no_more_requests_in_flight_than_allowed(stub: Stub) -> None:
    stub.default = Reply(token_delay=0.01)
    model = model_at(stub, max_in_flight=3)
    await asyncio.gather(*(model.complete(ask()) for _ in range(10)))
    assert stub.most_in_flight == 3


async def test_a_slot_is_free_again_after_an_abort_and_an_error(stub: Stub) -> None:
    stub.script(SLOW, Reply(status=400), Reply())
    model = model_at(stub, max_in_flight=1)
    stream = model.stream(ask())
    await anext(stream)
    await stream.aclose()
    with pytest.raises(EndpointError):
        await model.complete(ask())
    assert (await model.complete(ask())).text == "Hello, world!"


async def test_many_streams_at_once(stub: Stub) -> None:
    stub.default = Reply(tokens=tuple(f"{i} " for i in range(50)), token_delay=0.002)
    model = model_at(stub, max_in_flight=64)
    answers = await asyncio.gather(*(model.complete(ask(top_logprobs=5)) for _ in range(64)))
    assert {a.text for a in answers} == {"".join(stub.default.tokens)}
    assert {a.tokens for a in answers} == {50}


async def test_closing_the_model_ends_calls_in_flight(stub: Stub) -> None:
    stub.default = SLOW
    model = model_at(stub)
    task = asyncio.create_task(read(model, ask()))
    await stub.until(lambda: bool(stub.chats) and stub.chats[0].sent > 2)
    await model.aclose()
    _, error = await asyncio.wait_for(task, 60)
    assert error is not None
    await stub.until(lambda: stub.chats[0].disconnected)
    with pytest.raises(EndpointError, match="closed"):
        await model.complete(ask())


def test_a_model_may_be_used_in_one_event_loop_after_another() -> None:
    model: OpenAIModel | None = None

    async def once(port: int) -> tuple[str, int]:
        nonlocal model
        async with Stub(port=port) as stub:
            model = model or model_at(stub, retries=0)
            return (await model.complete(ask())).text, stub.port

    text, port = asyncio.run(once(0))
    assert asyncio.run(once(port))[0] == text == "Hello, world!"


def test_nothing_is_imported_or_connected_at_construction() -> None:
    code = (
        "import sys; from tandem.models.openai import OpenAIModel; from tandem.spec import ModelSpec;"
        "OpenAIModel(ModelSpec(name='m'));"
        "sys.exit(any(name in sys.modules for name in ('openai', 'tiktoken', 'tokenizers')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


# Faults


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503])
async def test_transient_statuses_are_retried(stub: Stub, status: int) -> None:
    stub.script(Reply(status=status, headers=SOON), Reply(status=status, headers=SOON))
    assert (await model_at(stub).complete(ask())).text == "Hello, world!"
    assert len(stub.chats) == 3


@pytest.mark.parametrize("fault", ["reset", "cut", "half-json", "error-event"])
async def test_faults_before_the_first_delta_are_retried(stub: Stub, fault: Any) -> None:
    stub.script(Reply(fault=fault))
    deltas, error = await read(model_at(stub, retries=1), ask())
    assert error is None
    assert text_of(deltas) == "Hello, world!"
    assert len(stub.chats) == 2


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["reset", "cut", "half-json", "error-event", "stall", "comments"])
async def test_a_stream_that_breaks_later_is_a_retryable_error_where_no_try_is_left(stub: Stub, fault: Any) -> None:
    stub.script(Reply(fault=fault, fault_after=2, token_delay=0.01))
    timeout = 2.0 if fault in ("stall", "comments") else 60.0
    deltas, error = await read(model_at(stub, timeout=timeout, retries=0), ask())
    assert text_of(deltas) == "Hello,"
    assert error is not None
    assert error.retryable
    assert "the stream was cut after 2 tokens" in str(error)
    assert len(stub.chats) == 1


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["stall", "comments"])
async def test_a_server_that_sends_nothing_is_given_up(stub: Stub, fault: Any) -> None:
    stub.default = Reply(fault=fault)
    _, error = await read(model_at(stub, timeout=2.0, retries=1), ask())
    assert error is not None
    assert error.retryable
    assert "sent nothing for 2 s" in str(error)
    assert len(stub.chats) == 2
    await stub.until(lambda: all(s.disconnected for s in stub.chats))


@pytest.mark.slow
async def test_a_pause_of_the_reader_is_no_stall(stub: Stub) -> None:
    stub.script(Reply(tokens=("a", "b", "c"), token_delay=0.01))
    texts = []
    async for delta in model_at(stub, timeout=1.0).stream(ask()):
        texts.append(delta.text)
        await asyncio.sleep(1.2)
    assert texts == ["a", "b", "c", ""]


@pytest.mark.parametrize("finish", [None, "stop"])
async def test_an_empty_stream_is_an_answer_only_with_a_finish_reason(stub: Stub, finish: str | None) -> None:
    stub.script(Reply(tokens=(), finish=finish, usage=False))
    deltas, error = await read(model_at(stub, retries=0), ask())
    if finish is None:
        assert "empty answer" in str(error)
    else:
        assert error is None
        assert deltas[-1].finish_reason == "stop"


async def test_the_last_error_is_raised_when_no_retry_is_left(stub: Stub) -> None:
    stub.default = Reply(status=503, headers=SOON, error="overloaded\nvery")
    _, error = await read(model_at(stub, retries=2), ask())
    assert error is not None
    assert error.retryable
    assert str(error) == f"127.0.0.1:{stub.port} answered 503: overloaded very"
    assert len(stub.chats) == 3


@pytest.mark.slow
async def test_retry_after_is_waited_for(stub: Stub) -> None:
    stub.script(Reply(status=429, headers=(("Retry-After", "1"),)))
    began = time.monotonic()
    await model_at(stub).complete(ask())
    assert time.monotonic() - began >= 1.0


async def test_a_long_retry_after_is_an_error(stub: Stub) -> None:
    stub.default = Reply(status=429, headers=(("Retry-After", "3600"),))
    _, error = await read(model_at(stub), ask())
    assert "asks to wait 3600 s" in str(error)
    assert len(stub.chats) == 1


def test_retry_after_forms() -> None:
    assert retry_after({"retry-after": "2.5"}) == 2.5
    assert retry_after({"retry-after-ms": "250", "retry-after": "9"}) == 0.25
    assert retry_after({"retry-after": formatdate(time.time() - 60, usegmt=True)}) == 0.0
    ahead = retry_after({"retry-after": formatdate(time.time() + 30, usegmt=True)})
    assert ahead is not None
    assert 28 < ahead <= 30
    assert retry_after({"retry-after": "soon"}) is None
    assert retry_after({}) is None


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (Reply(status=401), "set TANDEM_API_KEY or OPENAI_API_KEY"),
        (Reply(status=403), "set TANDEM_API_KEY or OPENAI_API_KEY"),
        (Reply(status=404, error="no such thing"), "serves no model 'stub'"),
        (Reply(status=400, error="This model's maximum context length is 2048 tokens"), "the prompt is too long"),
        (Reply(status=400, error="the request exceeds the available context size"), "the prompt is too long"),
        (Reply(status=400, error="bad\n" * 300), "answered 400: bad bad"),
        (Reply(status=429, error="insufficient_quota"), "no credit left"),
        (Reply(refusal="I cannot help with that.", tokens=()), "refused"),
        (Reply(finish="content_filter"), "refused"),
    ],
)
async def test_lasting_errors_are_one_line_and_not_retried(stub: Stub, reply: Reply, said: str) -> None:
    stub.default = reply
    _, error = await read(model_at(stub, retries=1), ask())
    assert error is not None
    assert said in str(error)
    assert not error.retryable
    assert "\n" not in str(error)
    assert len(str(error)) < 400
    assert len(stub.chats) == 1


async def test_a_server_that_is_down_is_named() -> None:
    async with Stub() as stub:
        model = model_at(stub, retries=1)
    _, error = await read(model, ask())
    assert f"cannot reach 127.0.0.1:{stub.port}" in str(error)
    assert error is not None
    assert error.retryable


async def test_log_probabilities_that_do_not_come_are_an_error(stub: Stub) -> None:
    stub.default = Reply(logprobs=False)
    with pytest.raises(CapabilityError, match="log-probabilities"):
        await model_at(stub).complete(ask(top_logprobs=5))


@pytest.mark.parametrize(
    ("update", "changes"),
    [
        ({"logprobs": False}, {"top_logprobs": 5}),
        ({"reasoning": True}, {"top_logprobs": 5}),
        ({"continuation": Continuation.SECTIONS}, {"prefix": "Hel"}),
        ({}, {"prefix": "Hel"}),
        ({"continuation": Continuation.NATIVE}, {"prefix": (1, 2, 3)}),
    ],
)
async def test_what_the_model_cannot_do_is_not_sent(
    stub: Stub, update: dict[str, Any], changes: dict[str, Any]
) -> None:
    with pytest.raises(CapabilityError):
        await model_at(stub, SPEC.model_copy(update=update)).complete(ask(**changes))
    assert stub.seen == []


# Keys


@pytest.mark.parametrize(
    ("base_url", "variable"),
    [
        (None, "OPENAI_API_KEY"),
        ("https://api.openai.com/v1", "OPENAI_API_KEY"),
        ("https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
    ],
)
async def test_a_missing_key_is_named(base_url: str | None, variable: str) -> None:
    with pytest.raises(MissingKeyError, match=f"set {variable}"):
        await OpenAIModel(SPEC, base_url=base_url).complete(ask())


async def test_the_named_variable_holds_the_key(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTHER_KEY", f"{KEY}\n")
    stub.key = KEY
    await model_at(stub, api_key_env="OTHER_KEY").complete(ask())
    with pytest.raises(EndpointError, match="set ANOTHER_KEY"):
        await model_at(stub, api_key_env="ANOTHER_KEY").complete(ask())


async def test_no_error_holds_the_key(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    errors: list[TandemError] = []
    for reply in (
        Reply(status=400, error=f"you sent {KEY}"),
        Reply(status=404, error=f"Bearer {KEY} knows no model"),
        Reply(status=403, error=KEY),
        Reply(fault="error-event", error=KEY),
    ):
        stub.script(reply)
        _, error = await read(model_at(stub, retries=0), ask())
        assert error is not None
        errors.append(error)
    stub.key = "another"
    _, error = await read(model_at(stub), ask())
    assert error is not None
    assert not [e for e in [*errors, error] if KEY in f"{e!s} {e!r} {vars(e)}"]


# Probe


def probing(stub: Stub, *, native: bool = True, **reply: Any) -> None:
    continued = (",", " ", "1", "0") if native else ("Sure", "!", " 1", ",")
    stub.default = Reply(continuation=continued, **reply)


@pytest.mark.parametrize(
    ("native", "reply", "found", "chats"),
    [
        (True, {}, (Continuation.NATIVE, True), 1),
        (False, {}, (Continuation.SECTIONS, True), 1),
        (True, {"refuses": ("continue_final_message",)}, (Continuation.SECTIONS, True), 2),
        (True, {"logprobs": False}, (Continuation.NATIVE, False), 1),
        (True, {"refuses": ("logprobs",)}, (Continuation.NATIVE, False), 3),
        (True, {"refuses": ("top_logprobs=20",)}, (Continuation.NATIVE, True), 2),
        (True, {"refuses": ("continue_final_message", "logprobs")}, (Continuation.SECTIONS, False), 4),
    ],
)
async def test_probe_completes_the_spec(
    stub: Stub, native: bool, reply: dict[str, Any], found: tuple[Continuation, bool], chats: int
) -> None:
    probing(stub, native=native, **reply)
    model = model_at(stub)
    spec = await model.probe()
    assert (spec.continuation, spec.logprobs) == found
    assert spec is model.spec
    assert len(stub.chats) == chats


async def test_probe_of_a_reasoning_model_sends_nothing_it_refuses(stub: Stub) -> None:
    probing(stub, native=False, refuses=("max_tokens", "temperature", "logprobs", "top_p", "continue_final_message"))
    spec = await model_at(stub, SPEC.model_copy(update={"reasoning": True})).probe()
    assert (spec.continuation, spec.logprobs) == (Continuation.SECTIONS, False)
    assert len(stub.chats) == 1


async def test_probe_believes_a_given_continuation(stub: Stub) -> None:
    spec = await model_at(stub, SPEC.model_copy(update={"continuation": Continuation.NONE})).probe()
    assert spec.continuation is Continuation.NONE
    assert stub.chats == []


@pytest.mark.parametrize(("served", "expected"), [({"max_model_len": 2048}, 2048), ({}, 512)])
async def test_probe_takes_the_context_that_is_served(stub: Stub, served: dict[str, int], expected: int) -> None:
    stub.models = [{"id": "stub", **served}]
    assert (await model_at(stub, SPEC.model_copy(update={"context": 512})).probe()).context == expected


async def test_probe_is_remembered(stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    probing(stub)
    first = model_at(stub)
    await first.probe()
    await first.probe()
    assert len(stub.seen) == 3  # the list, the chat, and whether it tells token ids; nothing for the second call
    assert (await model_at(stub).probe()) == first.spec
    assert len(stub.chats) == 1
    await model_at(stub, served_name="stub").probe()
    assert len(stub.chats) == 1
    (file,) = (tmp_path / "home" / "probes").iterdir()
    assert KEY not in file.read_text()


@pytest.mark.parametrize("damage", ["half", "old", "future", "other"])
async def test_a_bad_cache_is_probed_again(stub: Stub, tmp_path: Path, damage: str) -> None:
    probing(stub)
    await model_at(stub).probe()
    (file,) = (tmp_path / "home" / "probes").iterdir()
    found = json.loads(file.read_text())
    day = 24 * 3600
    changed = {
        "half": file.read_text()[:20],
        "old": json.dumps(found | {"time": found["time"] - 8 * day, "continuation": "none"}),
        "future": json.dumps(found | {"time": found["time"] + day, "continuation": "none"}),
        "other": '["a list"]',
    }
    file.write_text(changed[damage])
    assert (await model_at(stub).probe()).continuation is Continuation.NATIVE
    assert len(stub.chats) == 2
    assert json.loads(file.read_text())["continuation"] == "native"


async def test_a_cache_that_cannot_be_written_does_no_harm(
    stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("TANDEM_HOME", str(tmp_path / "file"))
    probing(stub)
    assert (await model_at(stub).probe()).continuation is Continuation.NATIVE


async def test_probe_names_the_served_models_nearest_first(stub: Stub) -> None:
    stub.models = [{"id": name} for name in ["zebra", "aardvark", "qwen-1.5b", "qwen-0.5b"]]
    with pytest.raises(EndpointError, match=r"no model 'qwen-0.5': it serves qwen-0\.5b, qwen-1\.5b, aardvark, zebra"):
        await model_at(stub, served_name="qwen-0.5").probe()


async def test_probe_of_an_endpoint_that_is_down_or_wants_a_key(stub: Stub) -> None:
    stub.key = KEY
    with pytest.raises(EndpointError, match="set TANDEM_API_KEY"):
        await model_at(stub).probe()
    async with Stub() as gone:
        pass
    with pytest.raises(EndpointError, match="cannot reach"):
        await model_at(gone).probe()


async def test_probe_without_a_list_of_models(stub: Stub) -> None:
    probing(stub)
    stub.models_reply = Reply(status=404)
    assert (await model_at(stub).probe()).continuation is Continuation.NATIVE


async def test_probe_retries_a_busy_server(stub: Stub) -> None:
    probing(stub)
    stub.script(Reply(status=503, headers=SOON))
    assert (await model_at(stub).probe()).continuation is Continuation.NATIVE
