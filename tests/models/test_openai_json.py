"""An answer's form on its way to an endpoint: as OpenAI has it, and in words where the endpoint cannot, or must not."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from stub import Reply, Stub

from tandem.models.base import Request
from tandem.models.openai import OpenAIModel
from tandem.response_format import ResponseFormat
from tandem.spec import Continuation, ModelSpec, Sampling
from tandem.tools import ToolUse
from tandem.types import Message

SCHEMA = json.dumps({"type": "object", "properties": {"sum": {"type": "integer"}}, "required": ["sum"]})
FORM = ResponseFormat(SCHEMA, "sum", strict=True)
JSON = ('{"sum":', " 3}")


@pytest.fixture
async def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stub]:
    monkeypatch.setenv("TANDEM_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("tandem.models.openai.errors.FIRST_PAUSE", 0.01)
    async with Stub() as server:
        server.default = Reply(tokens=JSON)
        yield server


def model_at(stub: Stub, **fields: Any) -> OpenAIModel:
    return OpenAIModel(ModelSpec(name="stub", vocabulary=50_000, **fields), base_url=stub.url)


def ask(form: ResponseFormat | None = FORM, **changes: Any) -> Request:
    messages = (Message(role="system", content="You add."), Message(role="user", content="What is 1+2?"))
    return Request(**({"messages": messages, "purpose": "answer", "max_tokens": 50, "response_format": form} | changes))


async def bodies(stub: Stub, model: OpenAIModel, *requests: Request) -> list[dict[str, Any]]:
    """Ask, and return what the endpoint was sent, tries that it refused among it."""
    for request in requests:
        assert (await model.complete(request)).text
    await model.aclose()
    return [seen.body for seen in stub.seen]


def in_words(body: dict[str, Any]) -> bool:
    return "JSON" in body["messages"][1]["content"]


async def test_the_form_goes_as_openai_has_it(stub: Stub) -> None:
    first, second, third = await bodies(stub, model_at(stub), ask(), ask(ResponseFormat()), ask(None))
    named = {"name": "sum", "schema": json.loads(SCHEMA), "strict": True}
    assert first["response_format"] == {"type": "json_schema", "json_schema": named}
    assert second["response_format"] == {"type": "json_object"} and "response_format" not in third
    assert not any(map(in_words, (first, second, third)))


@pytest.mark.parametrize("status", [400, 422])
async def test_an_endpoint_without_schemas_gets_objects_then_words_and_is_asked_so_from_then_on(
    stub: Stub, status: int
) -> None:
    stub.script(Reply(status=status, error="This response_format type is unavailable now"))
    first, second, third = await bodies(stub, model_at(stub), ask(), ask())
    assert first["response_format"]["type"] == "json_schema" and not in_words(first)
    for body in (second, third):
        assert body["response_format"] == {"type": "json_object"} and in_words(body) and SCHEMA in str(body)


async def test_an_endpoint_that_knows_no_form_gets_words_alone(stub: Stub) -> None:
    stub.default = Reply(tokens=JSON, refuses=("response_format",))
    *refused, taken, later = await bodies(stub, model_at(stub), ask(), ask())
    assert len(refused) == 2 and all("response_format" in body for body in refused)
    for body in (taken, later):
        assert "response_format" not in body and in_words(body)


@pytest.mark.parametrize(
    "error",
    [
        "The provided JSON schema contains features not supported by xgrammar.",
        "Invalid schema for response_format 'sum': In context=(), 'additionalProperties' is required",
        "failed to parse grammar",
    ],
)
async def test_a_schema_that_is_refused_goes_in_words_and_the_next_one_as_before(stub: Stub, error: str) -> None:
    stub.script(Reply(status=400, error=error))
    refused, taken, later = await bodies(stub, model_at(stub), ask(), ask())
    assert "response_format" in refused and "response_format" in later and not in_words(later)
    assert "response_format" not in taken and in_words(taken)


async def test_what_it_costs_is_counted_once(stub: Stub) -> None:
    stub.script(Reply(status=400, error="response_format is not supported"))
    model = model_at(stub)
    answer = await model.complete(ask())
    assert answer.text == "".join(JSON) and answer.usage.prompt == 12
    await model.aclose()


TOOL = ToolUse(functions=({"name": "f", "parameters": {"type": "object"}},))


@pytest.mark.parametrize(
    ("spec", "changes"),
    [
        ({"thinks": True}, {}),
        ({}, {"tools": TOOL}),
        ({"continuation": Continuation.NATIVE}, {"prefix": '{"sum":'}),
    ],
    ids=["a thinking model", "functions", "a beginning"],
)
async def test_what_must_not_be_decoded_by_it_gets_words(
    stub: Stub, spec: dict[str, Any], changes: dict[str, Any]
) -> None:
    (body,) = await bodies(stub, model_at(stub, **spec), ask(**changes))
    assert "response_format" not in body and in_words(body)


async def test_a_broken_stream_goes_on_with_its_text_and_no_second_value(stub: Stub) -> None:
    stub.script(Reply(tokens=JSON, fault="reset", fault_after=1))
    stub.default = Reply(tokens=JSON, continuation=JSON[1:])
    model = model_at(stub, continuation=Continuation.NATIVE)
    assert (await model.complete(ask())).text == "".join(JSON)
    first, second = (seen.body for seen in stub.seen)
    assert "response_format" in first and "response_format" not in second
    assert second["messages"][-1] == {"role": "assistant", "content": JSON[0]}
    await model.aclose()


async def test_penalties_are_sent_where_there_are_any(stub: Stub) -> None:
    bent = Sampling(presence_penalty=0.5, frequency_penalty=-1.0)
    plain, with_them = await bodies(stub, model_at(stub), ask(), ask(sampling=bent))
    assert "presence_penalty" not in plain and "frequency_penalty" not in plain
    assert (with_them["presence_penalty"], with_them["frequency_penalty"]) == (0.5, -1.0)
