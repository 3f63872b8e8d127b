"""Log-probabilities of the tokens of an answer, by the official client: chats, whole and streamed, and texts."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from serving import ANSWER, QUESTION, Server, chat, error_of, events, mentor

from tandem.errors import UsageError
from tandem.models.fake import FakeModel, Rule, Script
from tandem.types import Problem

Start = Callable[..., Server]
ASKED: list[Any] = [{"role": "user", "content": QUESTION}]


def test_a_chat_has_each_token_with_its_likeliest_rivals(plain: Server) -> None:
    with plain.openai() as client:
        found = client.chat.completions.create(model="intern", messages=ASKED, logprobs=True, top_logprobs=3)
    (choice,) = found.choices
    assert choice.logprobs and choice.logprobs.content
    tokens = choice.logprobs.content
    assert "".join(token.token for token in tokens) == choice.message.content == ANSWER
    for token in tokens:
        assert bytes(token.bytes or ()).decode() == token.token and token.logprob < 0
        assert len(token.top_logprobs) == 3 and token.top_logprobs[0].logprob == token.logprob
        assert sum(math.exp(other.logprob) for other in token.top_logprobs) <= 1
    assert plain.ask("intern")["choices"][0]["logprobs"] is None


def test_without_rivals_there_is_the_token_alone(plain: Server) -> None:
    for fields in ({}, {"top_logprobs": 0}):
        content = plain.ask("mentor", logprobs=True, **fields)["choices"][0]["logprobs"]["content"]
        assert content and all(token["top_logprobs"] == [] for token in content)


def test_a_stream_has_the_same_tokens_with_their_text(plain: Server) -> None:
    body = chat("intern", logprobs=True, top_logprobs=2)
    whole = plain.ask(**body)["choices"][0]["logprobs"]["content"]
    chunks = [chunk["choices"][0] for chunk in events(plain.post(body | {"stream": True}))[:-1]]
    assert [token for chunk in chunks if chunk["logprobs"] for token in chunk["logprobs"]["content"]] == whole
    for chunk in chunks:
        said = "".join(token["token"] for token in (chunk["logprobs"] or {"content": []})["content"])
        assert said == chunk["delta"].get("content", "")


@pytest.mark.parametrize("stream", [False, True])
def test_a_thought_has_none(start: Start, stream: bool) -> None:
    model = FakeModel(Script(rules=(Rule(text="<think> let me see </think> it is 391"),)), name="fake-intern")
    server = start(None, model)
    body = chat("intern", logprobs=True, stream=stream)
    if stream:
        chunks = [chunk["choices"][0] for chunk in events(server.post(body))[:-1]]
        tokens = [token for chunk in chunks if chunk["logprobs"] for token in chunk["logprobs"]["content"]]
    else:
        tokens = server.ask(**body)["choices"][0]["logprobs"]["content"]
    assert [token["token"].strip() for token in tokens][-3:] == ["it", "is", "391"]
    assert "see" not in [token["token"].strip() for token in tokens]


def test_a_text_has_them_side_by_side(plain: Server) -> None:
    with plain.openai() as client:
        found = client.completions.create(model="intern", prompt=QUESTION, logprobs=2)
        stream = list(client.completions.create(model="intern", prompt=QUESTION, logprobs=2, stream=True))
    (choice,) = found.choices
    assert choice.logprobs and choice.logprobs.tokens and choice.logprobs.text_offset
    tokens, at = choice.logprobs.tokens, choice.logprobs.text_offset
    assert "".join(tokens[:-1]) == ANSWER and tokens[-1] == "<end>"  # as vLLM gives it, too
    assert all(ANSWER[k:].startswith(token) for k, token in zip(at[:-1], tokens, strict=False))
    assert choice.logprobs.token_logprobs and choice.logprobs.top_logprobs
    for token, own, top in zip(tokens, choice.logprobs.token_logprobs, choice.logprobs.top_logprobs, strict=True):
        assert top[token] == own == max(top.values()) and len(top) == 2
    parts = [chunk.choices[0].logprobs for chunk in stream if chunk.choices[0].logprobs]
    for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
        assert [value for part in parts for value in getattr(part, name)] == getattr(choice.logprobs, name)


@pytest.mark.parametrize("model", ["tandem", "tandem:low", "fixed:low", "budget-forcing:3"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_two_models_at_work_give_none(plain: Server, model: str, path: str) -> None:
    body = chat(model, logprobs=True) if "chat" in path else {"model": model, "prompt": "x", "logprobs": 1}
    error = error_of(plain.post(body, path))
    assert error["param"] == "logprobs" and "intern and mentor" in error["message"]


def test_a_model_without_them_says_so(start: Start) -> None:
    server = start(mentor(logprobs=False))
    error = error_of(server.post(chat("mentor", logprobs=True)))
    assert error["param"] == "logprobs" and "the mentor gives none" in error["message"]
    assert server.post(chat("intern", logprobs=True)).status_code == 200


async def test_a_strategy_of_two_models_refuses_a_problem_that_asks_for_them(plain: Server) -> None:
    problem = Problem.from_text(QUESTION).model_copy(update={"logprobs": 2})
    with pytest.raises(UsageError, match="strategy 'tandem' gives no log-probabilities"):
        await plain.service.engine.asolve(problem)
