"""A tool call's form in a text, and that requests without a tool are what they were before there were tools."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tandem.errors import CapabilityError
from tandem.models.base import Request
from tandem.models.catalog import load_catalog, spec_of
from tandem.models.recorded import digest
from tandem.models.transformers.model import TransformersModel
from tandem.spec import ModelSpec
from tandem.tools import FunctionCall, ToolCall, ToolUse, find_call, write_call
from tandem.types import Message, Problem, Sampling

FUNCTION = {
    "name": "ask",
    "description": "Asks.",
    "parameters": {
        "type": "object",
        "properties": {"question": {"type": "string", "description": "a question"}},
        "required": ["question"],
    },
}
TOOL = ToolUse(functions=(FUNCTION,), parallel=False, textual=False)
REQUEST = Request(
    (Message(role="system", content="Be brief."), Message(role="user", content="What is 17*23?")),
    *("answer", 100, Sampling(temperature=0.5, stop=("</ask>",)), "So", 5, "p"),
)


@pytest.mark.parametrize(
    "question", ["What is 1 + 1?", 'He said "</tool_call>"', "Zwölf?\n\\frac", '<tool_call>{"name": "x"}', ""]
)
def test_a_call_reads_as_it_was_written(question: str) -> None:
    call = find_call("Hm.\n" + write_call("ask", json.dumps({"question": question})) + " more")
    assert call is not None and (call.before, call.argument("ask", "question")) == ("Hm.\n", question)


@pytest.mark.parametrize(
    "arguments",
    ['{"question": "What', "", "null", "[1]", '{"query": "x"}', '{"question": 3}', '{"question": null}', "[" * 99_999],
)
def test_arguments_that_cannot_be_read_are_no_argument(arguments: str) -> None:
    call = find_call(write_call("ask", arguments))
    assert call is not None and call.name == "ask" and call.argument("ask", "question") == ""


def test_another_function_is_given_no_argument() -> None:
    call = find_call(write_call("search", '{"question": "x"}'))
    assert call is not None and call.argument("ask", "question") == ""


def test_the_first_call_that_is_one_counts() -> None:
    text = f"I write <tool_call> now. {write_call('ask', '1')}{write_call('ask', '2')}"
    assert find_call(text) == ToolCall("I write <tool_call> now. ", "ask", "1")
    assert find_call("A <tool_call> {broken") == ToolCall("A ", "", "")
    assert find_call("No call. </tool_call>") is None


def test_a_request_without_a_tool_keeps_its_digest() -> None:
    assert digest("large", REQUEST) == "2b53691cd2f11bd8da44b92473948340"
    assert REQUEST.prompt_bound == 153


def test_tools_are_a_part_of_the_request() -> None:
    changed = [{**FUNCTION, name: "b"} for name in ("name", "description")] + [{**FUNCTION, "parameters": {}}]
    others = [ToolUse(functions=(function,), parallel=False) for function in changed]
    others += [TOOL.model_copy(update={"parallel": True}), TOOL.model_copy(update={"choice": "required"})]
    others += [TOOL.model_copy(update={"choice": "required", "named": "ask"})]
    requests = [replace(REQUEST, tools=tools) for tools in (None, TOOL, *others)]
    assert len({digest("large", request) for request in requests}) == len(set(requests)) == 8
    assert requests[1].prompt_bound > REQUEST.prompt_bound + len("Asks.")
    assert requests[1].prompt_tokens(len) == REQUEST.prompt_tokens(len) + len(TOOL.text) and "a question" in TOOL.text


def test_a_request_of_delegate_keeps_the_digest_that_it_had() -> None:
    assert digest("large", replace(REQUEST, tools=TOOL)) == "13c5aedfcdd5e89a36cbfe7389b7d269"


def test_messages_without_calls_are_dumped_and_digested_as_before() -> None:
    plain = Message(role="user", content="x")
    assert plain.model_dump_json() == '{"role":"user","content":"x"}' and plain.text == "x"
    assert Message.model_validate(plain.model_dump()) == plain
    called = Message(
        role="assistant", content="Hm.", tool_calls=(FunctionCall(id="a", name="ask", arguments='{"question": "1"}'),)
    )
    replied = Message(role="tool", content="2", tool_call_id="a")
    for message in (called, replied):
        assert Message.model_validate_json(message.model_dump_json()) == message
    assert called.text == "Hm." + write_call("ask", '{"question": "1"}')
    histories = [(plain,), (called,), (called, replied), (called.model_copy(update={"tool_calls": ()}), replied)]
    histories.append((called, replied.model_copy(update={"role": "user", "tool_call_id": None})))
    assert len({digest("m", replace(REQUEST, messages=messages)) for messages in histories}) == 5
    problem = Problem(id="p", messages=(plain,))
    assert "tools" not in problem.model_dump() and "response_format" not in problem.model_dump()
    given = problem.model_copy(update={"tools": ToolUse(functions=(FUNCTION,), choice="required")})
    assert Problem.model_validate_json(given.model_dump_json()) == given


async def test_a_model_in_this_process_takes_no_tools() -> None:
    model = TransformersModel(ModelSpec(name="local"), Path("nowhere"))
    with pytest.raises(CapabilityError, match="local in this process takes no tools: use --strategy delegate:text"):
        await model.complete(replace(REQUEST, tools=TOOL))


def test_tools_are_a_hosted_models_and_no_part_of_a_manifest() -> None:
    having = {entry.name for entry in load_catalog() if spec_of(entry).tools}
    assert {"gpt-4o", "gpt-4o-mini", "o4-mini"} <= having
    assert all(entry.endpoint for entry in load_catalog() if entry.name in having)
    assert "tools" not in ModelSpec(name="x", tools=True).model_dump(mode="json")
