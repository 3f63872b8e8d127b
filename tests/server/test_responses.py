"""/v1/responses: each object and each event is one of the openai package's, and says what a chat says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from openai import pydantic_function_tool
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter
from server.conftest import Start
from server.test_reasoning import ANSWER as THOUGHT_OUT
from server.test_reasoning import THOUGHT, thinker
from serving import ANSWER, BY_MENTOR, INSIGHT, QUESTION, Held, Server, error_of, intern, mentor, serving

from tandem.models.fake import FakeModel
from tandem.server.errors import ApiError
from tandem.server.responses.body import ResponsesRequest
from tandem.server.responses.output import ResponseEvents
from tandem.types import AnswerDelta, CallDelta

PATH = "/v1/responses"
MESSAGE = {"role": "user", "content": "x"}
CALL = {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"}
RESULT = {"type": "function_call_output", "call_id": "1", "output": "sunny"}
ALLOWED = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "weather"}]}
LOGPROBS = "message.output_text.logprobs"
EVENTS: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


def body(model: str = "tandem", asked: Any = QUESTION, **fields: Any) -> dict[str, Any]:
    return {"model": model, "input": asked, **fields}


def ask(server: Server, model: str = "tandem", asked: Any = QUESTION, **fields: Any) -> dict[str, Any]:
    """Return a whole Response, checked against the openai package's type."""
    response = server.post(body(model, asked, **fields), PATH)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    parsed = Response.model_validate(found)
    assert parsed.model_dump(include=set(found), exclude_unset=True, by_alias=True, warnings=False) == found
    return found


def stream(server: Server, model: str = "tandem", asked: Any = QUESTION, **fields: Any) -> list[dict[str, Any]]:
    """Return the events of a streamed Response, each checked against its type in the openai package."""
    with server.http() as client, client.stream("POST", PATH, json=body(model, asked, stream=True, **fields)) as got:
        assert got.status_code == 200 and got.headers["content-type"].startswith("text/event-stream")
        blocks = [block.split("\n") for block in got.read().decode().split("\n\n") if block and block[0] != ":"]
    found = []
    for name, data in blocks:
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}" and event["sequence_number"] == len(found)
        if not event["type"].startswith("tandem."):
            parsed = EVENTS.validate_python(event)
            assert type(parsed).model_fields["type"].annotation.__args__ == (event["type"],)  # type: ignore[union-attr]
            assert parsed.model_dump(exclude_unset=True, by_alias=True, warnings=False) == event
        found.append(event)
    return found


def kinds(events: list[dict[str, Any]]) -> list[str]:
    """Return the events' types without the common beginning, repeated ones once."""
    names = [event["type"].removeprefix("response.") for event in events]
    return [name for name, before in zip(names, [None, *names], strict=False) if name != before]


def texts(response: dict[str, Any]) -> dict[str, str]:
    """Return the texts of a Response by the kinds of their parts."""
    parts = [part for item in response["output"] for part in (*item.get("summary", ()), *item.get("content", ()))]
    return {part["type"]: part["text"] for part in parts}


def test_a_whole_answer_is_a_response(start: Start, low: str) -> None:
    server = start(classifier=low)
    found = ask(server, metadata={"a": "b"}, user="me", reasoning={"effort": "high", "summary": "auto"})
    assert [item["type"] for item in found["output"]] == ["reasoning", "message"]
    assert INSIGHT.startswith(texts(found)["summary_text"]) and texts(found)["output_text"] == ANSWER
    assert (found["status"], found["store"], found["metadata"]) == ("completed", False, {"a": "b"})
    chat = server.ask()["usage"]
    assert found["usage"]["input_tokens"] == chat["prompt_tokens"]
    assert found["usage"]["output_tokens"] == chat["completion_tokens"]
    assert found["usage"]["output_tokens_details"] == chat["completion_tokens_details"]
    assert found["usage"]["tandem"]["mentor"]["insight"] == chat["tandem"]["mentor"]["insight"] > 0


def test_the_official_client_reads_it(plain: Server) -> None:
    with plain.openai() as client:
        answer = client.responses.create(model="mentor", input=QUESTION, instructions="Answer.", store=False)
        assert answer.output_text == BY_MENTOR and answer.instructions == "Answer."
        with client.responses.stream(model="fixed:low", input=QUESTION) as events:
            pieces = [event.delta for event in events if event.type == "response.output_text.delta"]
            final = events.get_final_response()
    assert "".join(pieces) == final.output_text == ANSWER
    assert final.usage and final.usage.model_dump()["tandem"]["mentor"]["insight"] == 5


def test_a_stream_says_what_the_whole_says(plain: Server) -> None:
    events = stream(plain, "fixed:high")
    assert kinds(events) == [
        *("created", "in_progress", "output_item.added"),
        *("reasoning_summary_part.added", "reasoning_summary_text.delta", "reasoning_summary_text.done"),
        *("reasoning_summary_part.done", "output_item.done", "output_item.added", "content_part.added"),
        *("output_text.delta", "output_text.done", "content_part.done", "output_item.done", "completed"),
    ]
    last, whole = events[-1]["response"], ask(plain, "fixed:high")
    assert texts(last)["output_text"] == texts(whole)["output_text"] == ANSWER
    assert texts(last)["summary_text"].split() == texts(whole)["summary_text"].split() == INSIGHT.split()
    assert [item["status"] for item in last["output"]] == ["completed"] * 2
    for name in ("reasoning_summary_text", "output_text"):
        of = [event for event in events if event["type"].startswith(f"response.{name}.")]
        assert (
            "".join(event["delta"] for event in of[:-1])
            == of[-1]["text"]
            == texts(last)[name.replace("reasoning_", "")]
        )
        assert len({(event["item_id"], event["output_index"]) for event in of}) == 1
    same = {"input_tokens", "output_tokens", "total_tokens"}
    assert {name: last["usage"][name] for name in same} == {name: whole["usage"][name] for name in same}


def test_a_thought_is_reasoning_text(start: Start) -> None:
    server = start(mentor(), thinker())
    for model, found in (("intern", {"reasoning_text"}), ("fixed:low", {"summary_text", "reasoning_text"})):
        whole, events = ask(server, model), stream(server, model)
        for response in (whole, events[-1]["response"]):
            assert set(texts(response)) == {*found, "output_text"}
            assert texts(response)["reasoning_text"].strip() == THOUGHT
            assert texts(response)["output_text"] == THOUGHT_OUT
        assert "reasoning_text.delta" in kinds(events) and kinds(events).count("output_item.added") == 2


def test_an_answer_that_is_cut_is_incomplete(start: Start, plain: Server) -> None:
    for found in (
        ask(plain, "intern", max_output_tokens=3),
        stream(plain, "intern", max_output_tokens=3)[-1]["response"],
    ):
        assert found["status"] == found["output"][-1]["status"] == "incomplete"
        assert found["incomplete_details"] == {"reason": "max_output_tokens"}
        assert found["max_output_tokens"] == 3 and len(texts(found)["output_text"].split()) == 3
    server = start(None, thinker())
    events = stream(server, "intern", max_output_tokens=4)
    for found in (ask(server, "intern", max_output_tokens=4), events[-1]["response"]):
        assert [(item["type"], item["status"]) for item in found["output"]] == [("reasoning", "incomplete")]
    assert events[-1]["type"] == "response.incomplete"


def test_an_empty_answer_is_one(start: Start) -> None:
    server = start(None, intern(""))
    for found in (ask(server, "intern"), stream(server, "intern")[-1]["response"]):
        assert texts(found) == {"output_text": ""} and found["status"] == "completed"


def test_the_whole_conversation_is_read(start: Start) -> None:
    server = start()
    asked = [
        {"role": "developer", "content": "Be brief."},
        {
            "role": "user",
            "content": [{"type": "input_text", "text": "What is "}, {"type": "input_text", "text": "1+1?"}],
        },
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "no"}], "content": []},
        {
            **{"type": "message", "id": "msg_1", "role": "assistant", "status": "completed"},
            "content": [{"type": "output_text", "text": "2", "annotations": []}],
        },
        {"type": "message", "role": "user", "content": "And 17*23?"},
    ]
    ask(server, "intern", asked, instructions="Count.")
    assert isinstance(server.intern, FakeModel)
    sent = server.intern.calls[-1].messages
    assert [message.role for message in sent] == ["system", "system", "user", "assistant", "user"]
    assert [message.content for message in sent[:-1]] == ["Count.", "Be brief.", "What is 1+1?", "2"]
    assert sent[-1].content.endswith("Problem: And 17*23?")


def test_an_answer_can_be_sent_back(plain: Server) -> None:
    first = ask(plain, "fixed:low")
    again = [{"role": "user", "content": QUESTION}, *first["output"], {"role": "user", "content": "And 1+1?"}]
    assert texts(ask(plain, "intern", again))["output_text"] == ANSWER


def test_options_of_our_own(start: Start, low: str) -> None:
    server = start(classifier=low)
    events = stream(server, tandem={"events": True, "task": "math"})
    told = [event["tandem"] for event in events if "tandem" in event]
    assert {one["type"] for one in told} == {"insight", "decision", "solution"}
    assert [event["type"] for event in events if event["type"].startswith("tandem.")][-2:] == [
        "tandem.decision",
        "tandem.solution",
    ]
    assert told[-1]["answered_by"] == "intern" and told[-1]["level"] == "low"
    assert not [event for event in stream(server) if "tandem" in event]


CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL = {"type": "function", "name": "weather", "description": "Look it up.", "parameters": CITY, "strict": False}
TIME = TOOL | {"name": "time"}
FORM = {
    **{"type": "json_schema", "name": "sum", "strict": True},
    "schema": {"type": "object", "properties": {"value": {"type": "integer"}}, "required": ["value"]},
}
FAR = "What is the weather in Paris?"


@pytest.fixture(scope="module")
def able() -> Iterator[Server]:
    """A server with the fake pair as it is: it calls the functions that it is given."""
    with serving(mentor(), FakeModel()) as server:
        yield server


def test_a_call_is_an_item(able: Server) -> None:
    for model, items in (("intern", ["function_call"]), ("tandem", ["reasoning", "function_call"])):
        whole, events = ask(able, model, FAR, tools=[TOOL]), stream(able, model, FAR, tools=[TOOL])
        for found in (whole, events[-1]["response"]):
            assert [item["type"] for item in found["output"]] == items
            call = found["output"][-1]
            assert (call["name"], json.loads(call["arguments"])) == ("weather", {"city": "Paris"})
            assert call["status"] == found["status"] == "completed" and found["tools"] == [TOOL]
        sent = [event for event in events if event["type"].startswith("response.function_call_arguments.")]
        assert "".join(event["delta"] for event in sent[:-1]) == sent[-1]["arguments"] == call["arguments"]
        assert {event["item_id"] for event in sent} == {call["id"]}


def test_a_result_is_sent_back(able: Server) -> None:
    first = ask(able, "tandem", FAR, tools=[TOOL, TIME], parallel_tool_calls=False)
    assert first["parallel_tool_calls"] is False
    (call,) = [item for item in first["output"] if item["type"] == "function_call"]
    result = {
        "type": "function_call_output",
        "call_id": call["call_id"],
        "output": [{"type": "input_text", "text": "sun"}],
    }
    asked = [{"role": "user", "content": FAR}, *first["output"], result]
    second = ask(able, "intern", asked, tools=[TOOL, TIME])
    assert [item["type"] for item in second["output"]] == ["message"]
    assert isinstance(able.intern, FakeModel)
    sent = able.intern.calls[-1].messages
    assert [message.role for message in sent] == ["user", "assistant", "tool"] and sent[-1].content == "sun"
    assert [one.id for one in sent[1].tool_calls] == [call["call_id"]] == [sent[2].tool_call_id]


@pytest.mark.parametrize(
    ("choice", "called"),
    [
        ("none", []),
        ("required", ["weather"]),
        ({"type": "function", "name": "time"}, ["time"]),
        (ALLOWED | {"tools": [{"type": "function", "name": "time"}]}, ["time"]),
    ],
)
def test_a_choice_of_tools(able: Server, choice: Any, called: list[str]) -> None:
    found = ask(able, "intern", FAR, tools=[TOOL, TIME], tool_choice=choice)
    assert [item["name"] for item in found["output"] if item["type"] == "function_call"] == called
    assert found["tool_choice"] == choice


@pytest.mark.parametrize("model", ["intern", "mentor", "tandem"])
def test_the_form_of_an_answer(start: Start, model: str) -> None:
    server = start(FakeModel(name="fake-mentor"), FakeModel(name="fake-intern"))
    for found in (
        ask(server, model, text={"format": FORM}),
        stream(server, model, text={"format": FORM})[-1]["response"],
    ):
        assert set(json.loads(texts(found)["output_text"])) == {"value"} and found["text"]["format"] == FORM
    some = ask(server, model, "Answer in JSON.", text={"format": {"type": "json_object"}, "verbosity": "low"})
    assert isinstance(json.loads(texts(some)["output_text"]), dict)


def test_the_official_client_parses(able: Server) -> None:
    class Sum(BaseModel):
        value: int

    with able.openai() as client:
        parsed = client.responses.parse(model="intern", input=QUESTION, text_format=Sum)
        assert isinstance(parsed.output_parsed, Sum)
        called = client.responses.parse(model="intern", input=FAR, tools=[pydantic_function_tool(Place)])
        (call,) = called.output
        assert call.type == "function_call" and isinstance(call.parsed_arguments, Place)


class Place(BaseModel):
    city: str


def test_log_probabilities(able: Server) -> None:
    fields = {"include": [LOGPROBS], "top_logprobs": 2}
    whole, events = ask(able, "intern", **fields), stream(able, "intern", **fields)
    for found in (whole, events[-1]["response"]):
        (part,) = found["output"][0]["content"]
        assert "".join(token["token"] for token in part["logprobs"]) == part["text"]
        assert all(token["logprob"] < 0 and len(token["top_logprobs"]) == 2 for token in part["logprobs"])
    deltas = [event for event in events if event["type"] == "response.output_text.delta"]
    assert [token for event in deltas for token in event["logprobs"]] == part["logprobs"] != []


def test_what_has_no_effect_is_named_in_a_header(plain: Server) -> None:
    answer = plain.post(body("intern", store=True, user="me", frobnicate=1, text={"verbosity": "low"}), PATH)
    assert set(answer.headers["x-tandem-ignored"].split(", ")) == {"store", "user", "frobnicate", "verbosity"}
    assert "x-tandem-ignored" not in plain.post(body("intern", store=False), PATH).headers


def test_a_failure_midway_is_the_last_event(start: Start) -> None:
    held = Held(ANSWER, after=2)
    server = start(None, held, deadline=0.5)
    events = stream(server, "intern")
    assert kinds(events)[-2:] == ["error", "failed"]
    assert (events[-2]["code"], events[-1]["response"]["status"]) == ("timeout", "failed")
    assert events[-1]["response"]["error"]["code"] == "server_error"
    assert "longer than this server's 0.5 s" in events[-1]["response"]["error"]["message"]
    held.let_go()
    server.idle()
    assert server.metrics("tandem_requests_total", model="intern", status="504") == 1


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"input": None}, "input"),
    ({"input": 7}, "input"),
    ({"input": []}, "input"),
    ({"input": " \n"}, "input"),
    ({"input": "word " * 40_000}, "input"),
    ({"input": "\ud800"}, "input"),
    ({"input": ["x"]}, "input[0]"),
    ({"input": [MESSAGE] * 1001}, "input"),
    ({"input": [{"content": "x"}]}, "input[0].role"),
    ({"input": [{"role": "tool", "content": "x"}]}, "input[0].role"),
    ({"input": [{"role": "user"}]}, "input[0].content"),
    ({"input": [{"role": "user", "content": 7}]}, "input[0].content"),
    ({"input": [MESSAGE, {"role": "user", "content": "\udfff"}]}, "input[1].content"),
    ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}, "input[0].content"),
    ({"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "x"}]}]}, "input[0].content"),
    ({"input": [{"role": "user", "content": [{"type": "input_text"}]}]}, "input[0].content"),
    ({"input": [{"type": "web_search_call", "id": "1"}, MESSAGE]}, "input[0].type"),
    ({"input": [{"type": "item_reference", "id": "1"}, MESSAGE]}, "input[0].type"),
    ({"input": [{"id": "msg_1"}, MESSAGE]}, "input[0].type"),
    ({"input": [{"type": 7}, MESSAGE]}, "input[0].type"),
    ({"input": [{"type": "function_call", "name": "f", "arguments": "{}"}, MESSAGE]}, "input[0].call_id"),
    ({"input": [CALL | {"arguments": {}}, MESSAGE]}, "input[0].arguments"),
    ({"input": [CALL | {"name": ""}, MESSAGE]}, "input[0].name"),
    ({"input": [{"type": "function_call_output", "call_id": "1"}, MESSAGE]}, "input[0].output"),
    ({"input": [{"type": "function_call_output", "call_id": "1", "output": 7}, MESSAGE]}, "input[0].output"),
    ({"instructions": 7}, "instructions"),
    ({"instructions": "\ud800"}, "instructions"),
    ({"model": None}, "model"),
    ({"model": "x" * 201}, "model"),
    ({"stream": "yes"}, "stream"),
    ({"stream_options": {"include_obfuscation": False}}, "stream_options"),
    ({"stream": True, "stream_options": {"include_obfuscation": 0}}, "stream_options.include_obfuscation"),
    ({"max_output_tokens": 0}, "max_output_tokens"),
    ({"max_output_tokens": "9"}, "max_output_tokens"),
    ({"max_output_tokens": 10**9}, "max_output_tokens"),
    ({"max_tool_calls": 0}, "max_tool_calls"),
    ({"temperature": 2.5}, "temperature"),
    ({"temperature": float("nan")}, "temperature"),
    ({"top_p": 0}, "top_p"),
    ({"reasoning": "high"}, "reasoning"),
    ({"reasoning": {"effort": "extreme"}}, "reasoning.effort"),
    ({"reasoning": {"summary": True}}, "reasoning.summary"),
    ({"reasoning": {"context": "all_turns"}}, "reasoning.context"),
    ({"reasoning": {"mode": "pro"}}, "reasoning.mode"),
    ({"text": "json"}, "text"),
    ({"text": {"format": "json"}}, "text.format"),
    ({"text": {"verbosity": "huge"}}, "text.verbosity"),
    ({"include": "all"}, "include"),
    ({"include": ["everything"]}, "include[0]"),
    ({"metadata": {"a": 7}}, "metadata.a"),
    ({"metadata": {"a": "x" * 513}}, "metadata.a"),
    ({"metadata": {str(n): "x" for n in range(17)}}, "metadata"),
    ({"store": "no"}, "store"),
    ({"user": 7}, "user"),
    ({"previous_response_id": "resp_1"}, "previous_response_id"),
    ({"conversation": {"id": "conv_1"}}, "conversation"),
    ({"conversation": "conv_1"}, "conversation"),
    ({"prompt": {"id": "pmpt_1"}}, "prompt"),
    ({"background": True}, "background"),
    ({"background": 0}, "background"),
    ({"truncation": "auto"}, "truncation"),
    ({"context_management": [{"type": "compaction"}]}, "context_management"),
    ({"moderation": {"model": "x"}}, "moderation"),
    ({"top_logprobs": 5}, "top_logprobs"),
    ({"top_logprobs": 21, "include": [LOGPROBS]}, "top_logprobs"),
    ({"model": "tandem", "include": [LOGPROBS]}, "include"),
    # a chat's fields
    ({"seed": 7}, "seed"),
    ({"n": 2}, "n"),
    ({"messages": [MESSAGE]}, "messages"),
    # the form of the answer
    ({"text": {"format": {"type": "yaml"}}}, "text.format.type"),
    ({"text": {"format": {"type": "json_schema"}}}, "text.format.name"),
    ({"text": {"format": FORM | {"name": "a b"}}}, "text.format.name"),
    ({"text": {"format": FORM | {"schema": None}}}, "text.format.schema"),
    ({"text": {"format": FORM | {"schema": {"type": "nothing"}}}}, "text.format.schema"),
    ({"text": {"format": FORM | {"strict": "yes"}}}, "text.format.strict"),
    ({"text": {"format": FORM | {"type": "json_object"}}}, "text.format"),
    ({"text": {"format": {"type": "json_object"}}}, "input"),  # which does not say JSON
    # tools
    ({"tools": {}}, "tools"),
    ({"tools": ["f"]}, "tools[0]"),
    ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
    ({"tools": [TOOL, {"type": "mcp", "server_label": "x"}]}, "tools[1].type"),
    ({"tools": [{"type": "function"}]}, "tools[0].name"),
    ({"tools": [TOOL | {"name": "a b"}]}, "tools[0].name"),
    ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools[0].name"),
    ({"tools": [TOOL | {"parameters": []}]}, "tools[0].parameters"),
    ({"tools": [TOOL | {"parameters": {"type": "string"}}]}, "tools[0].parameters"),
    ({"tools": [TOOL | {"parameters": {"properties": 7}}]}, "tools[0].parameters"),
    ({"tools": [TOOL, TOOL]}, "tools[1].name"),
    ({"tools": [TIME, TOOL | {"parameters": {"type": "string"}}], "tool_choice": ALLOWED}, "tools[1].parameters"),
    ({"tools": [TOOL | {"name": f"f{n}"} for n in range(129)]}, "tools"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"tools": [TOOL], "tool_choice": "sometimes"}, "tool_choice"),
    ({"tools": [TOOL], "tool_choice": 7}, "tool_choice"),
    ({"tools": [TOOL], "tool_choice": {"type": "web_search"}}, "tool_choice.type"),
    ({"tools": [TOOL], "tool_choice": {"type": "function"}}, "tool_choice.name"),
    ({"tools": [TOOL], "tool_choice": {"type": "function", "name": "g"}}, "tool_choice.name"),
    ({"tools": [TOOL], "tool_choice": ALLOWED | {"mode": "none"}}, "tool_choice.mode"),
    ({"tools": [TOOL], "tool_choice": ALLOWED | {"tools": []}}, "tool_choice.tools"),
    (
        {"tools": [TOOL], "tool_choice": ALLOWED | {"tools": [{"type": "function", "name": "g"}]}},
        "tool_choice.tools[0].name",
    ),
    (
        {"tools": [TOOL], "tool_choice": ALLOWED | {"tools": [{"type": "function", "name": "\ud800"}]}},
        "tool_choice.tools[0].name",
    ),
    ({"tools": [TOOL | {"name": "\ud800"}]}, "tools[0].name"),
    ({"tools": [TOOL | {"parameters": {"a": "\ud800"}}]}, "tools[0].parameters"),
    ({"tools": [TOOL | {"parameters": {"a": float("nan")}}]}, "tools[0].parameters"),
    ({"text": {"format": FORM | {"schema": {"a": "\ud800"}}}}, "text.format.schema"),
    ({"text": {"format": FORM | {"schema": {"const": float("inf")}}}}, "text.format.schema"),
    ({"metadata": {"a": "\ud800"}}, "metadata.a"),
    ({"parallel_tool_calls": "no"}, "parallel_tool_calls"),
    # a history of calls
    ({"input": [MESSAGE, CALL]}, "input[1]"),
    ({"input": [MESSAGE, RESULT]}, "input[1].call_id"),
    ({"input": [MESSAGE, CALL, RESULT | {"call_id": "2"}]}, "input[2].call_id"),
    ({"input": [MESSAGE, CALL, CALL, RESULT]}, "input[2].call_id"),
    ({"input": [MESSAGE, {"role": "assistant", "content": "x"}, CALL, MESSAGE]}, "input[2]"),
    ({"input": [MESSAGE, CALL | {"name": 7}, RESULT]}, "input[1].name"),
    ({"input": [MESSAGE, CALL, RESULT | {"output": "\ud800"}]}, "input[2].output"),
    ({"tandem": {"efort": "none"}}, "tandem.efort"),
    ({"tandem": {"effort": "none,lo"}}, "tandem.effort"),
]


@pytest.mark.parametrize(("fields", "param"), REFUSED, ids=lambda value: value if isinstance(value, str) else "")
def test_the_field_is_named(plain: Server, fields: dict[str, Any], param: str) -> None:
    asked = {name: value for name, value in (body("intern") | fields).items() if value is not None}
    with plain.http() as client:
        for more in ({}, {"stream": True}):
            if not (more and "stream_options" in fields):
                content = json.dumps(more | asked)
                response = client.post(PATH, content=content, headers={"Content-Type": "application/json"})
                error = error_of(response)
                assert (error["type"], error["param"]) == ("invalid_request_error", param)


TAKEN: dict[str, Any] = {
    **{"background": False, "truncation": "disabled", "top_logprobs": 0, "store": True, "service_tier": "auto"},
    **{
        "tools": [],
        "tool_choice": "auto",
        "include": ["reasoning.encrypted_content"],
        "metadata": {},
        "previous_response_id": None,
        "conversation": None,
    },
    **{
        "reasoning": {"effort": None, "summary": "auto"},
        "text": {"format": None},
        "prompt_cache_key": "k",
        "seed": None,
    },
}


def test_what_asks_for_nothing_is_taken(plain: Server) -> None:
    assert texts(ask(plain, "intern", **TAKEN))["output_text"] == ANSWER


def test_nothing_is_stored(plain: Server) -> None:
    stored = ask(plain, "intern", store=True)["id"]
    with plain.http() as client:
        for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/input_items")):
            error = error_of(client.request(method, f"{PATH}/{stored}{path}"), 404)
            assert error["code"] == "response_not_found" and "nothing is stored here" in error["message"]
        error = error_of(client.get(PATH), 405)
    error = error_of(plain.post(body(previous_response_id=stored), PATH))
    assert "send the whole conversation as input" in error["message"]


def test_effort_caps_the_ladder(start: Start, climbing: str) -> None:
    server = start(classifier=climbing)
    assert "summary_text" not in texts(ask(server, reasoning={"effort": "none"}))
    assert ask(server, reasoning={"effort": "low"})["usage"]["tandem"]["mentor"]["insight"] == 5
    assert ask(server)["usage"]["tandem"]["mentor"]["insight"] == 30 - 7


def test_a_failure_in_the_queue_has_a_beginning() -> None:
    failed = list(ResponseEvents(ResponsesRequest(model="intern", input="x")).failed(ApiError(429, "full")))
    assert kinds(failed) == ["created", "in_progress", "error", "failed"]
    assert failed[-1]["response"]["error"]["code"] == "rate_limit_exceeded"


def test_calls_without_arguments_have_none_each() -> None:
    said = [
        *(CallDelta(0, "", id="a", name="now"), CallDelta(1, "", id="b", name="weather"), CallDelta(1, '{"city": 1}')),
        *(AnswerDelta("so"), CallDelta(2, "", id="c", name="now"), CallDelta(0, "{}"), CallDelta(2, "{}")),
    ]
    events = ResponseEvents(ResponsesRequest(model="intern", input="x"))
    sent = [one for event in said for one in events.piece(0, event)] + list(events.failed(ApiError(500, "x")))
    items = [(item["type"], item.get("arguments")) for item in sent[-1]["response"]["output"]]
    calls = [("function_call", "{}"), ("function_call", '{"city": 1}'), ("message", None), ("function_call", "{}")]
    assert items == calls
    deltas = [(one["output_index"], one["delta"]) for one in sent if one["type"].endswith("arguments.delta")]
    assert deltas == [(0, "{}"), (1, '{"city": 1}'), (3, "{}")]
