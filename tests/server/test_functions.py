"""Functions that a client gives: called in OpenAI's form, whole and streamed, by every model, and replied to."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai import InternalServerError
from serving import BY_MENTOR, INSIGHT, QUESTION, Server, chat, error_of, events, serving

from tandem.models.fake import FakeModel, Rule, Script
from tandem.tools import write_call

Start = Callable[..., Server]
PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "unit": {"enum": ["C", "F"]}, "days": {"type": "integer"}},
    "required": ["city", "unit"],
}
WEATHER: Any = {
    "type": "function",
    "function": {"name": "get_weather", "description": "The weather in a city.", "parameters": PARAMETERS},
}
TIME: Any = {"type": "function", "function": {"name": "get_time"}}
ASKED: Any = [{"role": "user", "content": "What is the weather in Paris?"}]
CALL = {"name": "get_weather", "arguments": '{"city": "Paris", "unit": "C"}'}
CALLED: Any = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "call_1", "type": "function", "function": CALL}],
}
REPLIED: Any = {"role": "tool", "tool_call_id": "call_1", "content": "21 degrees"}


def written(text: str, name: str = "fake-intern", **fields: Any) -> FakeModel:
    return FakeModel(Script(rules=(Rule(text=text),), **fields), name=name)


@pytest.fixture(scope="module")
def pair() -> Iterator[Server]:
    """A server whose models call the first function once for each question."""
    with serving(FakeModel(name="fake-mentor"), FakeModel(name="fake-intern")) as server:
        yield server


def streamed(chunks: list[Any]) -> tuple[str, list[dict[str, Any]], list[str]]:
    """Put a stream together as OpenAI's documentation says: by index, name and id in the first piece."""
    text, calls, ends = "", list[dict[str, Any]](), list[str]()
    for chunk in chunks:
        if chunk == "[DONE]" or not chunk["choices"]:
            continue
        (choice,) = chunk["choices"]
        text += choice["delta"].get("content") or ""
        ends += [choice["finish_reason"]] if choice["finish_reason"] else []
        for piece in choice["delta"].get("tool_calls", ()):
            if piece["index"] == len(calls):
                assert piece["type"] == "function" and piece["id"]
                calls.append({"id": piece["id"], **piece["function"]})
            else:
                assert piece.keys() == {"index", "function"} and piece["function"].keys() == {"arguments"}
                calls[piece["index"]]["arguments"] += piece["function"]["arguments"]
    return text, calls, ends


@pytest.mark.parametrize("model", ["tandem", "tandem:low", "intern", "mentor", "fixed:low"])
def test_a_call_and_its_reply_with_the_official_client(pair: Server, model: str) -> None:
    with pair.openai() as client:
        first = client.chat.completions.create(model=model, messages=ASKED, tools=[WEATHER, TIME])
        (choice,) = first.choices
        assert choice.finish_reason == "tool_calls" and choice.message.content is None
        assert choice.message.tool_calls and len(choice.message.tool_calls) == 1
        call: Any = choice.message.tool_calls[0]
        assert call.id.startswith("call_") and call.type == "function"
        assert (call.function.name, json.loads(call.function.arguments)) == (
            "get_weather",
            {"city": "Paris", "unit": "C"},
        )
        replied: Any = {"role": "tool", "tool_call_id": call.id, "content": [{"type": "text", "text": "21 degrees"}]}
        second = client.chat.completions.create(
            model=model, messages=[*ASKED, choice.message, replied], tools=[WEATHER, TIME]
        )
    assert second.choices[0].finish_reason == "stop"
    assert second.choices[0].message.content == "The function replied: 21 degrees"
    assert second.choices[0].message.tool_calls is None


@pytest.mark.parametrize("model", ["tandem", "intern", "mentor"])
def test_a_streamed_call_is_the_whole_one(pair: Server, model: str) -> None:
    body = {"messages": ASKED, "tools": [WEATHER]}
    (whole,) = pair.ask(model, **body)["choices"]
    chunks = events(pair.post(chat(model, stream=True, **body)))
    text, (call,), ends = streamed(chunks)
    assert not text and ends == ["tool_calls"] and chunks[-1] == "[DONE]"
    function = whole["message"]["tool_calls"][0]["function"]
    assert (call["name"], call["arguments"]) == (function["name"], function["arguments"])
    pieces = [c["choices"][0]["delta"]["tool_calls"] for c in chunks[:-1] if "tool_calls" in c["choices"][0]["delta"]]
    assert len(pieces) >= (2 if model == "tandem" else 3)  # as it is written; a short draft comes in one
    assert "tool_call>" not in json.dumps(chunks)


def test_the_official_clients_own_stream(pair: Server) -> None:
    with (
        pair.openai() as client,
        client.chat.completions.stream(model="intern", messages=ASKED, tools=[WEATHER]) as stream,
    ):
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()
    assert "tool_calls.function.arguments.delta" in kinds and "tool_calls.function.arguments.done" in kinds
    assert final.choices[0].message.tool_calls and final.choices[0].finish_reason == "tool_calls"


@pytest.mark.parametrize(
    ("choice", "name"),
    [
        ("none", None),
        ("auto", "get_weather"),
        ("required", "get_weather"),
        ({"type": "function", "function": {"name": "get_time"}}, "get_time"),
    ],
)
def test_the_choice_among_functions(pair: Server, choice: Any, name: str | None) -> None:
    for model in ("tandem", "intern"):
        (found,) = pair.ask(model, messages=ASKED, tools=[WEATHER, TIME], tool_choice=choice)["choices"]
        calls = found["message"].get("tool_calls") or [{"function": {"name": None}}]
        assert [call["function"]["name"] for call in calls] == [name]


def test_what_the_models_of_a_pair_read(low: str) -> None:
    mentor = FakeModel(Script(rules=(Rule(text=INSIGHT, purpose="insight"), Rule(text=BY_MENTOR))), name="fake-mentor")
    intern = FakeModel(name="fake-intern")
    with serving(mentor, intern, classifier=low) as server:
        server.ask("tandem", messages=[*ASKED, CALLED, REPLIED, *ASKED], tools=[WEATHER])
    (advice,) = mentor.calls
    told = "\n".join(message.content for message in advice.messages)
    assert advice.tools is None and all(not m.tool_calls and m.role != "tool" for m in advice.messages)
    assert '"name": "get_weather"' in told and "21 degrees" in told and '"city": "Paris"' in told
    *_, answer = intern.calls
    assert answer.tools is not None and answer.tools.names == ["get_weather"]
    assert [m.role for m in answer.messages] == ["user", "assistant", "tool", "user"]
    assert answer.messages[1].tool_calls[0].arguments == CALL["arguments"]
    assert (
        answer.messages[-1].content.startswith(ASKED[0]["content"])
        and "find the product" in answer.messages[-1].content
    )


def test_advice_on_a_reply_stands_behind_it(low: str) -> None:
    mentor, intern = FakeModel(name="fake-mentor"), FakeModel(name="fake-intern")
    with serving(mentor, intern, classifier=low) as server:
        server.ask("tandem", messages=[*ASKED, CALLED, REPLIED], tools=[WEATHER])
    assert intern.calls[-1].messages[-1].role == "tool"
    assert intern.calls[-1].messages[-1].content.startswith("21 degrees\n\nNotes of an expert")
    assert mentor.calls[0].messages[-1].role == "user" and "21 degrees" in mentor.calls[0].messages[-1].content


def test_the_mentors_own_answer_may_call(climbing: str) -> None:
    with serving(FakeModel(name="fake-mentor"), FakeModel(name="fake-intern"), classifier=climbing) as server:
        found = server.ask(messages=ASKED, tools=[WEATHER], tandem={"effort": "none,low=5,answer"})
    assert found["choices"][0]["finish_reason"] == "tool_calls"
    assert found["usage"]["tandem"]["mentor"]["answer"] > 0


ODD = [
    (f"Let me see.\n{write_call('get_weather', '{}')}\n{write_call('get_time', '{}')}", "Let me see.", 2, "tool_calls"),
    (write_call("unknown_function", '{"a": 1}'), None, 1, "tool_calls"),
    ('<tool_call>\n{"name": "get_weather", "arguments": {"city": \n</tool_call>', None, 1, "tool_calls"),
    ("<tool_call>get_weather(Paris)</tool_call>", "get_weather(Paris)", 0, "stop"),
    (f"<think>I could write {write_call('get_time', '{}')}</think>No.", "No.", 0, "stop"),
    (f"<think>Hm.</think>{write_call('get_time', '')}", None, 1, "tool_calls"),
]


@pytest.mark.parametrize(("text", "content", "calls", "finish"), ODD)
def test_what_models_write(start: Start, text: str, content: str | None, calls: int, finish: str) -> None:
    server = start(None, written(text))
    body = {"messages": ASKED, "tools": [WEATHER, TIME]}
    (choice,) = server.ask("intern", **body)["choices"]
    made = choice["message"].get("tool_calls") or []
    assert (choice["message"]["content"], len(made), choice["finish_reason"]) == (content, calls, finish)
    said, pieces, ends = streamed(events(server.post(chat("intern", stream=True, **body))))
    assert (said or None, len(pieces), ends) == (content, calls, [finish])
    assert [(p["name"], p["arguments"]) for p in pieces] == [
        (call["function"]["name"], call["function"]["arguments"]) for call in made
    ]
    assert all(call["function"]["arguments"] for call in made)


def test_one_call_where_several_are_not_wanted(start: Start) -> None:
    server = start(None, written(ODD[0][0]))
    body = {"messages": ASKED, "tools": [WEATHER, TIME], "parallel_tool_calls": False}
    assert len(server.ask("intern", **body)["choices"][0]["message"]["tool_calls"]) == 1
    assert len(streamed(events(server.post(chat("intern", stream=True, **body))))[1]) == 1


def test_a_call_that_is_cut_is_no_finished_one(start: Start) -> None:
    server = start(None, written(write_call("get_weather", '{"city": "Paris", "unit": "C"}')))
    body = {"messages": ASKED, "tools": [WEATHER], "max_tokens": 5}
    (choice,) = server.ask("intern", **body)["choices"]
    assert choice["finish_reason"] == "length"
    (call,) = choice["message"]["tool_calls"]
    assert call["function"] == {"name": "get_weather", "arguments": '{"city": "Paris",'}
    assert streamed(events(server.post(chat("intern", stream=True, **body))))[2] == ["length"]


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "get_time"}}])
def test_a_call_that_is_required_and_does_not_come_is_an_error(start: Start, choice: Any) -> None:
    server = start(None, written("No." if choice == "required" else write_call("get_weather", "{}")))
    body = {"messages": ASKED, "tools": [WEATHER, TIME], "tool_choice": choice}
    error = error_of(server.post(chat("intern", **body)), 502)
    assert "the intern was to call" in error["message"]
    assert "the intern was to call" in events(server.post(chat("intern", stream=True, **body)))[-1]["error"]["message"]
    with server.openai() as client, pytest.raises(InternalServerError):
        client.chat.completions.create(model="intern", **body)  # type: ignore[call-overload]


def test_without_tools_a_text_is_a_text(start: Start) -> None:
    text = f"So one writes {write_call('f', '{}')}"
    (choice,) = start(None, written(text)).ask("intern")["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == (text, "stop") and "tool_calls" not in choice[
        "message"
    ]


def test_log_probabilities_go_with_the_words_and_not_with_the_calls(start: Start) -> None:
    server = start(None, written(ODD[0][0]))
    body = {"messages": ASKED, "tools": [WEATHER, TIME], "logprobs": True, "top_logprobs": 1}
    (whole,) = server.ask("intern", **body)["choices"]
    assert len(whole["message"]["tool_calls"]) == 2
    chunks = [c["choices"][0] for c in events(server.post(chat("intern", stream=True, **body)))[:-1]]
    told = [token["token"] for c in chunks if c["logprobs"] for token in c["logprobs"]["content"]]
    assert "".join(told).split()[:3] == ["Let", "me", "see."] and len(told) == len(set(told))
    assert all(c["logprobs"] is None for c in chunks if "tool_calls" in c["delta"])


def test_a_call_of_a_name_that_a_model_made_up_is_a_history_like_any_other(pair: Server) -> None:
    made_up = {"id": "x" * 900, "type": "function", "function": {"name": "functions.get weather", "arguments": "oh"}}
    history = [*ASKED, {**CALLED, "tool_calls": [made_up]}, {**REPLIED, "tool_call_id": "x" * 900}]
    assert pair.ask("intern", messages=history, tools=[WEATHER])["choices"][0]["message"]["content"]


def test_functions_count_as_prompt(pair: Server) -> None:
    bare, given = (pair.ask("intern", messages=ASKED, tools=tools)["usage"] for tools in ([], [WEATHER]))
    words = len(json.dumps(WEATHER["function"]).split())
    assert given["prompt_tokens"] == bare["prompt_tokens"] + words
    assert given["tandem"]["intern"]["prompt"] == bare["tandem"]["intern"]["prompt"] + words


def test_functions_count_for_the_room(pair: Server) -> None:
    long = {"type": "function", "function": {"name": "f", "description": "word " * 3_990}}
    tools = [{**long, "function": {**long["function"], "name": f"f{n}"}} for n in range(9)]
    error = error_of(pair.post(chat("intern", tools=tools)))
    assert error["code"] == "context_length_exceeded"


def test_histories_with_calls_need_no_tools(pair: Server) -> None:
    (choice,) = pair.ask("tandem", messages=[*ASKED, CALLED, REPLIED])["choices"]
    assert choice["finish_reason"] == "stop" and choice["message"]["content"]


NAMED = st.sampled_from(
    ["type", "function", "name", "id", "arguments", "properties", "required", "items", "enum", "anyOf", "$ref", "$defs"]
)
FAR: Any = {"type": "string"}
for _ in range(200):
    FAR = {"type": "object", "properties": {"a": FAR}}


def with_function(**fields: Any) -> list[Any]:
    return [{"type": "function", "function": {"name": "f"} | fields}]


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"tools": "f"}, "tools"),
    ({"tools": {}}, "tools"),
    ({"tools": ["f"]}, "tools[0]"),
    ({"tools": [{}]}, "tools[0].type"),
    ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools[0].type"),
    ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
    ({"tools": [{"type": "function"}]}, "tools[0].function"),
    ({"tools": [{"type": "function", "function": "f"}]}, "tools[0].function"),
    ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
    ({"tools": with_function(name=7)}, "tools[0].function.name"),
    ({"tools": with_function(name="")}, "tools[0].function.name"),
    ({"tools": with_function(name="a b")}, "tools[0].function.name"),
    ({"tools": with_function(name="a\n")}, "tools[0].function.name"),
    ({"tools": with_function(name="é")}, "tools[0].function.name"),
    ({"tools": with_function(name="f" * 65)}, "tools[0].function.name"),
    ({"tools": with_function(description=7)}, "tools[0].function.description"),
    ({"tools": with_function(description="x" * 20_001)}, "tools[0].function.description"),
    ({"tools": with_function(description="\ud800")}, "tools[0].function.description"),
    ({"tools": with_function(strict="yes")}, "tools[0].function.strict"),
    ({"tools": with_function(parameters="{}")}, "tools[0].function.parameters"),
    ({"tools": with_function(parameters=[])}, "tools[0].function.parameters"),
    ({"tools": with_function(parameters={"type": "string"})}, "tools[0].function.parameters"),
    ({"tools": with_function(parameters={"type": "objekt"})}, "tools[0].function.parameters"),
    ({"tools": with_function(parameters={"properties": []})}, "tools[0].function.parameters"),
    ({"tools": with_function(parameters={"properties": {"a": {"type": 3}}})}, "tools[0].function.parameters"),
    ({"tools": with_function(parameters={"required": "a"})}, "tools[0].function.parameters"),
    ({"tools": with_function(parameters={"title": "\ud800"})}, "tools[0].function.parameters"),
    ({"tools": with_function(parameters=FAR)}, "tools[0].function.parameters"),
    ({"tools": with_function(parameters={"enum": ["x" * 300_000]})}, "tools[0].function.parameters"),
    ({"tools": with_function() * 2}, "tools[1].function.name"),
    ({"tools": [with_function(name=f"f{n}")[0] for n in range(129)]}, "tools"),
    ({"tools": [with_function(name=f"f{n}", description="x" * 19_000)[0] for n in range(20)]}, "tools"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"tool_choice": "required", "tools": []}, "tool_choice"),
    ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice"),
    ({"tools": [WEATHER], "tool_choice": "always"}, "tool_choice"),
    ({"tools": [WEATHER], "tool_choice": 7}, "tool_choice"),
    ({"tools": [WEATHER], "tool_choice": []}, "tool_choice"),
    ({"tools": [WEATHER], "tool_choice": {}}, "tool_choice.type"),
    ({"tools": [WEATHER], "tool_choice": {"type": "allowed_tools", "allowed_tools": {}}}, "tool_choice.type"),
    ({"tools": [WEATHER], "tool_choice": {"type": "function"}}, "tool_choice.function"),
    ({"tools": [WEATHER], "tool_choice": {"type": "function", "function": {}}}, "tool_choice.function.name"),
    (
        {"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "f"}}},
        "tool_choice.function.name",
    ),
    ({"tools": [WEATHER], "parallel_tool_calls": "no"}, "parallel_tool_calls"),
    ({"tools": [WEATHER], "model": "budget-forcing"}, "tools"),
    ({"messages": [*ASKED, REPLIED]}, "messages[1].tool_call_id"),
    ({"messages": [*ASKED, CALLED, {**REPLIED, "tool_call_id": "call_2"}]}, "messages[2].tool_call_id"),
    ({"messages": [*ASKED, CALLED, REPLIED, REPLIED]}, "messages[3].tool_call_id"),
    ({"messages": [*ASKED, CALLED, {"role": "tool", "content": "x"}]}, "messages[2].tool_call_id"),
    ({"messages": [*ASKED, CALLED, {**REPLIED, "tool_call_id": 7}]}, "messages[2].tool_call_id"),
    ({"messages": [*ASKED, CALLED, {**REPLIED, "content": None}]}, "messages[2].content"),
    ({"messages": [*ASKED, CALLED, {**REPLIED, "content": [{"type": "image_url"}]}]}, "messages[2].content"),
    ({"messages": [*ASKED, CALLED]}, "messages[1].tool_calls"),
    ({"messages": [*ASKED, CALLED, *ASKED]}, "messages[1].tool_calls"),
    ({"messages": [{**ASKED[0], "tool_call_id": "call_1"}]}, "messages[0].tool_call_id"),
    ({"messages": [{**ASKED[0], "tool_calls": CALLED["tool_calls"]}]}, "messages[0].tool_calls"),
    ({"messages": [*ASKED, {**CALLED, "tool_calls": []}, *ASKED]}, "messages[1].content"),
    ({"messages": [*ASKED, {**CALLED, "tool_calls": "f"}, REPLIED]}, "messages[1].tool_calls"),
    ({"messages": [*ASKED, {**CALLED, "tool_calls": [{}]}, REPLIED]}, "messages[1].tool_calls[0].id"),
    (
        {"messages": [*ASKED, {**CALLED, "tool_calls": CALLED["tool_calls"] * 2}, REPLIED]},
        "messages[1].tool_calls[1].id",
    ),
    (
        {"messages": [*ASKED, {**CALLED, "tool_calls": [{**CALLED["tool_calls"][0], "type": "custom"}]}, REPLIED]},
        "messages[1].tool_calls[0].type",
    ),
    (
        {
            "messages": [
                *ASKED,
                {**CALLED, "tool_calls": [{**CALLED["tool_calls"][0], "function": {"name": "f"}}]},
                REPLIED,
            ]
        },
        "messages[1].tool_calls[0].function.arguments",
    ),
    (
        {"messages": [*ASKED, {"role": "assistant", "content": "x", "function_call": CALL}, *ASKED]},
        "messages[1].function_call",
    ),
    ({"messages": [*ASKED, {"role": "assistant", "content": None}, *ASKED]}, "messages[1].content"),
    ({"functions": [{"name": "f"}]}, "functions"),
    ({"function_call": {"name": "f"}}, "function_call"),
]


@pytest.mark.parametrize(("fields", "param"), REFUSED, ids=lambda value: value if isinstance(value, str) else "")
def test_the_field_is_named(plain: Server, fields: dict[str, Any], param: str) -> None:
    content = json.dumps(chat("intern") | fields)
    with plain.http() as client:
        headers = {"Content-Type": "application/json"}
        error = error_of(client.post("/v1/chat/completions", content=content, headers=headers))
    assert (error["type"], error["param"]) == ("invalid_request_error", param)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.floats()
    | st.sampled_from(["", "f", "object", "function", "#/x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMED, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    parameters=JSON,
    choice=st.sampled_from([None, "auto", "none", "required", {"type": "function", "function": {"name": "f"}}]) | JSON,
    calls=st.none() | st.just(CALLED["tool_calls"]) | JSON,
    reply=st.sampled_from(["call_1", "", None]) | JSON,
    model=st.sampled_from(["tandem", "intern", "mentor", "fixed:low"]),
)
def test_whatever_stands_in_these_fields_is_answered_or_refused(
    pair: Server, parameters: Any, choice: Any, calls: Any, reply: Any, model: str
) -> None:
    history = [{**CALLED, "tool_calls": calls}, {**REPLIED, "tool_call_id": reply}] if calls is not None else []
    tools = with_function(parameters=parameters)
    body = {"model": model, "messages": [*ASKED, *history], "tools": tools, "tool_choice": choice}
    with pair.http() as client:
        headers = {"Content-Type": "application/json"}
        response = client.post("/v1/chat/completions", content=json.dumps(body), headers=headers)
    if response.status_code != 200:
        assert error_of(response, 400)["param"].startswith(("tools", "tool_choice", "messages"))


def test_a_mentor_that_begins_its_answer_for_the_intern_has_no_tools(start: Start) -> None:
    mentor = FakeModel(name="fake-mentor")
    mentor.spec = mentor.spec.model_copy(update={"insight_mode": "prefix"})
    server = start(mentor, FakeModel(name="fake-intern"))
    for model in ("tandem", "fixed:low"):
        error = error_of(server.post(chat(model, tools=[WEATHER])))
        assert error["param"] == "tools" and "insight-mode prefix" in error["message"] and not mentor.calls
    assert server.ask("intern", messages=ASKED, tools=[WEATHER])["choices"][0]["finish_reason"] == "tool_calls"


def test_a_question_stays_a_question_where_no_tool_fits(pair: Server) -> None:
    assert pair.ask("tandem", content=QUESTION)["choices"][0]["finish_reason"] == "stop"


def test_words_about_a_call_are_no_call_where_json_is_asked_for(start: Start) -> None:
    server = start(None, written("I would write <tool_call> but no JSON", tools=True))
    body = chat("intern", messages=ASKED, tools=[WEATHER], response_format={"type": "json_object"})
    body["messages"] = [{"role": "user", "content": "The weather in Paris, as JSON"}]
    response = server.post(body)
    assert error_of(response, 502)["code"] == "invalid_output"


def test_log_probabilities_of_a_call_are_none_of_its_answer_s(pair: Server) -> None:
    for stream in (False, True):
        response = pair.post(chat("intern", messages=ASKED, tools=[WEATHER], logprobs=True, stream=stream))
        assert "<tool_call>" not in response.text and "get_weather" in response.text
