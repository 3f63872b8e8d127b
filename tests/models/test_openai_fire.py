"""An endpoint that fails: every try is reported with what it cost, what can be saved is saved, nothing paid is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from stub import Chaos, Reply, Seen, Stub
from stub.chaos import FAULTS, LASTING

from tandem.errors import EndpointError
from tandem.ledger import Entry, Ledger, Usage
from tandem.models.base import Request
from tandem.models.call import Call
from tandem.models.logprobs import token_stat
from tandem.models.openai import OpenAIModel
from tandem.models.openai.api_keys import ApiKeys
from tandem.models.openai.errors import Failure, Origin
from tandem.models.openai.stream import StreamReader
from tandem.spec import Continuation, ModelSpec, Prices
from tandem.types import Message, Sampling

SPEC = ModelSpec(name="stub", vocabulary=50_000, local=False, prices=Prices(input=1, output=2))
NATIVE = SPEC.model_copy(update={"continuation": Continuation.NATIVE})
WORDS = tuple(f" w{i}" for i in range(10))
QUESTION = "Say ten words."
SOON = (("retry-after-ms", "1"),)


@pytest.fixture(autouse=True)
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANDEM_HOME", str(tmp_path))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setattr("tandem.models.openai.errors.FIRST_PAUSE", 0.01)


@pytest.fixture
async def stub() -> AsyncIterator[Stub]:
    async with Stub(Reply(tokens=WORDS)) as server:
        yield server


def ask(question: str = QUESTION, **changes: Any) -> Request:
    fields: dict[str, Any] = {"messages": (Message(role="user", content=question),), "purpose": "insight"}
    return Request(**({"max_tokens": 64} | fields | changes))


async def call(
    stub: Stub, request: Request, spec: ModelSpec = SPEC, **options: Any
) -> tuple[Call, list[Entry], EndpointError | None]:
    """Make one call; return it with its ledger and the error that ended it, if one did."""
    model = OpenAIModel(spec, base_url=stub.url, **({"timeout": 60.0} | options))
    ledger, error = Ledger(), None
    made = Call(model, request, "mentor", ledger)
    try:
        async with made:
            async for _ in made:
                pass
    except EndpointError as raised:
        error = raised
    await model.aclose()
    return made, ledger.entries, error


# What a failed try costs

CUT = {"source": "counted", "completion_bound": 64}
LOST = {"source": "bound", "prompt_bound": len(QUESTION) + 64, "completion_bound": 64}


@pytest.mark.parametrize(
    ("reply", "usage", "said"),
    [
        (Reply(status=429, headers=SOON), {}, "answered 429"),
        (Reply(status=500), {}, "answered 500"),
        (Reply(status=502), {}, "answered 502"),
        (Reply(status=503, headers=SOON), {}, "answered 503"),
        (Reply(status=504), LOST, "answered 504"),  # the server behind the gateway may have worked
        (Reply(fault="reset"), LOST, "broke the connection"),
        pytest.param(Reply(fault="stall"), LOST, "sent nothing for 2 s", marks=pytest.mark.slow),
        pytest.param(Reply(fault="comments"), LOST, "sent nothing for 2 s", marks=pytest.mark.slow),
        (Reply(fault="cut"), LOST, "sent an empty answer"),
        (Reply(tokens=(), finish=None), {"prompt": 12}, "sent an empty answer"),
        (Reply(tokens=(), finish=None, usage=False), LOST, "sent an empty answer"),
        (Reply(tokens=WORDS, fault="reset", fault_after=3), CUT | {"prompt": 12, "completion": 3}, "after 3 tokens"),
        (Reply(tokens=WORDS, fault="cut", fault_after=3), CUT | {"prompt": 12, "completion": 3}, "ended early"),
        (Reply(tokens=WORDS, fault="half-json", fault_after=3), CUT | {"prompt": 12, "completion": 3}, "broken chunk"),
        (Reply(tokens=WORDS, fault="error-event", fault_after=3), CUT | {"prompt": 12, "completion": 3}, "500"),
        pytest.param(
            Reply(tokens=WORDS, fault="stall", fault_after=3),
            CUT | {"prompt": 12, "completion": 3},
            "sent nothing",
            marks=pytest.mark.slow,
        ),
        (
            Reply(tokens=WORDS, fault="reset", fault_after=3, continuous=False),
            CUT | {"prompt": 4, "prompt_bound": LOST["prompt_bound"], "completion": 3},
            "after 3 tokens",
        ),
        (
            Reply(tokens=WORDS, finish="error", cached_tokens=5),
            {"prompt": 12, "cached": 5, "completion": 10},
            "gave up",
        ),
    ],
)
@pytest.mark.parametrize("last", [False, True], ids=["retried", "the last"])
async def test_a_failed_try_is_in_the_ledger(
    stub: Stub, reply: Reply, usage: dict[str, Any], said: str, last: bool
) -> None:
    stub.script(reply)
    timeout = 2.0 if reply.fault in ("stall", "comments") else 60.0
    made, entries, error = await call(stub, ask(), retries=0 if last else 1, timeout=timeout)
    assert entries[0].usage == Usage(**usage)
    assert said in str(entries[0].error)
    if last:
        assert error is not None
        assert error.retryable
        assert str(error) == entries[0].error
        assert len(entries) == 1
    else:
        assert (error, made.text, made.tokens) == (None, "".join(WORDS), 10)
        assert [e.error for e in entries[1:]] == [None]
        assert entries[1].usage == Usage(prompt=12, completion=10)


@pytest.mark.parametrize(
    ("reply", "usage", "said"),
    [
        (Reply(finish="content_filter", cached_tokens=3), {"prompt": 12, "cached": 3, "completion": 4}, "refused"),
        (Reply(refusal="I cannot.", tokens=()), {"prompt": 12}, "refused"),
        (
            Reply(finish="content_filter", usage=False),
            CUT | {"prompt": 4, "completion": 4, "prompt_bound": 78},
            "refused",
        ),
        (Reply(status=400, error="maximum context length is 8 tokens"), {}, "the prompt is too long for 'stub'"),
        (Reply(status=401), {}, "wants a key"),
    ],
)
async def test_what_no_other_try_can_mend_is_paid_once(
    stub: Stub, reply: Reply, usage: dict[str, Any], said: str
) -> None:
    stub.default = reply
    _, entries, error = await call(stub, ask())
    assert len(stub.chats) == len(entries) == 1
    assert entries[0].usage == Usage(**usage)
    assert said in str(error)
    assert entries[0].error == str(error)


async def test_a_server_that_is_down_costs_nothing() -> None:
    async with Stub() as gone:
        pass
    _, entries, error = await call(gone, ask(), retries=2)
    assert "cannot reach" in str(error)
    assert [e.usage for e in entries] == [Usage()] * 3
    assert all(e.error for e in entries)


async def test_an_answer_whose_end_alone_is_lost_is_an_answer(stub: Stub) -> None:
    # A finish reason came, and then the connection broke.
    reader = StreamReader(Origin("here", "stub", ApiKeys("here")), vocabulary=None, logprobs=False)
    assert list(reader.feed(b'data: {"choices": [{"delta": {}, "finish_reason": "length"}]}\n')) == []
    assert reader.finish(Failure("it broke", retryable=True)) == "length"
    # All tokens came, and no finish reason.
    stub.script(Reply(tokens=WORDS, fault="reset", fault_after=6))
    made, entries, error = await call(stub, ask(max_tokens=6), NATIVE)
    assert (error, made.text, made.finish_reason) == (None, "".join(WORDS[:6]), "length")
    assert entries[0].usage == Usage(prompt=12, completion=6, completion_bound=6, source="counted")
    assert len(stub.chats) == 1


# A stream that is cut


@pytest.mark.parametrize("prefix", [None, " w-1"])
async def test_a_model_that_continues_goes_on_where_it_was_cut(stub: Stub, prefix: str | None) -> None:
    top = tuple((-0.1 * i - 0.1, -3.0) for i in range(10))
    stub.script(
        Reply(tokens=WORDS, top=top, fault="reset", fault_after=4),
        Reply(tokens=WORDS[4:], top=top[4:], fault="cut", fault_after=3),
        Reply(tokens=WORDS[7:], top=top[7:]),
    )
    made, entries, error = await call(stub, ask(prefix=prefix, top_logprobs=2), NATIVE)
    assert (error, made.text, made.tokens) == (None, "".join(WORDS), 10)
    assert made.stats == [token_stat(t[0], t, 50_000) for t in top]
    assert [e.usage.completion for e in entries] == [4, 3, 3]
    assert [s.body["max_tokens"] for s in stub.chats] == [64, 60, 57]
    said = [s.body["messages"][-1] for s in stub.chats[1:]]
    begun = prefix or ""
    assert said == [{"role": "assistant", "content": begun + "".join(WORDS[:n])} for n in (4, 7)]


async def test_a_thinking_block_is_not_opened_or_closed_twice(stub: Stub) -> None:
    stub.script(
        Reply(thinking=("Let", " me", " see."), tokens=("42",), fault="reset", fault_after=2),
        Reply(thinking=(" see.",), tokens=("42",), fault="reset", fault_after=1),
        Reply(tokens=("42", "!"), fault="reset", fault_after=1),
        Reply(tokens=("!",)),
    )
    made, _, error = await call(stub, ask(), NATIVE)
    assert (error, made.text) == (None, "<think>Let me see.</think>42!")
    assert stub.chats[1].body["messages"][-1]["content"] == "<think>Let me"


async def test_a_model_that_does_not_continue_writes_again(stub: Stub) -> None:
    top = tuple((-0.1 * i - 0.1, -3.0) for i in range(10))
    whole = Reply(tokens=WORDS, top=top)
    stub.script(Reply(tokens=WORDS, top=top, fault="cut", fault_after=6))
    stub.script(Reply(tokens=WORDS, top=top, fault="cut", fault_after=2), whole)  # less than was known
    made, entries, error = await call(stub, ask(top_logprobs=2))
    assert (error, made.text, made.tokens) == (None, "".join(WORDS), 10)
    assert made.stats == [token_stat(t[0], t, 50_000) for t in top]  # none is handed out twice
    assert [e.usage.completion for e in entries] == [6, 2, 10]
    assert all("continue_final_message" not in s.body for s in stub.chats)


async def test_a_text_that_differs_the_second_time_is_not_patched_together(stub: Stub) -> None:
    stub.script(Reply(tokens=WORDS, fault="cut", fault_after=4), Reply(tokens=(*WORDS[:2], " else", *WORDS)))
    made, entries, error = await call(stub, ask())
    assert made.text == "".join(WORDS[:4])
    assert "different text" in str(error)
    assert error is not None
    assert error.retryable
    assert [e.usage.completion for e in entries] == [4, 3]  # the second was read up to the difference
    assert len(stub.chats) == 2


async def test_text_drawn_by_chance_is_not_asked_for_again(stub: Stub) -> None:
    stub.script(Reply(tokens=WORDS, fault="cut", fault_after=4))
    _, _, error = await call(stub, ask(sampling=Sampling(temperature=0.7)))
    assert "the stream was cut after 4 tokens" in str(error)
    assert len(stub.chats) == 1
    stub.script(Reply(tokens=WORDS, fault="cut", fault_after=4))
    made, _, error = await call(stub, ask(sampling=Sampling(temperature=0.7, seed=1)))
    assert (error, made.text) == (None, "".join(WORDS))


async def test_a_continuation_that_is_refused_begins_anew(stub: Stub) -> None:
    stub.script(Reply(tokens=WORDS, fault="cut", fault_after=4), Reply(status=400, error="no such final message"))
    made, entries, error = await call(stub, ask(), NATIVE)
    assert (error, made.text) == (None, "".join(WORDS))
    assert [e.usage.completion for e in entries] == [4, 0, 10]
    assert "continue_final_message" not in stub.chats[2].body


async def test_each_cut_uses_up_a_try(stub: Stub) -> None:
    stub.default = Reply(tokens=WORDS, fault="cut", fault_after=1)
    _, entries, error = await call(stub, ask(), NATIVE, retries=2)
    assert "cut after 1 tokens" in str(error)
    assert len(entries) == 3


async def test_what_is_written_once_more_is_told_as_it_comes(stub: Stub) -> None:
    stub.script(Reply(tokens=WORDS, fault="cut", fault_after=6), Reply(tokens=WORDS))
    model = OpenAIModel(SPEC, base_url=stub.url)
    deltas = [delta async for delta in model.stream(ask())]
    await model.aclose()
    at = next(i for i, delta in enumerate(deltas) if delta.failed)
    again = [delta for delta in deltas[at + 1 :] if delta.finish_reason is None]
    # A reader that leaves in the middle can be charged for tokens that it never sees.
    assert [d.usage.completion if d.usage else None for d in again] == list(range(1, 11))
    assert "".join(d.text for d in again) == "".join(WORDS[6:])
    assert {d.usage.worst for d in again if d.usage} == {64}


# Everything at once


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spec", "continuous"),
    [(NATIVE, True), (SPEC, True), (SPEC, False)],
    ids=["continues", "writes again", "writes again, usage at the end"],
)
async def test_nothing_is_lost_in_a_storm_of_faults(
    spec: ModelSpec, continuous: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tandem.models.openai.errors.FIRST_PAUSE", 0.002)
    chaos = Chaos(0.3, seed=4, continuous=continuous)
    questions = [f"Question {i}: what are the words of number {i}? " + "Think. " * (i % 7) for i in range(200)]
    ledgers = {question: Ledger() for question in questions}
    lost: dict[str, EndpointError] = {}
    async with Stub(respond=chaos) as stub:
        model = OpenAIModel(spec, base_url=stub.url, max_in_flight=48, timeout=2.0)

        async def one(question: str) -> None:
            made = Call(model, ask(question), "mentor", ledgers[question])
            try:
                async with made:
                    async for _ in made:
                        pass
                assert made.text == "".join(chaos.answer(question))
                assert made.finish_reason == "stop"
            except EndpointError as error:
                lost[question] = error

        await asyncio.gather(*map(one, questions))
        await model.aclose()
        served: dict[str, list[Seen]] = {question: [] for question in questions}
        for seen in stub.chats:
            served[seen.body["messages"][0]["content"]].append(seen)
    assert set(chaos.struck) == set(FAULTS)
    assert 0.25 < chaos.struck.total() / len(stub.chats) < 0.35
    # Every call that can complete does: only a refusal or an overflow has no other try.
    assert set(lost) == {question for question, fates in chaos.fates.items() if fates[-1] in LASTING}
    paid_and_lost = 0
    for question in questions:
        # On a machine that has much to do, a connection may come too late: such a try arrives nowhere and is free.
        entries = [e for e in ledgers[question] if "cannot reach" not in (e.error or "")]
        fates = chaos.fates[question]
        for entry, fate, seen in zip(entries, fates, served[question], strict=True):
            # On a machine that has much to do, a good request may come too late.
            assert bool(entry.error) == bool(fate) or "sent nothing" in str(entry.error)
            agree(entry, seen, prompt_is_reported=continuous)
        paid_and_lost += sum(e.usage.completion for e in entries if e.error and e.usage.source == "reported")
    assert paid_and_lost > 0  # refusals
    every = [e for ledger in ledgers.values() for e in ledger]
    spent = sum(s.billed_prompt * 1e-6 + s.billed_completion * 2e-6 for s in stub.chats)
    assert sum(e.usd_bound or 0 for e in every) >= spent


def agree(entry: Entry, seen: Seen, *, prompt_is_reported: bool) -> None:
    """Hold the ledger's entry of one request against what the server bills for it."""
    usage, billed = entry.usage, (seen.billed_prompt, seen.billed_completion)
    if seen.ended == "refused":
        assert usage == Usage()
    elif seen.ended == "whole" and "sent nothing" not in (entry.error or ""):  # else it was whole, and too late
        assert (usage.prompt, usage.completion, usage.source) == (*billed, "reported")
        assert (usage.worst_prompt, usage.worst) == billed
    else:
        assert usage.completion <= billed[1] <= usage.worst
        assert billed[0] <= usage.worst_prompt
        if prompt_is_reported:
            assert usage.prompt <= billed[0]
