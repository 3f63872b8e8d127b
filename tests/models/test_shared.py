"""Shared calls: what serves a request, what does not, and that it is charged as if a model had been asked."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem.errors import EndpointError
from tandem.ledger import Entry, Ledger, Usage
from tandem.models.base import Request
from tandem.models.call import Call
from tandem.models.fake import FakeModel, Rule, Script
from tandem.models.recorded import Piece, Recorded
from tandem.models.shared import SharedCalls, beginning
from tandem.types import Message, Sampling

TEXT = "one two three four five six seven eight"


def model(**script: object) -> FakeModel:
    return FakeModel(Script(rules=(Rule(text=TEXT),), **script))  # type: ignore[arg-type]


def request(text: str = "Count.", **fields: object) -> Request:
    asked = Request((Message(role="user", content=text),), "answer", 50, affinity="p1")
    return replace(asked, **fields)  # type: ignore[arg-type]


async def ask(model: FakeModel, asked: Request, shared: SharedCalls | None, *, leave: int | None = None) -> Call:
    """Read a call to its end, or leave it behind so many tokens."""
    async with Call(model, asked, "mentor", Ledger(), recorder=shared) as call:
        async for _ in call:
            if leave is not None and call.tokens >= leave:
                break
    return call


def entry(call: Call) -> Entry:
    (found,) = call._ledger.entries
    return found


def charged(call: Call) -> Entry:
    """Return the call's entry without what may differ when nobody was asked."""
    return entry(call).model_copy(update={"seconds": 0.0, "paid": True})


@pytest.mark.parametrize(
    "served",
    [
        request(),
        request(max_tokens=8),
        request(max_tokens=3),
        request(purpose="insight", max_tokens=5),
        request(affinity="another problem"),
        request(top_logprobs=None),
    ],
)
async def test_less_of_the_same_is_served_and_charged_as_if_it_were_asked(tmp_path: Path, served: Request) -> None:
    shared, asked, alone = SharedCalls(tmp_path), model(), model()
    await ask(asked, request(top_logprobs=5), shared)
    given, own = await ask(asked, served, shared), await ask(alone, served, None)
    assert len(asked.calls) == 1
    assert (given.text, given.tokens, given.finish_reason) == (own.text, own.tokens, own.finish_reason)
    assert given.stats == own.stats and charged(given) == charged(own)
    assert entry(given).paid is False and entry(own).paid is True


@pytest.mark.parametrize("leave", [1, 4, 7])
async def test_what_its_reader_leaves_is_charged_as_far_as_it_was_read(tmp_path: Path, leave: int) -> None:
    shared, asked = SharedCalls(tmp_path), model()
    await ask(asked, request(), shared)
    given, own = await ask(asked, request(), shared, leave=leave), await ask(model(), request(), None, leave=leave)
    assert given.tokens == own.tokens == leave and charged(given) == charged(own)
    assert entry(given).usage.source == "counted" and entry(given).usage.completion_bound == 50


@pytest.mark.parametrize(
    "other",
    [
        request("Count backwards."),
        request(prefix="one"),
        request(sampling=Sampling(temperature=0.7)),
        request(sampling=Sampling(seed=1)),
        request(top_logprobs=5),
    ],
)
async def test_another_question_or_a_richer_one_is_asked(tmp_path: Path, other: Request) -> None:
    shared, asked = SharedCalls(tmp_path), model()
    await ask(asked, request(), shared)
    await ask(asked, other, shared)
    assert len(asked.calls) == 2


async def test_another_model_and_another_sample_are_asked(tmp_path: Path) -> None:
    shared, one, two = SharedCalls(tmp_path), model(), model(token_seconds=0.0001)
    await ask(one, request(), shared)
    await ask(two, request(), shared)
    async with Call(one, request(), "mentor", Ledger(), recorder=shared, occurrence=1) as call:
        async for _ in call:
            pass
    assert (len(one.calls), len(two.calls)) == (2, 1)


async def test_a_beginning_serves_only_whoever_asks_for_no_more(tmp_path: Path) -> None:
    shared, asked = SharedCalls(tmp_path), model()
    await ask(asked, request(), shared, leave=4)
    short = await ask(asked, request(max_tokens=3), shared)
    assert (short.text, short.finish_reason, len(asked.calls)) == ("one two three", "length", 1)
    whole = await ask(asked, request(), shared)
    assert (whole.text, len(asked.calls)) == (TEXT, 2)
    await ask(asked, request(max_tokens=2), shared)
    assert (await ask(asked, request(), shared)).text == TEXT  # the longer one is still there
    assert len(asked.calls) == 2


async def test_one_that_is_being_asked_is_waited_for(tmp_path: Path) -> None:
    shared, asked = SharedCalls(tmp_path), model(token_seconds=0.002)
    calls = await asyncio.gather(*(ask(asked, request(max_tokens=n), shared) for n in (50, 50, 3)))
    assert len(asked.calls) == 1 and [call.text for call in calls] == [TEXT, TEXT, "one two three"]


async def test_whoever_waits_asks_when_the_first_one_fails_or_leaves(tmp_path: Path) -> None:
    shared = SharedCalls(tmp_path)
    broken = FakeModel(Script(rules=(Rule(text=TEXT, fault="no luck", fault_after=2),), token_seconds=0.002))
    found = await asyncio.gather(*(ask(broken, request(), shared) for _ in range(3)), return_exceptions=True)
    assert all(isinstance(error, EndpointError) for error in found) and len(broken.calls) == 3
    slow = model(token_seconds=0.002)
    first, second = await asyncio.gather(
        ask(slow, request("Leave."), shared, leave=2), ask(slow, request("Leave."), shared)
    )
    assert (first.tokens, second.text, len(slow.calls)) == (2, TEXT, 2)
    task = asyncio.create_task(ask(slow, request("Cancel."), shared))
    await asyncio.sleep(0.005)
    waiting = asyncio.create_task(ask(slow, request("Cancel."), shared))
    await asyncio.sleep(0.002)
    task.cancel()
    assert (await asyncio.wait_for(waiting, 5)).text == TEXT


async def test_a_damaged_file_is_no_answer(tmp_path: Path) -> None:
    shared, asked = SharedCalls(tmp_path), model()
    await ask(asked, request(), shared)
    for path in tmp_path.rglob("*.json"):  # noqa: ASYNC240
        path.write_bytes(path.read_bytes()[:40])
    assert (await ask(asked, request(), SharedCalls(tmp_path))).text == TEXT and len(asked.calls) == 2


@given(
    st.lists(st.lists(st.sampled_from(["a", "bb ", "ccc"]), min_size=1, max_size=4), min_size=1, max_size=8), st.data()
)
def test_a_beginning_has_the_tokens_that_were_asked_for(chunks: list[list[str]], data: st.DataObject) -> None:
    pieces = tuple(Piece(len("".join(chunk)), len(chunk), 0) for chunk in chunks)
    tokens = [token for chunk in chunks for token in chunk]
    whole = Recorded("".join(tokens), pieces, (), "stop", Usage(prompt=3, completion=len(tokens)), seconds=2.0)
    wanted = data.draw(st.integers(1, len(tokens)))

    def cut(text: str, count: int) -> str:
        at = 0
        for _ in range(count):
            at += next(len(t) for t in ("ccc", "bb ", "a") if text.startswith(t, at))
        return text[:at]

    found = beginning(whole, wanted, cut)
    assert found.text == "".join(tokens[:wanted]) and found.tokens == wanted == found.usage.completion
    assert "".join(delta.text for delta in found.deltas()) == found.text
    assert found.seconds == pytest.approx(2.0 * wanted / len(tokens)) and found.usage.prompt == 3
