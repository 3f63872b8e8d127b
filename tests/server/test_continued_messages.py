"""Conversations that end with the assistant's message, which is continued, and those of system messages alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from serving import ANSWER, QUESTION, Server, chat, error_of, events, intern, mentor

from tandem.models.fake import FakeModel, Rule, Script
from tandem.spec import Continuation

Start = Callable[..., Server]
BEGUN, REST = "first I split ,", " then I add , so it is \\boxed{391}"


def asked(model: str, begun: str = BEGUN, **fields: Any) -> dict[str, Any]:
    said = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": begun}]
    return {**chat(model), "messages": said, **fields}


def content(server: Server, body: dict[str, Any]) -> str:
    """Return the answer, which must be the same whole and streamed."""
    response = server.post(body)
    assert response.status_code == 200, response.text
    found: str = response.json()["choices"][0]["message"]["content"]
    chunks = events(server.post(body | {"stream": True}))
    assert "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks[:-1]) == found
    return found


@pytest.mark.parametrize("model", ["intern", "tandem", "tandem:low", "fixed:low"])
@pytest.mark.parametrize("fields", [{}, {"continue_final_message": True, "add_generation_prompt": False}], ids=str)
def test_the_answer_goes_on_from_the_message(start: Start, model: str, fields: dict[str, Any]) -> None:
    server = start()
    assert content(server, asked(model, **fields)) == REST
    assert {call.prefix for call in server.intern.calls} == {BEGUN}  # type: ignore[attr-defined]
    assert all(call.messages[-1].role == "user" for call in server.intern.calls)  # type: ignore[attr-defined]


def test_the_mentor_goes_on_too(start: Start) -> None:
    server = start()
    assert content(server, asked("mentor", "the mentor says")) == " \\boxed{391}"
    assert content(server, asked("budget-forcing:2", "the mentor")).startswith(" says")


def test_a_draft_that_is_given_up_and_the_mentors_answer_go_on_from_the_same(start: Start, climbing: str) -> None:
    server = start(mentor(), intern(), classifier=climbing)
    said = content(server, asked("tandem", tandem={"effort": "none,low,answer"}))
    assert said == "the mentor says \\boxed{391}", "the mentor of the script knows no other answer"
    answers = [call for call in server.mentor.calls if call.purpose == "answer"]  # type: ignore[attr-defined]
    assert {call.prefix for call in answers} == {BEGUN}


@pytest.mark.parametrize(
    "text", [REST, BEGUN + REST, "I split ," + REST], ids=["goes on", "begins anew", "repeats the end"]
)
def test_a_model_that_cannot_continue_is_asked_for_the_rest(start: Start, text: str) -> None:
    model = FakeModel(Script(rules=(Rule(text=text),), continuation=Continuation.NONE), name="fake-intern")
    server = start(None, model)
    assert content(server, asked("intern")) == REST
    messages = model.calls[0].messages
    assert [m.role for m in messages[-2:]] == ["assistant", "user"] and messages[-2].content == BEGUN
    assert "Go on exactly where your text stops" in messages[-1].content and model.calls[0].prefix is None


def test_what_thinks_does_not_think_behind_a_beginning(start: Start) -> None:
    model = intern(f"<think>\n\n</think>\n\n{BEGUN}{REST}")
    model.spec = model.spec.model_copy(update={"thinks": True})
    server = start(None, model)
    assert content(server, asked("intern")) == REST
    assert model.calls[0].prefix == f"<think>\n\n</think>\n\n{BEGUN}"


def test_json_is_checked_with_its_beginning(start: Start) -> None:
    wanted: Any = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"required": ["result"]}}}
    server = start(None, intern('{"result": 391}'))
    assert content(server, asked("intern", '{"result":', response_format=wanted)) == " 391}"
    broken = asked("intern", '{"sum":', response_format=wanted)
    assert error_of(server.post(broken), 502)["code"] == "invalid_output"


def test_usage_counts_the_beginning_as_prompt(start: Start) -> None:
    server = start()
    plain, begun = (server.post(body).json()["usage"] for body in (chat("intern"), asked("intern")))
    assert begun["prompt_tokens"] == plain["prompt_tokens"] + 4
    assert begun["completion_tokens"] == plain["completion_tokens"] - 4


@pytest.mark.parametrize("roles", [["system"], ["developer"], ["system", "developer"], ["user", "system"]], ids=str)
@pytest.mark.parametrize("model", ["intern", "tandem"])
def test_a_conversation_of_system_messages_is_answered(start: Start, model: str, roles: list[str]) -> None:
    server = start()
    body = chat(model) | {"messages": [{"role": role, "content": QUESTION} for role in roles]}
    assert content(server, body) == ANSWER
    assert server.intern.calls[-1].messages[-1].role == "user"  # type: ignore[attr-defined]


def test_an_empty_message_is_taken_where_another_says_something(start: Start) -> None:
    messages = [{"role": "system", "content": QUESTION}, {"role": "user", "content": ""}]
    assert content(start(), chat("intern") | {"messages": messages}) == ANSWER


def test_a_conversation_may_begin_and_end_with_silence(start: Start) -> None:
    said = [("user", ""), ("assistant", "What is it?"), ("user", " ")]
    messages = [{"role": role, "content": text} for role, text in said]
    assert content(start(), chat("intern") | {"messages": messages}) == ANSWER


def test_an_empty_beginning_is_none(start: Start) -> None:
    assert content(start(), asked("intern", "")) == ANSWER


def test_a_mentor_whose_insight_begins_the_answer_refuses_another_beginning(start: Start) -> None:
    first = mentor()
    first.spec = first.spec.model_copy(update={"insight_mode": "prefix"})
    server = start(first)
    assert error_of(server.post(asked("tandem")))["param"] == "messages"
    assert content(server, asked("intern")) == REST
