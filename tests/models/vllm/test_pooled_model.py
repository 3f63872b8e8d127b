"""PooledModel over several real HTTP servers that die in the middle, come back, differ, or fall silent."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from stub import Chaos, Reply, Seen, Stub
from stub.chaos import LASTING

from tandem.errors import EndpointError, UsageError
from tandem.ledger import Entry, Ledger, Usage
from tandem.models.base import Model, Request
from tandem.models.call import Call
from tandem.models.vllm.model import PooledModel
from tandem.models.vllm.routing import ranked
from tandem.spec import Continuation, ModelSpec, Prices
from tandem.types import Message, Sampling

SPEC = ModelSpec(name="stub", vocabulary=50_000, local=False, prices=Prices(input=1, output=2))
NATIVE = SPEC.model_copy(update={"continuation": Continuation.NATIVE})
WORDS = tuple(f" w{i}" for i in range(10))


class Mortal(Stub):
    """A server that can die, with a TCP reset for everybody who is connected, and start again at its port."""

    async def __aenter__(self) -> Mortal:
        self.writers: list[asyncio.StreamWriter] = []
        await super().__aenter__()
        return self

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        await super()._accept(reader, writer)

    async def die(self) -> None:
        self._server.close()
        for writer in self.writers:
            connection = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        await self.__aexit__(None, None, None)


@pytest.fixture(autouse=True)
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANDEM_HOME", str(tmp_path))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setattr("tandem.models.openai.errors.FIRST_PAUSE", 0.01)
    monkeypatch.setattr("tandem.models.vllm.balancer.FIRST_PAUSE", 0.02)


@pytest.fixture
async def stubs() -> AsyncIterator[list[Mortal]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(Mortal(Reply(tokens=WORDS))) for _ in range(3)]


@contextlib.asynccontextmanager
async def pool_of(stubs: list[Mortal], spec: ModelSpec = NATIVE, **options: Any) -> AsyncIterator[PooledModel]:
    model = PooledModel(spec, [stub.url for stub in stubs], **({"timeout": 60.0} | options))
    try:
        yield model
    finally:
        await model.aclose()


def ask(question: str = "Say ten words.", **changes: Any) -> Request:
    fields: dict[str, Any] = {"messages": (Message(role="user", content=question),), "purpose": "answer"}
    return Request(**({"max_tokens": 64, "affinity": question} | fields | changes))


async def call(model: PooledModel, request: Request) -> tuple[Call, list[Entry]]:
    """Make one call to its end; return it with its ledger."""
    made = Call(model, request, "intern", ledger := Ledger())
    await read(made)
    return made, ledger.entries


async def read(made: Call) -> None:
    async with made:
        async for _ in made:
            pass


def home_of(question: str, stubs: list[Mortal]) -> Mortal:
    first = ranked(question, [stub.url for stub in stubs])[0]
    return next(stub for stub in stubs if stub.url == first)


def served(stubs: list[Mortal]) -> dict[str, list[Seen]]:
    """The chats of each question in order of arrival, wherever they arrived."""
    by_question: dict[str, list[Seen]] = defaultdict(list)
    for seen in sorted((seen for stub in stubs for seen in stub.chats), key=lambda seen: seen.at):
        by_question[seen.body["messages"][0]["content"]].append(seen)
    return by_question


def agree(entries: list[Entry], chats: list[Seen]) -> None:
    """Hold the entries of one question against its requests, each against each."""
    sent = [e for e in entries if "cannot reach" not in (e.error or "")]
    for entry, seen in zip(sent, chats, strict=True):
        late = "sent nothing" in (entry.error or "")  # on a machine that has much to do a good answer may come too late
        assert late or bool(entry.error) == (seen.ended != "whole")
        if seen.ended == "whole" and not late:
            assert (entry.usage.prompt, entry.usage.completion) == (seen.billed_prompt, seen.billed_completion)
        else:
            assert entry.usage.completion <= seen.billed_completion <= entry.usage.worst
            assert seen.billed_prompt <= entry.usage.worst_prompt
    assert all(e.usage == Usage() for e in entries if e not in sent)


# Routing


async def test_it_is_a_model(stubs: list[Mortal]) -> None:
    async with pool_of(stubs) as model:
        assert isinstance(model, Model)
        assert all(str(stub.port) in model.address for stub in stubs)
        assert (await model.complete(ask())).text == "".join(WORDS)
    async with pool_of(stubs, address="pool of my own") as model:
        assert model.address == "pool of my own"


async def test_the_levels_of_a_problem_meet_one_replica_and_problems_are_spread(stubs: list[Mortal]) -> None:
    async with pool_of(stubs) as model:

        async def solve(name: str) -> None:
            for level in range(4):
                await model.complete(ask(f"{name} {level}", affinity=name))

        await asyncio.gather(*(solve(f"problem {i}") for i in range(2)))
        for i in range(2, 30):
            await solve(f"problem {i}")
    places: dict[str, set[int]] = defaultdict(set)
    for stub in stubs:
        for seen in stub.chats:
            places[seen.body["messages"][0]["content"].rpartition(" ")[0]].add(stub.port)
        assert len(stub.chats) >= 12
    assert len(places) == 30
    assert {len(ports) for ports in places.values()} == {1}


async def test_no_replica_gets_much_more_than_the_mean(stubs: list[Mortal]) -> None:
    for stub in stubs:
        stub.default = Reply(tokens=WORDS, first_delay=600.0)
    async with pool_of(stubs, timeout=600.0) as model:
        calls = [asyncio.create_task(model.complete(ask(affinity="the same"))) for _ in range(24)]
        await stubs[0].until(lambda: sum(stub.in_flight for stub in stubs) == 24)
        # ceil(1.25 x 24 / 3) where all belong to one
        assert max(stub.in_flight for stub in stubs) == 10
        assert sum(model.loads.values()) == 24
        for made in calls:
            made.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        assert set(model.loads.values()) == {0}


async def test_closing_a_stream_aborts_it_at_its_replica(stubs: list[Mortal]) -> None:
    for stub in stubs:
        stub.default = Reply(tokens=WORDS * 100, token_delay=0.01)
    async with pool_of(stubs) as model:
        async with aclosing(model.stream(ask())) as stream:
            await anext(stream)
            assert sum(model.loads.values()) == 1
        home = home_of("Say ten words.", stubs)
        await home.until(lambda: home.chats[0].disconnected)
        assert set(model.loads.values()) == {0}


# A replica dies


@pytest.mark.slow
@pytest.mark.parametrize("spec", [NATIVE, SPEC], ids=["continues", "writes again"])
async def test_a_death_amid_forty_requests_loses_nothing(stubs: list[Mortal], spec: ModelSpec) -> None:
    chaos = Chaos(0.0)  # an answer of its own for each question, and no faults
    for stub in stubs:
        stub.respond = lambda body: _slowly(chaos(body))
    questions = [f"Question {i}" for i in range(40)]
    async with pool_of(stubs, spec, timeout=30.0) as model:
        dying = stubs[1]
        part = {question: i % 8 for i, question in enumerate(questions)}
        # It writes a part of each answer, at times nothing, and then waits: none ends there before it dies.
        dying.respond = lambda body: replace(chaos(body), fault="stall", fault_after=part[_question(body)])
        calls = {q: asyncio.create_task(call(model, ask(q))) for q in questions}
        await dying.until(
            lambda: (
                sum(len(stub.chats) for stub in stubs) == len(questions)
                and all(s.sent == part[_question(s.body)] for s in dying.chats)
            ),
            seconds=30.0,
        )
        await asyncio.sleep(0.02)  # what was sent arrives
        struck = {_question(s.body) for s in dying.chats}
        await dying.die()
        dying.respond = chaos
        await asyncio.gather(*calls.values())
        chats = served(stubs)
        for question, task in calls.items():
            made, entries = task.result()
            assert made.text == "".join(chaos.answer(question))
            assert made.finish_reason == "stop"
            assert sum(e.error is None for e in entries) == 1
            assert any(e.error for e in entries) == (question in struck)
            agree(entries, chats[question])
            if spec is NATIVE:  # nothing is written twice
                assert sum(e.usage.completion for e in entries) == made.tokens
        assert len(struck) > 5
        assert set(model.loads.values()) == {0}
        # It comes back at its port, and is used again.
        before = len(dying.chats)
        async with dying:
            async with asyncio.timeout(60):
                while len(dying.chats) == before:
                    await asyncio.gather(*(model.complete(ask(f"Later {i}")) for i in range(10)))


def _question(body: dict[str, Any]) -> str:
    return str(body["messages"][0]["content"])


def _slowly(reply: Reply) -> Reply:
    return Reply(tokens=reply.tokens, token_delay=0.01, prompt_tokens=reply.prompt_tokens)


STALL = pytest.param("stall", marks=pytest.mark.slow)  # it is silent for seconds


@pytest.mark.parametrize("fault", ["reset", "cut", STALL, "half-json", "error-event"])
async def test_a_broken_stream_goes_on_elsewhere(stubs: list[Mortal], fault: Any) -> None:
    home = home_of("Say ten words.", stubs)
    home.script(Reply(tokens=WORDS, fault=fault, fault_after=4))
    for stub in stubs:
        stub.default = Reply(tokens=WORDS, continuation=WORDS[4:])
    async with pool_of(stubs, timeout=3.0 if fault == "stall" else 60.0) as model:
        made, entries = await call(model, ask())
    assert made.text == "".join(WORDS)
    assert [bool(e.error) for e in entries] == [True, False]
    assert [e.usage.completion for e in entries] == [4, 6]
    assert len(home.chats) == 1
    (other,) = [seen for stub in stubs if stub is not home for seen in stub.chats]
    assert other.body["messages"][-1] == {"role": "assistant", "content": "".join(WORDS[:4])}
    assert other.body["max_tokens"] == 60


async def test_one_broken_stream_costs_a_replica_nothing_but_a_check(stubs: list[Mortal]) -> None:
    home = home_of("Say ten words.", stubs)
    home.script(Reply(tokens=WORDS, fault="reset", fault_after=4))
    async with pool_of(stubs, SPEC) as model:
        await model.complete(ask())
        await home.until(lambda: any(seen.path.endswith("/models") for seen in home.seen))
        other = next(f"q{i}" for i in range(100) if home_of(f"q{i}", stubs) is home)
        await home.until(lambda: model.states[home.url][0])
        await model.complete(ask(other))
    assert len(home.chats) == 2


async def test_a_busy_replica_is_waited_for(stubs: list[Mortal]) -> None:
    home = home_of("Say ten words.", stubs)
    home.script(Reply(status=429, headers=(("retry-after-ms", "1"),)))
    async with pool_of(stubs) as model:
        _, entries = await call(model, ask())
    assert [e.usage.completion for e in entries] == [0, 10]
    assert [len(stub.chats) for stub in stubs if stub is not home] == [0, 0]


async def test_a_failing_server_is_left_for_another(stubs: list[Mortal]) -> None:
    home = home_of("Say ten words.", stubs)
    home.default = Reply(status=500)
    async with pool_of(stubs) as model:
        _, entries = await call(model, ask())
    assert (len(home.chats), len(entries)) == (1, 2)


async def test_a_request_that_nobody_can_answer_is_not_sent_around(stubs: list[Mortal]) -> None:
    for stub in stubs:
        stub.default = Reply(status=400, error="This model's maximum context length is 2048 tokens")
    async with pool_of(stubs) as model:
        with pytest.raises(EndpointError, match="the prompt is too long"):
            await model.complete(ask())
    assert sum(len(stub.chats) for stub in stubs) == 1


async def test_a_request_that_breaks_every_replica_ends(stubs: list[Mortal]) -> None:
    for stub in stubs:
        stub.default = Reply(tokens=WORDS, fault="reset")
    async with pool_of(stubs, retries=1) as model:
        ledger = Ledger()
        with pytest.raises(EndpointError, match="broke the connection"):
            async with Call(model, ask(), "intern", ledger) as made:
                async for _ in made:
                    pass
    assert len(ledger.entries) == sum(len(stub.chats) for stub in stubs) == 5
    assert {e.usage.source for e in ledger} == {"bound"}


async def test_text_drawn_by_chance_is_not_mixed(stubs: list[Mortal]) -> None:
    home_of("Say ten words.", stubs).script(Reply(tokens=WORDS, fault="cut", fault_after=4))
    async with pool_of(stubs, SPEC) as model:
        with pytest.raises(EndpointError, match="the stream was cut after 4 tokens"):
            await model.complete(ask(sampling=Sampling(temperature=0.7)))
    assert sum(len(stub.chats) for stub in stubs) == 1


# All are down, one is restarted


async def test_all_down_is_one_clear_error_that_may_be_tried_again(
    stubs: list[Mortal], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tandem.models.vllm.balancer.GRACE", 0.2)
    async with pool_of(stubs) as model:
        for stub in stubs:
            await stub.die()
        ledger = Ledger()
        with pytest.raises(EndpointError, match=r"none of the 3 replicas is up: .*is the server running") as caught:
            async with Call(model, ask(), "intern", ledger) as made:
                async for _ in made:
                    pass
        assert caught.value.retryable
        assert all(stub.url in str(caught.value) for stub in stubs)
        assert all(e.usage == Usage() for e in ledger)


async def test_a_restart_is_waited_for(stubs: list[Mortal], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tandem.models.vllm.balancer.GRACE", 0.0)
    one = stubs[:1]
    async with pool_of(one, patience=600.0) as model:
        await model.complete(ask())
        await one[0].die()
        model.set_up(one[0].url, False)
        waiting = [asyncio.create_task(model.complete(ask(f"q{i}"))) for i in range(5)]
        await asyncio.sleep(0.3)
        assert not any(task.done() for task in waiting)
        async with one[0]:
            model.set_up(one[0].url, True)
            began = time.monotonic()
            assert {done.text for done in await asyncio.gather(*waiting)} == {"".join(WORDS)}
            assert time.monotonic() - began < 60
        with pytest.raises(UsageError, match="no replica of this pool"):
            model.set_up("http://127.0.0.1:1/v1", True)


async def test_patience_has_an_end(stubs: list[Mortal]) -> None:
    async with pool_of(stubs, patience=0.2) as model:
        for stub in stubs:
            model.set_up(stub.url, False)
        with pytest.raises(EndpointError, match=r"it is being restarted \(waited 0.2 s\)"):
            await model.complete(ask())
    assert not any(stub.seen for stub in stubs)


async def test_calls_leave_a_replica_that_fell_silent(stubs: list[Mortal]) -> None:
    home = home_of("Say ten words.", stubs)
    home.script(Reply(tokens=WORDS, fault="stall", fault_after=4))
    async with pool_of(stubs, SPEC, timeout=600.0) as model:
        made = Call(model, ask(), "intern", ledger := Ledger())
        going = asyncio.create_task(read(made))
        await home.until(lambda: made.tokens == 4)
        model.set_up(home.url, False)
        await asyncio.wait_for(going, 60)
        assert made.text == "".join(WORDS)
        assert [e.usage.completion for e in ledger] == [4, 10]
        model.set_up(home.url, True)
        other = next(f"q{i}" for i in range(100) if home_of(f"q{i}", stubs) is home)
        assert (await model.complete(ask(other))).text == "".join(WORDS)
    assert len(home.chats) == 2


async def test_a_replica_that_comes_back_at_another_url(stubs: list[Mortal]) -> None:
    first, second, third = stubs
    first.script(Reply(tokens=WORDS, fault="stall", fault_after=4))
    async with pool_of([first], SPEC, timeout=600.0) as model:
        going = asyncio.create_task(call(model, ask()))
        await first.until(lambda: bool(first.chats) and first.chats[0].sent == 4)
        model.set_up(first.url, False)
        model.replace_url(first.url, second.url)
        model.set_up(second.url, True)
        made, _ = await asyncio.wait_for(going, 60)
        assert made.text == "".join(WORDS) and list(model.loads) == [second.url]
        with pytest.raises(UsageError, match="no replica of this pool"):
            model.replace_url(first.url, third.url)
        with pytest.raises(UsageError, match="already"):
            model.replace_url(second.url, second.url)
        assert (await model.complete(ask("another"))).text == "".join(WORDS)
    assert [len(stub.chats) for stub in stubs] == [1, 2, 0]


async def test_when_all_replicas_are_given_up_nobody_waits(stubs: list[Mortal]) -> None:
    for stub in stubs:
        stub.default = Reply(tokens=WORDS, fault="stall", fault_after=4)
    async with pool_of(stubs, patience=600.0, timeout=60.0) as model, asyncio.timeout(20):
        open_calls = [asyncio.create_task(call(model, ask(f"q{i}"))) for i in range(6)]
        while sum(len(stub.chats) for stub in stubs) < len(open_calls):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        for stub in stubs[1:]:
            model.give_up(stub.url, "given up after 6 crashes: the card fell off the bus")
        # Theirs go on at the one that is left.
        while len(stubs[0].chats) < len(open_calls):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        stubs[0].default = Reply(tokens=WORDS)
        assert (await model.complete(ask("another"))).text == "".join(WORDS)
        model.set_up(stubs[0].url, False)
        model.give_up(stubs[0].url, "given up after 6 crashes: the card melted")
        for made in [*open_calls, asyncio.create_task(call(model, ask("late")))]:
            with pytest.raises(EndpointError, match=r"none of the 3 replicas is up: .*melted.*fell off") as caught:
                await made
            assert not caught.value.retryable
        with pytest.raises(UsageError, match="no replica of this pool"):
            model.give_up("http://elsewhere/v1", "")


async def test_closing_the_pool_ends_the_wait(stubs: list[Mortal]) -> None:
    async with pool_of(stubs[:1]) as model:
        model.set_up(stubs[0].url, False)
        waiting = asyncio.create_task(model.complete(ask()))
        await asyncio.sleep(0.02)
        await model.aclose()
        with pytest.raises(EndpointError, match="the pool was closed"):
            await asyncio.wait_for(waiting, 5)


# The probe


def card(context: int, name: str = "stub", **more: Any) -> list[dict[str, Any]]:
    return [{"id": name, "object": "model", "max_model_len": context, **more}]


async def test_the_probe_completes_the_spec_for_all(stubs: list[Mortal]) -> None:
    for stub in stubs:
        stub.models = card(2048)
        stub.default = Reply(tokens=WORDS, continuation=(", 10", ", 11"))
    async with pool_of(stubs, SPEC) as model:
        spec = await model.probe()
        assert (spec.context, spec.continuation, spec.logprobs) == (2048, Continuation.NATIVE, True)
        assert model.spec == spec
        assert (await model.complete(ask(prefix="1, 2"))).text == ", 10, 11"


@pytest.mark.parametrize(
    ("models", "said"),
    [
        (card(2048, "another"), r"replicas of different models in one pool: .* serves no model 'stub': .*another"),
        (card(4096), r"different models in one pool: .* 'stub' with context 2048, .* with 4096"),
    ],
)
async def test_replicas_that_differ_are_refused(stubs: list[Mortal], models: list[dict[str, Any]], said: str) -> None:
    for stub in stubs:
        stub.models = card(2048)
    stubs[1].models = models
    async with pool_of(stubs) as model:
        with pytest.raises(EndpointError, match=said) as caught:
            await model.probe()
        assert str(stubs[1].port) in str(caught.value)
        assert not caught.value.retryable


@pytest.mark.parametrize(
    ("roots", "differ"),
    [
        (("/a/qwen-0.5b", "/b/qwen-0.5b/", "/c/qwen-0.5b"), False),
        (("org/Qwen-0.5B", "/hub/models--org--Qwen-0.5B/snapshots/12ab", "/w/qwen-0.5b"), False),
        (("/a/qwen-0.5b", "stub", None), False),  # two that do not say
        (("/a/qwen-0.5b", "/a/qwen-0.5b", "/a/qwen-1.5b"), True),
        (("org/base", "org/base-instruct", None), True),
    ],
)
async def test_different_weights_behind_one_name_are_refused(
    stubs: list[Mortal], roots: tuple[str | None, ...], differ: bool
) -> None:
    for stub, root in zip(stubs, roots, strict=True):
        stub.models = card(2048, root=root) if root else card(2048)
    async with pool_of(stubs) as model:
        if not differ:
            await model.probe()
            return
        with pytest.raises(
            EndpointError, match=r"one pool: behind 'stub', http://\S+ has the weights .*, http"
        ) as caught:
            await model.probe()
        names = [root.rpartition("/")[2] for root in roots if root]
        assert all(f" {name}" in str(caught.value) for name in names) and not caught.value.retryable


async def test_a_replica_that_is_down_at_the_start_may_come_later_if_it_is_the_same(stubs: list[Mortal]) -> None:
    for stub in stubs:
        stub.models = card(2048)
    late = stubs[2]
    await late.die()
    mine = next(f"q{i}" for i in range(100) if home_of(f"q{i}", stubs) is late)
    async with pool_of(stubs) as model:
        assert (await model.probe()).context == 2048
        await model.complete(ask(mine))
        late.models = card(4096)
        async with late:
            await late.until(lambda: any(seen.path.endswith("/models") for seen in late.seen))
            for i in range(30):
                await model.complete(ask(f"early {i}"))
                await asyncio.sleep(0.005)
            assert not late.chats
            late.models = card(2048)
            async with asyncio.timeout(60):
                more = count()
                while not late.chats:
                    await model.complete(ask(f"{mine} {next(more)}"))
                    await asyncio.sleep(0.01)


@pytest.mark.parametrize("urls", [[], ["http://a/v1", "http://a/v1/"]])
def test_a_pool_has_endpoints_and_each_once(urls: list[str]) -> None:
    with pytest.raises(UsageError, match="each named once"):
        PooledModel(SPEC, urls)


# Everything at once


@pytest.mark.slow
@pytest.mark.parametrize("spec", [NATIVE, SPEC], ids=["continues", "writes again"])
async def test_nothing_is_lost_in_a_storm_of_faults(
    stubs: list[Mortal], spec: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tandem.models.openai.errors.FIRST_PAUSE", 0.002)
    monkeypatch.setattr("tandem.models.vllm.balancer.FIRST_PAUSE", 0.002)
    chaos = Chaos(0.3, seed=4)
    for stub in stubs:
        stub.respond = chaos
    questions = [f"Question {i}: what are the words of number {i}?" for i in range(150)]
    ledgers = {question: Ledger() for question in questions}
    lost: dict[str, EndpointError] = {}
    async with pool_of(stubs, spec, max_in_flight=24, timeout=3.0) as model:

        async def one(question: str) -> None:
            try:
                async with Call(model, ask(question), "mentor", ledgers[question]) as made:
                    async for _ in made:
                        pass
                assert made.text == "".join(chaos.answer(question))
            except EndpointError as error:
                lost[question] = error

        await asyncio.gather(*map(one, questions))
    assert set(lost) == {question for question, fates in chaos.fates.items() if fates[-1] in LASTING}
    chats = served(stubs)
    for question in questions:
        # On a machine that has much to do, a connection may come too late: such a try arrives nowhere and is free.
        entries = [e for e in ledgers[question] if "cannot reach" not in (e.error or "")]
        assert len(entries) == len(chats[question]) == len(chaos.fates[question])
        spent = sum(s.billed_prompt * 1e-6 + s.billed_completion * 2e-6 for s in chats[question])
        assert sum(e.usd_bound or 0 for e in entries) >= spent - 1e-12
