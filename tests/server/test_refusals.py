"""What is refused: in OpenAI's shape, with the field by its name, and before any model is asked."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from openai import BadRequestError, NotFoundError
from serving import Server, chat, error_of, serving

from tandem.models.fake import FakeModel

Start = Callable[..., Server]
CHAT = "/v1/chat/completions"
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


BEGUN = [user("x"), {"role": "assistant", "content": "y"}]
SCHEMA = "response_format.json_schema.schema"


def schema(**fields: Any) -> dict[str, Any]:
    """Return a response format whose schema has these fields; None leaves one out."""
    named = {"name": "sum", "schema": {"type": "object"}} | fields
    return {
        "response_format": {"type": "json_schema", "json_schema": {k: v for k, v in named.items() if v is not None}}
    }


REFUSED: list[tuple[dict[str, Any], str]] = [
    # the conversation
    ({"messages": None}, "messages"),
    ({"messages": []}, "messages"),
    ({"messages": "What is 1+1?"}, "messages"),
    ({"messages": ["What is 1+1?"]}, "messages[0]"),
    ({"messages": [user("x")] * 1001}, "messages"),
    ({"messages": [{"content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "tool", "content": "x", "tool_call_id": "1"}]}, "messages[0].tool_call_id"),
    ({"messages": [{"role": "function", "name": "f", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "assistant", "content": "y"}]}, "messages"),
    ({"messages": [{"role": "system", "content": " "}, {"role": "assistant", "content": "y"}]}, "messages"),
    ({"messages": BEGUN, "continue_final_message": False}, "continue_final_message"),
    ({"messages": BEGUN, "add_generation_prompt": True}, "add_generation_prompt"),
    ({"messages": BEGUN, "add_generation_prompt": True, "continue_final_message": True}, "add_generation_prompt"),
    ({"messages": BEGUN, "continue_final_message": "yes"}, "continue_final_message"),
    ({"continue_final_message": True}, "continue_final_message"),
    ({"add_generation_prompt": False}, "add_generation_prompt"),
    ({"messages": [user(" \n")]}, "messages"),
    ({"messages": [user([])]}, "messages"),
    ({"messages": [user(None)]}, "messages[0].content"),
    ({"messages": [user(7)]}, "messages[0].content"),
    ({"messages": [user("x"), user({"type": "text", "text": "x"})]}, "messages[1].content"),
    ({"messages": [user([{"type": "text", "text": "x"}, IMAGE])]}, "messages[0].content"),
    ({"messages": [user([{"type": "input_audio", "input_audio": {}}])]}, "messages[0].content"),
    ({"messages": [user([{"type": "text"}])]}, "messages[0].content"),
    ({"messages": [user(["x"])]}, "messages[0].content"),
    ({"messages": [user("word " * 40_000)]}, "messages"),
    # types and ranges
    ({"model": None}, "model"),
    ({"model": 7}, "model"),
    ({"model": "x" * 201}, "model"),
    ({"stream": "yes"}, "stream"),
    ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"stream": True, "stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
    ({"temperature": "hot"}, "temperature"),
    ({"temperature": 2.5}, "temperature"),
    ({"temperature": -0.1}, "temperature"),
    ({"temperature": True}, "temperature"),
    ({"top_p": 0}, "top_p"),
    ({"top_p": 1.5}, "top_p"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": 10.5}, "max_tokens"),
    ({"max_completion_tokens": -1}, "max_completion_tokens"),
    ({"max_completion_tokens": 10**9}, "max_completion_tokens"),
    ({"seed": "lucky"}, "seed"),
    ({"seed": 2**63}, "seed"),
    ({"stop": 7}, "stop"),
    ({"stop": {"text": "x"}}, "stop"),
    ({"stop": ["a", 7]}, "stop[1]"),
    ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
    ({"n": 0, "temperature": 1}, "n"),
    ({"n": 9, "temperature": 1}, "n"),
    ({"reasoning_effort": "extreme"}, "reasoning_effort"),
    # what no strategy can honour
    ({"tool_choice": "required"}, "tool_choice"),
    ({"functions": [{"name": "f"}]}, "functions"),
    ({"function_call": {"name": "f"}}, "function_call"),
    ({"response_format": {"type": "json_object"}}, "messages"),  # which do not speak of JSON
    ({"response_format": "json"}, "response_format"),
    ({"response_format": {}}, "response_format.type"),
    ({"response_format": {"type": "xml"}}, "response_format.type"),
    ({"response_format": {"type": "json_object", "json_schema": {}}}, "response_format.json_schema.name"),
    ({"response_format": {"type": "json_schema"}}, "response_format"),
    ({"response_format": {"type": "text", "json_schema": {"name": "a", "schema": {}}}}, "response_format"),
    ({"response_format": {"type": "json_schema", "json_schema": "{}"}}, "response_format.json_schema"),
    (schema(name="with space"), "response_format.json_schema.name"),
    (schema(name="x" * 65), "response_format.json_schema.name"),
    (schema(name=None), "response_format.json_schema.name"),
    (schema(strict="yes"), "response_format.json_schema.strict"),
    (schema(description=7), "response_format.json_schema.description"),
    (schema(of="x"), "response_format.json_schema.of"),
    (schema(schema=[]), "response_format.json_schema.schema"),
    (schema(schema=None), "response_format.json_schema.schema"),
    (schema(schema={"type": "text"}), SCHEMA),
    (schema(schema={"$ref": "#"}), SCHEMA),
    (schema(schema={"items": {"$ref": "http://127.0.0.1/x"}}), SCHEMA),
    (schema(schema={"pattern": "((a{1000}){1000}){1000}"}), SCHEMA),
    (schema(schema={"description": "x" * 200_000}), SCHEMA),
    ({"guided_json": {"type": "object"}}, "guided_json"),
    ({"structured_outputs": {"json": {}}}, "structured_outputs"),
    ({"moderation": {"model": "omni-moderation-latest"}}, "moderation"),
    ({"best_of": 2}, "best_of"),
    ({"suffix": "x"}, "suffix"),
    ({"logprobs": True}, "logprobs"),
    ({"logprobs": True, "top_logprobs": 5}, "logprobs"),
    ({"logprobs": 5}, "logprobs"),
    ({"top_logprobs": 5}, "top_logprobs"),
    ({"logprobs": False, "top_logprobs": 5}, "top_logprobs"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    ({"logprobs": True, "top_logprobs": -1}, "top_logprobs"),
    ({"logprobs": True, "top_logprobs": "all"}, "top_logprobs"),
    ({"logit_bias": {"50256": -100}}, "logit_bias"),
    ({"presence_penalty": 2.5}, "presence_penalty"),
    ({"frequency_penalty": "much"}, "frequency_penalty"),
    ({"modalities": ["text", "audio"]}, "modalities"),
    ({"audio": {"voice": "alloy", "format": "mp3"}}, "audio"),
    ({"web_search_options": {}}, "web_search_options"),
    # options of our own
    ({"tandem": "fast"}, "tandem"),
    ({"tandem": {"efort": "none"}}, "tandem.efort"),
    ({"tandem": {"classifier": "/etc"}}, "tandem.classifier"),
    ({"tandem": {"effort": "none,lo"}}, "tandem.effort"),
    ({"tandem": {"effort": "high,low"}}, "tandem.effort"),
    ({"tandem": {"effort": 3}}, "tandem.effort"),
    ({"tandem": {"effort": "none," * 50}}, "tandem.effort"),
    ({"tandem": {"pace": "gallop"}}, "tandem.pace"),
    ({"tandem": {"draft_tokens": 0}}, "tandem.draft_tokens"),
    ({"tandem": {"draft_tokens": "4"}}, "tandem.draft_tokens"),
    ({"tandem": {"budget_usd": 0}}, "tandem.budget_usd"),
    ({"tandem": {"budget_usd": "1"}}, "tandem.budget_usd"),
    ({"tandem": {"aim": "cost:0.6"}}, "tandem.aim"),
    ({"tandem": {"events": "yes"}}, "tandem.events"),
]


@pytest.fixture(scope="module")
def refusing() -> Iterator[Server]:
    """A server whose models must not be asked."""
    with serving() as server:
        yield server
        assert isinstance(server.mentor, FakeModel) and isinstance(server.intern, FakeModel)
        assert not server.mentor.calls and not server.intern.calls
        assert server.service.gate.running == 0


@pytest.mark.parametrize(("fields", "param"), REFUSED, ids=lambda value: value if isinstance(value, str) else "")
def test_the_field_is_named(refusing: Server, fields: dict[str, Any], param: str) -> None:
    body = {name: value for name, value in (chat() | fields).items() if value is not None}
    error = error_of(refusing.post(body))
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    if param != "stream_options":  # a stream is refused before it begins
        assert error_of(refusing.post({"stream": True, **body}))["param"] == param


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"not json",
        b'{"model": "tandem",}',
        b"[]",
        b"7",
        b"null",
        b'"tandem"',
        b'\xff\xfe{"model": 1}',
        '{"model": "tandem", "messages": [{"role": "user", "content": "café"}]}'.encode("latin-1"),
        b'{"model": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"seed": ' + b"9" * 10_000 + b"}",
    ],
    ids=["empty", "open", "text", "comma", "list", "number", "null", "string", "bytes", "latin-1", "deep", "long"],
)
def test_a_body_that_is_no_json_object(refusing: Server, body: bytes) -> None:
    with refusing.http() as client:
        for path in (CHAT, "/v1/completions"):
            response = client.post(path, content=body, headers={"Content-Type": "application/json"})
            error = error_of(response)
            assert error["type"] == "invalid_request_error" and "body" in error["message"]


def test_a_body_that_says_it_is_a_form(refusing: Server) -> None:
    with refusing.http() as client:
        error_of(client.post(CHAT, data={"model": "tandem"}), 415)
        error_of(client.post(CHAT, content=json.dumps(chat()), headers={"Content-Type": "text/plain"}), 415)


DEEP: Any = "x"
for _ in range(300):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": [user("a lone \ud800 surrogate")]},
        {"messages": [user([{"type": "text", "text": "\udfff"}])]},
        {"messages": [user([{"type": "\ud800"}])]},
        {"messages": [{"role": "\ud800", "content": "x"}]},
        {"messages": [{"role": "user", "content": "x", "\ud800": 1}], "model": "\ud800"},
        {"model": "\ud800"},
        {"stop": "\ud800"},
        {"tandem": {"effort": "\ud800"}},
        {"tandem": {"aim": "\ud800"}},
        {"tandem": {"\ud800": 1}},
        {"tools": "\ud800"},
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"top_p": float("-inf")},
        {"tandem": {"budget_usd": float("nan")}},
        {"tandem": {"budget_usd": float("inf")}},
        {"messages": DEEP},
        {"messages": [user(DEEP)]},
        {"tandem": DEEP},
    ],
    ids=repr,
)
def test_values_that_json_should_not_have(refusing: Server, fields: dict[str, Any]) -> None:
    content = json.dumps(chat() | fields)  # json.dumps writes them, and json.loads takes them
    with refusing.http() as client:
        response = client.post(CHAT, content=content, headers={"Content-Type": "application/json"})
    assert error_of(response)["type"] == "invalid_request_error"


@pytest.mark.parametrize("fields", [{"\ud800": 1}, {"user": "\ud800"}, {"metadata": DEEP}, {"user": "alice"}], ids=repr)
def test_a_field_that_changes_nothing_does_no_harm(plain: Server, fields: dict[str, Any]) -> None:
    with plain.http() as client:
        content = json.dumps(chat("intern") | fields)
        response = client.post(CHAT, content=content, headers={"Content-Type": "application/json"})
    assert response.status_code in (200, 400) and response.json()


ASKING_FOR_NOTHING = {
    "tools": [],
    "tool_choice": "auto",
    "response_format": {"type": "text"},
    "logprobs": False,
    "logit_bias": {},
    "presence_penalty": 0,
    "frequency_penalty": 0.0,
    "modalities": ["text"],
    "n": 1,
    "stop": None,
    "stream": False,
    "max_tokens": None,
    "store": False,
    "parallel_tool_calls": True,
    "service_tier": "auto",
}


def test_what_asks_for_nothing_is_taken(plain: Server) -> None:
    assert plain.ask(**ASKING_FOR_NOTHING)["choices"][0]["finish_reason"] == "stop"


def test_an_unknown_model_is_answered_with_the_known(refusing: Server) -> None:
    error = error_of(refusing.post(chat("gpt-4o")), 404)
    assert (error["type"], error["param"], error["code"]) == ("not_found_error", "model", "model_not_found")
    assert all(f"{name}," in error["message"] for name in ("tandem", "intern", "mentor", "tandem:low", "fixed:high"))
    with refusing.openai() as client:
        with pytest.raises(NotFoundError):
            client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "x"}])
        with pytest.raises(NotFoundError):
            client.models.retrieve("gpt-4o")


@pytest.mark.parametrize("name", ["published:/etc", "published:/etc/passwd", "published:.", "file:///etc", "fake:/etc"])
def test_no_name_reads_a_folder(refusing: Server, name: str) -> None:
    error = error_of(refusing.post(chat(name)), 404)
    assert error["code"] == "model_not_found" and "there is no model" in error["message"]


def test_the_official_client_sees_the_field(refusing: Server) -> None:
    with refusing.openai() as client, pytest.raises(BadRequestError) as caught:
        client.chat.completions.create(model="tandem", messages=[user([IMAGE])])  # type: ignore[list-item]
    assert caught.value.param == "messages[0].content"
    assert caught.value.type == "invalid_request_error"


def test_a_prompt_over_the_context_is_told_apart(refusing: Server) -> None:
    error = error_of(refusing.post(chat(content="word " * 33_000)))
    assert error["code"] == "context_length_exceeded" and "33001 tokens" in error["message"]
