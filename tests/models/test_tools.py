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
from tandem.models.tools import Tool, ToolCall, find_call, write_call
from tandem.models.transformers.model import TransformersModel
from tandem.spec import ModelSpec
from tandem.types import Message, Sampling

TOOL = Tool("ask", "Asks.", "question", "a question")
REQUEST = Request(
    (Message(role="system", content="Be brief."), Message(role="user", content="What is 17*23?")),
    *("answer", 100, Sampling(temperature=0.5, stop=("</ask>",)), "So", 5, "p"),
)


@pytest.mark.parametrize(
    "question", ["What is 1 + 1?", 'He said "</tool_call>"', "Zwölf?\n\\frac", '<tool_call>{"name": "x"}', ""]
)
def test_a_call_reads_as_it_was_written(question: str) -> None:
    call = find_call("Hm.\n" + write_call("ask", json.dumps({"question": question})) + " more")
    assert call is not None and (call.before, call.argument(TOOL)) == ("Hm.\n", question)


@pytest.mark.parametrize(
    "arguments",
    ['{"question": "What', "", "null", "[1]", '{"query": "x"}', '{"question": 3}', '{"question": null}', "[" * 99_999],
)
def test_arguments_that_cannot_be_read_are_no_argument(arguments: str) -> None:
    call = find_call(write_call("ask", arguments))
    assert call is not None and call.name == "ask" and call.argument(TOOL) == ""


def test_another_function_is_given_no_argument() -> None:
    call = find_call(write_call("search", '{"question": "x"}'))
    assert call is not None and call.argument(TOOL) == ""


def test_the_first_call_that_is_one_counts() -> None:
    text = f"I write <tool_call> now. {write_call('ask', '1')}{write_call('ask', '2')}"
    assert find_call(text) == ToolCall("I write <tool_call> now. ", "ask", "1")
    assert find_call("A <tool_call> {broken") == ToolCall("A ", "", "")
    assert find_call("No call. </tool_call>") is None


def test_a_request_without_a_tool_keeps_its_digest() -> None:
    assert digest("large", REQUEST) == "2b53691cd2f11bd8da44b92473948340"
    assert REQUEST.prompt_bound == 153


def test_a_tool_is_a_part_of_the_request() -> None:
    changes = {"name": "b", "description": "b", "parameter": "b", "meaning": "b"}
    tools = [None, TOOL, *(replace(TOOL, **{name: value}) for name, value in changes.items())]
    requests = [replace(REQUEST, tool=tool) for tool in tools]
    assert len({digest("large", request) for request in requests}) == len(set(requests)) == 6
    assert requests[1].prompt_bound > REQUEST.prompt_bound + len(TOOL.description)
    assert requests[1].prompt_tokens(len) == REQUEST.prompt_tokens(len) + len(TOOL.text) and TOOL.meaning in TOOL.text


async def test_a_model_in_this_process_takes_no_tools() -> None:
    model = TransformersModel(ModelSpec(name="local"), Path("nowhere"))
    with pytest.raises(CapabilityError, match="local in this process takes no tools: use --strategy delegate:text"):
        await model.complete(replace(REQUEST, tool=TOOL))


def test_tools_are_a_hosted_models_and_no_part_of_a_manifest() -> None:
    having = {entry.name for entry in load_catalog() if spec_of(entry).tools}
    assert {"gpt-4o", "gpt-4o-mini", "o4-mini"} <= having
    assert all(entry.endpoint for entry in load_catalog() if entry.name in having)
    assert "tools" not in ModelSpec(name="x", tools=True).model_dump(mode="json")
