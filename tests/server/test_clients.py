"""What other people's clients send without being asked to: it asks for nothing, and is no fault."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from serving import ANSWER, Server, chat, events

Start = Callable[..., Server]


@pytest.mark.parametrize("effort", ["high", "xhigh", "max"])
def test_the_highest_efforts_cap_nothing(start: Start, climbing: str, effort: str) -> None:
    server = start(classifier=climbing)
    chunks = events(server.post(chat(stream=True, reasoning_effort=effort, tandem={"events": True})))
    told = [chunk.get("tandem") or {} for chunk in chunks[:-1]]
    assert [one["level"] for one in told if one.get("type") == "decision"] == ["none", "low", "medium", "high"]


@pytest.mark.parametrize(
    "fields",
    [
        {"stop": [], "seed": 1234, "temperature": 0.0, "max_tokens": 4096},  # lm_eval
        {"stop": [], "seed": None, "temperature": 0.0, "max_tokens": 4096},
        {"stream_options": None, "logprobs": None, "tools": None, "n": 1, "frequency_penalty": 0.0},  # LangChain
        {"user": "me", "metadata": {"a": "b"}, "store": False, "service_tier": "auto", "verbosity": "medium"},
        {"parallel_tool_calls": False, "prompt_cache_key": "k", "safety_identifier": "s", "response_format": None},
    ],
    ids=["lm_eval", "lm_eval without a seed", "langchain", "openai", "openai's caches"],
)
def test_what_asks_for_nothing_is_taken(plain: Server, fields: dict[str, Any]) -> None:
    assert plain.ask("intern", **fields)["choices"][0]["message"]["content"] == ANSWER
