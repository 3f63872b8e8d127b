"""`response_format` over HTTP, with the openai client: JSON by a schema from every model, checked before the end."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import openai
import pytest
from pydantic import BaseModel, Field
from serving import INSIGHT, QUESTION, Server, chat, error_of, events, intern, mentor

from tandem.models.fake import FakeModel, Rule, Script

Start = Callable[..., Server]


class Step(BaseModel):
    explanation: str = Field(min_length=3)
    further: Step | None = None


class Sum(BaseModel):
    """A sum."""

    steps: list[Step] = Field(min_length=1)
    result: int = Field(ge=7)
    mood: Literal["glad", "sad"]


WANTED = {
    "type": "json_schema",
    "json_schema": {
        "name": "sum",
        "schema": {"type": "object", "properties": {"result": {"type": "integer"}}, "required": ["result"]},
    },
}
JSON = '{"result": 391}'


def unscripted() -> FakeModel:
    """Return a model that writes what fits the schema."""
    return FakeModel(name="fake-intern")


@pytest.fixture
def open_server(start: Start) -> Server:
    return start(FakeModel(Script(rules=(Rule(text=INSIGHT, purpose="insight"),)), name="fake-mentor"), unscripted())


@pytest.mark.parametrize("model", ["intern", "mentor", "tandem", "fixed:low"])
def test_parse_gives_an_object_of_the_class(open_server: Server, model: str) -> None:
    with open_server.openai() as client:
        asked: Any = [{"role": "user", "content": QUESTION}]
        answer = client.chat.completions.parse(model=model, messages=asked, response_format=Sum)
        found = answer.choices[0].message.parsed
        assert found is not None and found.result >= 7 and found.mood == "glad" and found.steps[0].further is None
        with client.chat.completions.stream(model=model, messages=asked, response_format=Sum) as stream:
            assert stream.get_final_completion().choices[0].message.parsed == found


def test_the_models_that_answer_are_asked_for_it_and_the_mentors_notes_speak_of_it(start: Start, climbing: str) -> None:
    writes, answers = mentor(), intern(JSON)
    server = start(writes, answers, classifier=climbing)
    answer = server.ask(response_format=WANTED)
    assert answer["choices"][0]["message"]["content"] == JSON
    forms = [call.response_format for call in answers.calls]
    assert forms and all(form is not None and form.openai["json_schema"]["name"] == "sum" for form in forms)
    assert not any("boxed" in call.messages[-1].content for call in answers.calls)
    notes = [call for call in writes.calls if call.purpose == "insight"]
    assert notes and all(call.response_format is None and '"result"' in call.messages[-1].content for call in notes)


def test_any_object_will_do_for_json_object(open_server: Server) -> None:
    answer = open_server.ask(**chat(content="What is 17*23? Answer in JSON."), response_format={"type": "json_object"})
    assert json.loads(answer["choices"][0]["message"]["content"]) == {"answer": 0}


FENCED = f"Here you are:\n```json\n{JSON}\n```\nI hope it {{helps}}."


@pytest.mark.parametrize("model", ["intern", "tandem"])
def test_json_in_a_fence_is_unwrapped(start: Start, model: str) -> None:
    server = start(None, intern(f"<think>Is it {{391}}?</think>{FENCED}"))
    message = server.ask(model, response_format=WANTED)["choices"][0]["message"]
    assert message["content"] == JSON and "Is it {391}?" in message["reasoning_content"]
    chunks = events(server.post(chat(model, response_format=WANTED, stream=True)))
    said = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks[:-1])
    assert said == JSON and chunks[-1] == "[DONE]"


MISFITS = [
    ('{"result": "391"}', "at result: '391' is not of type 'integer'"),
    ('{"answer": 391}', "'result' is a required property"),
    ("I cannot tell .", "it is no JSON"),
    ('{"result": 3', "it is no JSON"),
]


@pytest.mark.parametrize(("text", "words"), MISFITS, ids=[text for text, _ in MISFITS])
@pytest.mark.parametrize("model", ["intern", "tandem"])
def test_an_answer_that_does_not_fit_is_an_error_and_is_charged_once(
    start: Start, prices: Path, model: str, text: str, words: str
) -> None:
    server = start(None, intern(text), prices=prices)
    error = error_of(server.post(chat(model, response_format=WANTED)), 502)
    assert error["code"] == "invalid_output" and words in error["message"], error
    chunks = events(server.post(chat(model, response_format=WANTED, stream=True)))
    assert chunks[-1]["error"]["code"] == "invalid_output" and words in chunks[-1]["error"]["message"]
    server.idle()
    assert len(server.ledgers) == 2
    for ledger in server.ledgers:
        assert len(ledger.select("intern", "answer")) == 1 and (ledger.usd or 0) > 0


def test_an_answer_that_was_cut_ends_with_length(start: Start) -> None:
    server = start(None, intern('{"result": [1, 2, 3, 4, 5, 6]}'))
    choice = server.ask("intern", response_format=WANTED, max_tokens=3)["choices"][0]
    assert choice["finish_reason"] == "length" and choice["message"]["content"] == '{"result": [1, 2,'


def test_the_client_raises_for_an_answer_that_does_not_fit(start: Start) -> None:
    server = start(None, intern('{"result": null}'))
    with server.openai() as client, pytest.raises(openai.InternalServerError, match="at result: None is not of type"):
        client.chat.completions.create(
            model="intern",
            messages=[{"role": "user", "content": "x"}],
            response_format=WANTED,  # type: ignore[arg-type]
        )
