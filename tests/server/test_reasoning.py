"""What a model thinks reaches a client as `reasoning_content`, whole and streamed, and never as content."""

from __future__ import annotations

from typing import Any

import pytest
from server.conftest import Start
from server.test_chat import joined, kinds
from serving import INSIGHT, Server, chat, events, intern, mentor

from tandem.models.fake import FakeModel
from tandem.spec import Sampling

THOUGHT, ANSWER = "perhaps \\boxed{1} , or more", "it is \\boxed{391}"
TEXT = f"<think> {THOUGHT} </think>\n\n{ANSWER}"


def thinker(text: str = TEXT, **fields: Any) -> FakeModel:
    model = intern(text)
    model.spec = model.spec.model_copy(update={"thinks": True, **fields})
    return model


@pytest.fixture
def thinking(start: Start) -> Server:
    return start(None, thinker())


def test_a_whole_answer_has_the_thought_apart(thinking: Server) -> None:
    with thinking.openai() as client:
        message = client.chat.completions.create(model="intern", messages=chat()["messages"]).choices[0].message
    assert message.content == ANSWER
    assert message.model_dump()["reasoning_content"].strip() == THOUGHT
    found = thinking.ask("intern")["usage"]
    assert found["completion_tokens_details"]["reasoning_tokens"] == len(THOUGHT.split())
    assert found["completion_tokens"] > len(TEXT.split()) - 1


def test_a_stream_has_the_thought_first(thinking: Server) -> None:
    chunks = events(thinking.post(chat("intern", stream=True)))
    assert kinds(chunks) == ["role", "reasoning_content", "content", "stop {}", "done"]
    whole = thinking.ask("intern")["choices"][0]["message"]
    for name in ("content", "reasoning_content"):
        assert joined(chunks, name) == whole[name]
    told = [
        chunk["tandem"]["type"]
        for chunk in events(thinking.post(chat("intern", stream=True, tandem={"events": True})))
        if "tandem" in chunk
    ]
    assert set(told[:-1]) == {"thinking"} and told[-1] == "solution"


def test_the_thought_follows_an_insight(start: Start, climbing: str) -> None:
    server = start(mentor(), thinker(), classifier=climbing)
    message = server.ask()["choices"][0]["message"]
    assert message["reasoning_content"] == f"{INSIGHT}\n\n{THOUGHT} " and message["content"] == ANSWER
    chunks = events(server.post(chat(stream=True)))
    assert joined(chunks, "reasoning_content").split() == message["reasoning_content"].split()
    assert joined(chunks, "content") == ANSWER


def test_an_answer_cut_in_its_thought_has_no_content(start: Start) -> None:
    for text in (TEXT, TEXT.removeprefix("<think>")):
        server = start(None, thinker(text))
        choice = server.ask("intern", max_tokens=4)["choices"][0]
        assert choice["finish_reason"] == "length" and choice["message"]["content"] == ""
        assert choice["message"]["reasoning_content"].startswith("perhaps")
        chunks = events(server.post(chat("intern", stream=True, max_tokens=4)))
        assert joined(chunks, "content") == "" and kinds(chunks)[-2:] == ["length {}", "done"]


def test_a_text_completion_is_the_answer_alone(thinking: Server) -> None:
    body = {"model": "intern", "prompt": "What is 17*23?"}
    assert thinking.post(body, "/v1/completions").json()["choices"][0]["text"] == ANSWER
    chunks = events(thinking.post(body | {"stream": True}, "/v1/completions"))
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks[:-1]) == ANSWER


def test_several_choices_are_drawn_as_the_makers_advise_else_at_the_vendors_default(start: Start) -> None:
    advised, plain = thinker(sampling=Sampling(temperature=0.6)), intern()
    for model, temperature in ((advised, 0.6), (plain, 1.0)):
        assert len(start(None, model).ask("intern", n=2)["choices"]) == 2
        assert [call.sampling.temperature for call in model.calls] == [temperature] * 2


def test_several_choices_at_temperature_zero_are_given_as_asked_for(start: Start) -> None:
    plain = intern()
    assert len(start(None, plain).ask("intern", n=2, temperature=0)["choices"]) == 2
    assert [call.sampling.temperature for call in plain.calls] == [0, 0]
