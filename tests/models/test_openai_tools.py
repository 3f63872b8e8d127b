"""Functions at an endpoint: what it is sent, calls that come back, and an endpoint that takes none."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from serving import classifier
from stub import Reply, Stub

from tandem import Tandem
from tandem.errors import CapabilityError, EndpointError, UsageError
from tandem.models.base import Request
from tandem.models.fake import FakeModel
from tandem.models.openai import OpenAIModel
from tandem.spec import Continuation, ModelSpec
from tandem.tools import FunctionCall, ToolUse, split_calls, write_call
from tandem.types import CallDelta, Message, Problem, Solution

F = {"name": "f", "description": "Does f.", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}}
G = {"name": "g"}
TOOLS = ToolUse(functions=(F, G))
ASKED = Message(role="user", content="What is f of 1?")
CALLED = Message(
    role="assistant",
    content="",
    tool_calls=(
        FunctionCall(id="call_of_some_client_1", name="f", arguments='{"a": 1}'),
        FunctionCall(id="x", name="g", arguments="{broken"),
    ),
)
REPLIES = (
    Message(role="tool", content="second", tool_call_id="x"),
    Message(role="tool", content="first", tool_call_id="call_of_some_client_1"),
)
NO_TOOLS = [
    (400, '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'),
    (400, "registry.ollama.ai/library/gemma:2b does not support tools"),
    (404, 'No endpoints found that support tool use. Try disabling "f".'),
    (500, "tools param requires --jinja flag"),
    (400, "'tools' is not supported with this model."),
    (400, "Unsupported parameter: 'tools'"),
    (422, "Unrecognized request argument supplied: tools"),
]
THESE_TOOLS = [
    "Invalid schema for function 'f': 'objekt' is not valid under any of the given schemas. (tools[0].function)",
    "Invalid 'tools[0].function.name': string too long.",
    "An assistant message with 'tool_calls' must be followed by tool messages.",
    "tools[0].function.parameters: grammar is too complex",
]


pytestmark = pytest.mark.usefixtures("clean")


@pytest.fixture
async def model(stub: Stub) -> AsyncIterator[OpenAIModel]:
    found = OpenAIModel(ModelSpec(name="stub", continuation=Continuation.SECTIONS), base_url=stub.url, retries=1)
    yield found
    await found.aclose()


def asking(*messages: Message, tools: ToolUse | None = TOOLS, **fields: Any) -> Request:
    return Request(messages or (ASKED,), "answer", 50, tools=tools, **fields)


def chunks(*calls: tuple[str, str]) -> tuple[str, ...]:
    """Return two calls' fragments as OpenAI streams them: the name first, then pieces of the arguments."""
    found = []
    for place, (name, arguments) in enumerate(calls):
        found.append({"index": place, "id": f"id{place}", "function": {"name": name, "arguments": ""}})
        found += [{"index": place, "function": {"arguments": half}} for half in (arguments[:4], arguments[4:])]
    return tuple(json.dumps([part]) for part in found)


async def test_functions_and_a_history_are_sent_in_openais_form(stub: Stub, model: OpenAIModel) -> None:
    await model.complete(asking(ASKED, CALLED, *REPLIES, ASKED))
    body = stub.chats[0].body
    assert body["tools"] == [{"type": "function", "function": F}, {"type": "function", "function": G}]
    assert body["tool_choice"] == "auto" and "parallel_tool_calls" not in body
    called, second, first = body["messages"][1:4]
    assert called["content"] is None and [c["function"]["name"] for c in called["tool_calls"]] == ["f", "g"]
    assert [c["function"]["arguments"] for c in called["tool_calls"]] == ['{"a": 1}', "{broken"]
    ids = [call["id"] for call in called["tool_calls"]]
    assert all(len(id) == 9 and id.isalnum() for id in ids) and len(set(ids)) == 2
    assert (second["tool_call_id"], first["tool_call_id"]) == (ids[1], ids[0]) and first["role"] == "tool"


@pytest.mark.parametrize(
    ("tools", "sent"),
    [
        ({"choice": "required"}, "required"),
        ({"choice": "required", "named": "g"}, {"type": "function", "function": {"name": "g"}}),
    ],
)
async def test_the_choice_is_sent(stub: Stub, model: OpenAIModel, tools: Any, sent: Any) -> None:
    await model.complete(asking(tools=TOOLS.model_copy(update={**tools, "parallel": False})))
    assert (stub.chats[0].body["tool_choice"], stub.chats[0].body["parallel_tool_calls"]) == (sent, False)


@pytest.mark.parametrize("hosted", [True, False])
async def test_functions_that_must_not_be_called(stub: Stub, hosted: bool) -> None:
    model = OpenAIModel(ModelSpec(name="stub", continuation=Continuation.SECTIONS, tools=hosted), base_url=stub.url)
    tools = TOOLS.model_copy(update={"choice": "none"})
    stub.default = Reply(tokens=(f"Hm. {write_call('f', '{}')}",))
    tandem = Tandem(FakeModel(name="fake-mentor"), model, strategy="intern-only")
    solution = await tandem.asolve(Problem(id="p", messages=(ASKED,), tools=tools))
    await model.aclose()
    assert stub.chats[0].body.get("tool_choice") == ("none" if hosted else None)
    assert ("tools" in stub.chats[0].body) == hosted
    assert solution.tool_calls == () and solution.content == "Hm.f{}"


async def test_several_calls_come_as_text(stub: Stub, model: OpenAIModel) -> None:
    stub.script(Reply(tokens=("So", "."), finish="tool_calls", calls=chunks(("f", '{"a": 1}'), ("g", "{}"))))
    answer = await model.complete(asking())
    assert split_calls(answer.text) == ("So.", [("f", '{"a": 1}'), ("g", "{}")]) and answer.finish_reason == "stop"


async def test_a_call_that_is_cut_is_passed_on_as_far_as_it_came(stub: Stub, model: OpenAIModel) -> None:
    stub.script(Reply(tokens=(), finish="length", calls=chunks(("f", '{"a": 1'))))
    answer = await model.complete(asking())
    assert split_calls(answer.text) == ("", [("f", '{"a": 1')]) and answer.finish_reason == "length"


@pytest.mark.parametrize(("status", "said"), NO_TOOLS)
async def test_an_endpoint_without_tools_gets_them_in_words(
    stub: Stub, model: OpenAIModel, status: int, said: str
) -> None:
    def respond(body: dict[str, Any]) -> Reply:
        if "tools" in body:
            return Reply(status=status, error=said)
        return Reply(tokens=("Hm. ", "<tool_", 'call>{"name": "f", "arguments": {"a": 1}}</tool_call>'))

    stub.respond = respond
    answer = await model.complete(asking(ASKED, CALLED, *REPLIES))
    assert split_calls(answer.text) == ("Hm.", [("f", '{"a": 1}')])
    assert len(stub.chats) == 2
    told = stub.chats[1].body
    assert not {"tools", "tool_choice", "parallel_tool_calls"} & told.keys()
    assert [m["role"] for m in told["messages"]] == ["system", "user", "assistant", "user"]
    assert all(isinstance(m["content"], str) and not m.keys() - {"role", "content"} for m in told["messages"])
    assert '"name": "f"' in told["messages"][0]["content"] and "<tool_call>" in told["messages"][0]["content"]
    assert write_call("f", '{"a": 1}') in told["messages"][2]["content"]
    assert "second" in told["messages"][3]["content"] and "first" in told["messages"][3]["content"]
    await model.complete(asking())
    assert len(stub.chats) == 3  # it is known now


@pytest.mark.parametrize("said", THESE_TOOLS)
async def test_a_complaint_about_one_requests_tools_is_the_clients(stub: Stub, model: OpenAIModel, said: str) -> None:
    stub.script(Reply(status=400, error=said))
    with pytest.raises(CapabilityError, match=r"'stub' does not take these tools \(.*answered 400"):
        await model.complete(asking())
    await model.complete(asking())
    assert ["tools" in chat.body for chat in stub.chats] == [True, True]


async def test_words_for_a_choice(stub: Stub, model: OpenAIModel) -> None:
    stub.respond = lambda body: Reply(status=400, error="does not support tools") if "tools" in body else Reply()
    for tools in (
        {"choice": "none"},
        {"choice": "required"},
        {"choice": "required", "named": "g"},
        {"parallel": False},
    ):
        await model.complete(asking(tools=TOOLS.model_copy(update=tools)))
    none, must, named, single = [chat.body["messages"] for chat in stub.chats if "tools" not in chat.body]
    assert [m["role"] for m in none] == ["user"]
    assert "You must call a function now" in must[0]["content"] and "You must call g now" in named[0]["content"]
    assert "one function at a time" in single[0]["content"]


async def solved(stub: Stub, tmp_path: Path, spec: dict[str, Any], **thresholds: float) -> tuple[Solution, list[Any]]:
    intern = OpenAIModel(
        ModelSpec(name="fake-intern", continuation=Continuation.NATIVE, **spec),
        base_url=stub.url,
        served_name="stub",
        retries=0,
    )
    folder = classifier(tmp_path / "scripted", **thresholds)
    mentor = FakeModel(name="fake-mentor")
    try:
        tandem = Tandem(mentor, intern, classifier=folder)
        problem = Problem(id="p", messages=(ASKED,), tools=TOOLS)
        found = [event async for event in tandem.astream(problem, effort="none,low=5,medium=12")]
    finally:
        await intern.aclose()
    assert isinstance(found[-1], Solution)
    return found[-1], found


async def test_a_draft_that_is_a_call_without_log_probabilities(stub: Stub, tmp_path: Path) -> None:
    stub.default = Reply(tokens=(), finish="tool_calls", calls=chunks(("f", '{"a": 1}')), call_tokens=9)
    solution, found = await solved(stub, tmp_path, {}, none=2, low=0, medium=0)
    assert solution.answered_by == "intern" and solution.level == "medium"  # nothing tells that less is enough
    assert [(d.action, d.sufficiency) for d in solution.trace] == [("go_on", None), ("go_on", None), ("stop", None)]
    assert solution.tool_calls and solution.tool_calls[0].name == "f" and solution.content == ""
    assert next(event for event in found if isinstance(event, CallDelta)).name == "f"
    assert sum(entry.usage.completion for entry in solution.ledger.select("intern", "probe")) == 18


async def test_a_draft_of_words_before_a_call(stub: Stub, tmp_path: Path) -> None:
    words = tuple(f" word{n}" for n in range(8))
    stub.default = Reply(tokens=words, finish="tool_calls", calls=chunks(("f", '{"a": 1}')))
    solution, _ = await solved(stub, tmp_path, {}, none=0)
    assert solution.level == "none" and solution.trace[0].sufficiency is not None
    assert solution.content == "".join(words) and [call.name for call in solution.tool_calls or ()] == ["f"]
    assert solution.text.endswith(write_call("f", '{"a": 1}'))


async def test_a_required_call_that_a_model_does_not_make(stub: Stub, model: OpenAIModel) -> None:
    tandem = Tandem(FakeModel(name="fake-mentor"), model, strategy="intern-only")
    problem = Problem(id="p", messages=(ASKED,), tools=TOOLS.model_copy(update={"choice": "required"}))
    with pytest.raises(EndpointError, match="the intern was to call a function and did not") as caught:
        await tandem.asolve(problem)
    assert caught.value.ledger is not None and len(caught.value.ledger.entries) == 1


async def test_strategies_that_take_no_tools_say_so_before_anything_is_asked(stub: Stub, model: OpenAIModel) -> None:
    for strategy in ("delegate", "budget-forcing", "spec-reason"):
        tandem = Tandem(FakeModel(name="fake-mentor"), model, strategy=strategy)
        with pytest.raises(UsageError, match=rf"strategy '{strategy}' takes no tools"):
            await tandem.asolve(Problem(id="p", messages=(ASKED,), tools=TOOLS))
    assert not stub.chats


async def test_the_librarys_conversation(stub: Stub) -> None:
    tandem = Tandem(FakeModel(name="fake-mentor"), FakeModel(name="fake-intern"), strategy="intern-only")
    first = await tandem.asolve(Problem(id="p", messages=(ASKED,), tools=TOOLS))
    (call,) = first.tool_calls or ()
    openais = {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
    history = [
        {"role": "user", "content": "What is f of 1?"},
        {"role": "assistant", "content": None, "tool_calls": [openais]},
        {"role": "tool", "tool_call_id": call.id, "content": "7"},
    ]
    assert (await tandem.asolve(history)).content == "The function replied: 7"
