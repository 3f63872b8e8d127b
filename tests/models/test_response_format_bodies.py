"""The form of an answer on its way to a model: part of a call's digest only where there is one, and of its prompt."""

from __future__ import annotations

import json

from tandem.insight import answer_messages, mentor_messages
from tandem.models.base import Request
from tandem.models.recorded import digest
from tandem.response_format import ResponseFormat
from tandem.types import Message, Problem

SCHEMA = json.dumps({"type": "object", "properties": {"answer": {"type": "integer"}}, "required": ["answer"]})
NAMED = ResponseFormat(SCHEMA, "sum", "a sum")


def test_a_request_without_a_form_keeps_the_digest_that_it_had_before_there_were_forms() -> None:
    request = Request((Message(role="user", content="What is 17*23?"),), "answer", 64)
    assert digest("gpt-4o", request) == "22a95419c8e0a6d083196bd3eb0a6529"


def test_each_form_has_a_digest_of_its_own() -> None:
    forms = (None, ResponseFormat(), NAMED, ResponseFormat(SCHEMA, "sum"), ResponseFormat(SCHEMA, strict=True))
    asked = (Message(role="user", content="What is 17*23?"),)
    digests = {digest("gpt-4o", Request(asked, "answer", 64, response_format=form)) for form in forms}
    assert len(digests) == len(forms)


def test_a_form_counts_as_a_part_of_the_prompt() -> None:
    asked = (Message(role="user", content="What is 17*23?"),)
    plain, formed = (Request(asked, "answer", 64, response_format=form) for form in (None, NAMED))
    assert formed.prompt_bound >= plain.prompt_bound + len(NAMED.words)
    assert formed.prompt_tokens(len) == plain.prompt_tokens(len) + len(NAMED.words)
    assert formed.room(4096, len) <= plain.room(4096, len) - len(NAMED.words)


def test_the_mentor_reads_of_the_form_and_nobody_is_told_of_a_box() -> None:
    problem = Problem.from_text("What is 17*23?").model_copy(update={"response_format": NAMED})
    for mode in ("gpra", "prefix"):
        assert SCHEMA in mentor_messages(problem, mode)[-1].content
    assert "boxed" not in answer_messages(problem)[-1].content
    assert "boxed" in answer_messages(problem.model_copy(update={"response_format": None}))[-1].content
