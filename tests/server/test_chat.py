"""/v1/chat/completions as the official client meets it: whole and streamed answers, conversations, and their ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import groupby
from typing import Any

import pytest
from openai import AsyncOpenAI
from serving import ANSWER, INSIGHT, QUESTION, Held, Server, chat, events, until

from tandem.models.fake import FakeModel

Start = Callable[..., Server]
ASKED: Any = [{"role": "user", "content": QUESTION}]


def kinds(chunks: list[Any]) -> list[str]:
    """Return what a stream brought, in its order, each kind once for a row of them."""

    def kind(chunk: Any) -> str:
        if chunk == "[DONE]" or not chunk.get("choices"):
            return "done" if chunk == "[DONE]" else "usage"
        delta, end = chunk["choices"][0]["delta"], chunk["choices"][0]["finish_reason"]
        if end is not None:
            return f"{end} {delta}"
        return "role" if "role" in delta else ", ".join(delta)

    return [found for found, _ in groupby(map(kind, chunks))]


def joined(chunks: list[Any], name: str) -> str:
    """Return the text that a stream's deltas make."""
    with_choices = [chunk for chunk in chunks if chunk != "[DONE]" and chunk.get("choices")]
    return "".join(chunk["choices"][0]["delta"].get(name, "") for chunk in with_choices)


def test_an_answer_comes_with_its_insight(start: Start, low: str) -> None:
    with start(classifier=low).openai() as client:
        found = client.chat.completions.create(model="tandem", messages=ASKED)
    assert (found.object, found.model, found.id[:9]) == ("chat.completion", "tandem", "chatcmpl-")
    (choice,) = found.choices
    assert (choice.index, choice.finish_reason, choice.message.role) == (0, "stop", "assistant")
    assert choice.message.content == ANSWER
    assert choice.message.model_dump()["reasoning_content"] == "Goal: find the product ."
    assert found.usage and found.usage.completion_tokens_details
    assert found.usage.completion_tokens_details.reasoning_tokens == 5


def test_an_answer_without_an_insight_says_so(plain: Server) -> None:
    assert plain.ask("intern")["choices"][0]["message"]["reasoning_content"] is None


def test_a_stream_has_everything_in_its_order(start: Start, low: str) -> None:
    server = start(classifier=low)
    with server.openai() as client:
        stream = client.chat.completions.create(
            model="tandem", messages=ASKED, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk.to_dict() for chunk in stream]
    assert kinds(chunks) == ["role", "reasoning_content", "content", "stop {}", "usage"]
    assert joined(chunks, "content") == ANSWER
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks}) == 1
    assert all(chunk["object"] == "chat.completion.chunk" for chunk in chunks)
    assert chunks[-1]["usage"]["completion_tokens"] == server.ask()["usage"]["completion_tokens"]


def test_a_streamed_insight_is_the_one_of_a_whole_answer(start: Start, climbing: str) -> None:
    server = start(classifier=climbing)
    whole = server.ask()["choices"][0]["message"]
    chunks = events(server.post(chat(stream=True)))
    assert joined(chunks, "reasoning_content").split() == whole["reasoning_content"].split() == INSIGHT.split()
    assert joined(chunks, "content") == whole["content"]


def test_a_stream_on_the_wire(start: Start) -> None:
    response = start().post(chat("intern", stream=True))
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-cache"
    chunks = events(response)
    assert kinds(chunks) == ["role", "content", "stop {}", "done"]  # no usage: nobody asked for it
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert all("tandem" not in chunk for chunk in chunks[:-1])


def test_pieces_come_as_they_are_written(start: Start) -> None:
    model = Held("one two three four", after=2)
    server = start(None, model)
    with server.openai() as client:
        stream = iter(client.chat.completions.create(model="intern", messages=ASKED, stream=True))
        first = [next(stream).choices[0].delta.content for _ in range(3)]
        assert first == ["", "one", " two"] and model.reached.wait(60)  # the model has not gone on
        model.let_go()
        assert [chunk.choices[0].delta.content for chunk in stream] == [" three", " four", None]


def test_events_tell_sections_decisions_and_the_solution(start: Start, low: str) -> None:
    chunks = events(start(classifier=low).post(chat(stream=True, tandem={"events": True})))
    told = [chunk["tandem"] for chunk in chunks if chunk != "[DONE]" and "tandem" in chunk]
    decisions = [one for one in told if one["type"] == "decision"]
    assert [(one["level"], one["action"], one["threshold"]) for one in decisions] == [
        ("none", "go_on", 2.0),
        ("low", "stop", 0.0),
    ]
    assert all(0 <= one["sufficiency"] <= 1 and one["calibrated"] for one in decisions)
    assert decisions[1]["insight_tokens"] == 5
    insights = [chunk for chunk in chunks if chunk != "[DONE]" and chunk.get("tandem", {}).get("type") == "insight"]
    assert {(one["tandem"]["section"], one["tandem"]["level"]) for one in insights} == {("goal", "low")}
    assert all(one["choices"][0]["delta"]["reasoning_content"] for one in insights)
    last = told[-1]
    assert (last["type"], last["level"], last["answered_by"], last["answer"]) == ("solution", "low", "intern", "391")
    assert last["synthetic"] and not last["truncated"] and last["seconds"] >= 0
    assert chunks[-2]["tandem"] == last and chunks[-2]["choices"][0]["finish_reason"] == "stop"


async def test_the_async_client_asks_side_by_side(start: Start) -> None:
    model = Held("one two three", name="fake-intern")
    server = start(None, model)
    async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:

        async def ask() -> str:
            found = await client.chat.completions.create(model="intern", messages=ASKED)
            return found.choices[0].message.content or ""

        async def stream() -> str:
            chunks = await client.chat.completions.create(model="intern", messages=ASKED, stream=True)
            return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])

        asking = [asyncio.create_task(face()) for face in (ask, stream) * 4]
        await asyncio.to_thread(until, lambda: len(model.calls) == 8)  # all are in the midst of it
        assert server.service.gate.running == 8 and server.metrics("tandem_requests_running") == 8
        model.let_go()
        assert await asyncio.gather(*asking) == ["one two three"] * 8


def test_a_conversation_reaches_the_models_as_it_is(start: Start) -> None:
    server = start()
    messages = [
        {"role": "developer", "content": "Answer in verse."},
        {"role": "user", "content": [{"type": "text", "text": "What is "}, {"type": "text", "text": "2+2?"}]},
        {"role": "assistant", "content": "Four.", "refusal": None, "reasoning_content": "an earlier insight"},
        {"role": "user", "content": "And one more?", "name": "alice"},
    ]
    assert server.post({"model": "fixed:low", "messages": messages}).status_code == 200
    for model in (server.intern, server.mentor):
        assert isinstance(model, FakeModel)
        (call,) = model.calls
        text = "\n".join(message.content for message in call.messages)
        assert all(part in text for part in ("Answer in verse.", "What is 2+2?", "Four.", "And one more?"))
        assert "an earlier insight" not in text  # OpenAI's clients may send it back: it is not the conversation
    assert isinstance(server.intern, FakeModel)
    roles = [message.role for message in server.intern.calls[0].messages]
    assert (roles[0], roles[-1]) == ("system", "user")
    server.post({"model": "intern", "messages": messages})
    plain = server.intern.calls[-1].messages
    assert [m.role for m in plain[-3:]] == ["user", "assistant", "user"]


@pytest.mark.parametrize("stop", ["then", ["nowhere", "then", "Planning"]])
def test_a_stop_ends_the_answer_and_not_the_insight(start: Start, climbing: str, stop: Any) -> None:
    found = start(classifier=climbing).ask(stop=stop)["choices"][0]
    assert found["message"]["content"] == "first I split , " and found["finish_reason"] == "stop"
    assert found["message"]["reasoning_content"] == INSIGHT


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("model", ["tandem", "intern", "mentor", "fixed:low"])
def test_a_cap_cuts_the_answer(plain: Server, name: str, model: str) -> None:
    found = plain.ask(model, **{name: 3})
    assert found["choices"][0]["finish_reason"] == "length"
    assert len(found["choices"][0]["message"]["content"].split()) == 3
    chunks = events(plain.post(chat(model, stream=True, **{name: 3})))
    assert kinds(chunks)[-2:] == ["length {}", "done"]


def test_sampling_reaches_the_model(start: Start) -> None:
    server = start(temperature=0.5, seed=3)
    server.ask("intern")
    server.ask("intern", temperature=1.25, top_p=0.5, seed=-7)
    server.ask("intern", temperature=0)
    assert isinstance(server.intern, FakeModel)
    seen = [(c.sampling.temperature, c.sampling.top_p, c.sampling.seed) for c in server.intern.calls]
    assert seen == [(0.5, 1.0, 3), (1.25, 0.5, -7), (0.0, 1.0, 3)]


def test_choices_are_drawn_with_seeds_of_their_own(start: Start) -> None:
    model = FakeModel(name="fake-intern")
    model.answer = lambda request: f"drawn with {request.sampling.seed}"
    server = start(None, model)
    with server.openai() as client:
        found = client.chat.completions.create(model="intern", messages=ASKED, n=3, temperature=0.7, seed=7)
    assert [(c.index, c.message.content) for c in found.choices] == [(k, f"drawn with {7 + k}") for k in range(3)]
    assert found.usage and found.usage.completion_tokens == 9 and found.usage.prompt_tokens == 3
    chunks = events(server.post(chat("intern", n=2, temperature=0.7, seed=7, stream=True)))
    texts = {0: "", 1: ""}
    for chunk in chunks[:-1]:
        texts[chunk["choices"][0]["index"]] += chunk["choices"][0]["delta"].get("content", "")
    assert texts == {0: "drawn with 7", 1: "drawn with 8"}


def test_choices_without_a_seed_are_drawn_freely(start: Start) -> None:
    server = start()
    server.ask("intern", n=2, temperature=0.7)
    assert isinstance(server.intern, FakeModel)
    assert [call.sampling.seed for call in server.intern.calls] == [None, None]
