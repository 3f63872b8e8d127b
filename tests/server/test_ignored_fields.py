"""Every field of OpenAI's client: honoured, refused by name, or ignored and named in a header; none is left out."""

from __future__ import annotations

from typing import Any, get_type_hints

import pytest
from openai.types import completion_create_params as text_params
from openai.types.chat import completion_create_params as chat_params
from serving import Server, chat, error_of

from tandem.server.fields import IGNORED, IGNORED_HEADER, REFUSED
from tandem.server.schema import ChatRequest, CompletionRequest

ASKING: dict[str, Any] = {
    "audio": {"voice": "alloy", "format": "mp3"},
    "best_of": 3,
    "echo": True,
    "function_call": {"name": "f"},
    "functions": [{"name": "f"}],
    "logit_bias": {"5": -100},
    "metadata": {"a": "b"},
    "modalities": ["audio"],
    "moderation": {"model": "omni-moderation-latest"},
    "parallel_tool_calls": False,
    "prediction": {"type": "content", "content": "x"},
    "prompt_cache_key": "k",
    "prompt_cache_options": {"mode": "implicit"},
    "prompt_cache_retention": "24h",
    "safety_identifier": "s",
    "service_tier": "flex",
    "store": True,
    "suffix": "x",
    "tool_choice": "required",
    "tools": [{"type": "function", "function": {"name": "f"}}],
    "user": "me",
    "verbosity": "low",
    "web_search_options": {},
}


def fields(*kinds: Any) -> list[str]:
    return sorted({name for kind in kinds for name in get_type_hints(kind)})


CHAT = fields(chat_params.CompletionCreateParamsNonStreaming, chat_params.CompletionCreateParamsStreaming)
TEXT = fields(text_params.CompletionCreateParamsNonStreaming, text_params.CompletionCreateParamsStreaming)


def test_no_field_of_the_client_is_unaccounted_for() -> None:
    assert len(CHAT) > 30 and len(TEXT) > 15
    for known, schema in ((CHAT, ChatRequest), (TEXT, CompletionRequest)):
        for name in known:
            places = [name in schema.model_fields, name in REFUSED and name not in schema.model_fields, name in IGNORED]
            assert places.count(True) == 1, name
    assert set(ASKING) >= (set(REFUSED) | set(IGNORED)) & {*CHAT, *TEXT} - {*ChatRequest.model_fields}


@pytest.mark.parametrize("name", sorted(set(ASKING) - {*ChatRequest.model_fields}))
def test_a_field_is_refused_by_name_or_named_as_ignored(plain: Server, name: str) -> None:
    response = plain.post(chat("intern", **{name: ASKING[name]}))
    if name in REFUSED:
        assert error_of(response)["param"] == name
    else:
        assert response.status_code == 200 and response.headers[IGNORED_HEADER] == name


def test_ignored_fields_are_named_together_unknown_ones_among_them_and_in_a_stream_too(plain: Server) -> None:
    more = {"user": "me", "store": True, "top_k": 5, "metadata": {}, "service_tier": "auto", "verbosity": None}
    for extra in ({}, {"stream": True}):
        response = plain.post(chat("intern", **more, **extra))
        assert response.headers[IGNORED_HEADER] == "user, store, top_k"
    assert IGNORED_HEADER not in plain.post(chat("intern")).headers


def test_names_that_are_no_names_do_not_reach_a_header(plain: Server) -> None:
    odd = {"a\r\nset-cookie: b": 1, "ä": 1, "x" * 65: 1, "": 1, **{f"field{k}": 1 for k in range(100)}}
    response = plain.post(chat("intern", **odd))
    named = response.headers[IGNORED_HEADER].split(", ")
    assert named == [f"field{k}" for k in range(20)] and "set-cookie" not in response.headers


def test_penalties_reach_the_models_answers_and_no_notes(plain: Server) -> None:
    plain.ask("fixed:low", presence_penalty=0.5, frequency_penalty=-1.5)
    assert plain.intern.calls[-1].sampling.model_dump(exclude_defaults=True) == {  # type: ignore[attr-defined]
        "presence_penalty": 0.5,
        "frequency_penalty": -1.5,
    }
    assert plain.mentor.calls[-1].sampling.presence_penalty == 0  # type: ignore[attr-defined]
