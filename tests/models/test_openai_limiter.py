"""The limit on requests in flight: what it settles at, what it costs to find, and that nobody waits for ever."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stub import Reply, Stub, busy

from tandem.models.base import Request
from tandem.models.openai import OpenAIModel
from tandem.models.openai.limiter import Limiter
from tandem.spec import ModelSpec
from tandem.types import Message

pytestmark = pytest.mark.slow

ASK = Request((Message(role="user", content="Say hello."),), "answer", 50)


@pytest.fixture(autouse=True)
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANDEM_HOME", str(tmp_path))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setattr("tandem.models.openai.errors.FIRST_PAUSE", 0.05)


def model_at(stub: Stub, ceiling: int) -> OpenAIModel:
    return OpenAIModel(ModelSpec(name="stub"), base_url=stub.url, max_in_flight=ceiling)


@pytest.mark.parametrize(
    ("allowed", "beyond"), [(1, busy()), (4, busy()), (4, busy(0.02, "ms")), (12, busy(status=503))]
)
async def test_a_storm_is_weathered(allowed: int, beyond: Reply) -> None:
    """48 at once meet a server that takes `allowed`."""
    async with Stub(Reply(first_delay=0.02), allows=allowed, beyond=beyond) as stub:
        model = model_at(stub, 48)
        answers = await asyncio.gather(*(model.complete(ASK) for _ in range(200)))
        limit = model.endpoint.limiter.limit
        await model.aclose()
    assert {a.text for a in answers} == {"Hello, world!"}
    assert allowed / 2 - 1 <= limit <= allowed + 1
    refused = [s for s in stub.chats if s.status == beyond.status]
    assert len(stub.chats) == 200 + len(refused)
    # Who comes first cannot know; after that the limit is tried again and again, one request at a time.
    assert len(refused) <= 48 - allowed + 200 / 8


async def test_a_request_to_wait_holds_for_all_calls() -> None:
    async with Stub(Reply(first_delay=0.01)) as stub:
        stub.script(busy(0.4, "ms"))
        model = model_at(stub, 2)
        await asyncio.gather(*(model.complete(ASK) for _ in range(6)))
        await model.aclose()
    times = [s.at for s in stub.chats]
    assert len(times) == 7
    assert [t for t in times[2:] if t < times[0] + 0.38] == []  # two were sent at once; the rest waited


async def test_a_wait_of_hours_is_not_imposed_on_others() -> None:
    async with Stub() as stub:
        stub.script(busy(7200))
        model = model_at(stub, 4)
        ends = await asyncio.gather(*(model.complete(ASK) for _ in range(4)), return_exceptions=True)
        await model.aclose()
    assert sorted(type(end).__name__ for end in ends) == ["Completion"] * 3 + ["Failure"]


async def test_the_limit_comes_back_when_the_server_does() -> None:
    async with Stub(Reply(first_delay=0.02), allows=2) as stub:
        model = model_at(stub, 16)
        await asyncio.gather(*(model.complete(ASK) for _ in range(40)))
        low = model.endpoint.limiter.limit
        stub.allows = None
        await asyncio.gather(*(model.complete(ASK) for _ in range(160)))
        await model.aclose()
    assert low <= 3
    assert model.endpoint.limiter.limit == 16


async def test_a_limit_that_is_not_used_is_not_raised() -> None:
    limiter = Limiter(64)
    async with limiter.slot() as slot:
        slot.refused(None)
    for _ in range(100):
        async with limiter.slot() as slot:
            slot.let_in()
    assert limiter.limit == 32


async def test_one_round_halves_once() -> None:
    limiter = Limiter(8)
    slots = [limiter.slot() for _ in range(8)]
    for slot in slots:
        await slot.__aenter__()
    late = asyncio.create_task(limiter.slot().__aenter__())
    for slot in slots[:7]:
        slot.refused(None)
        await slot.__aexit__(None, None, None)
    await asyncio.sleep(0)
    assert limiter.limit == 4
    assert not late.done()  # one of the round is not answered yet
    slots[7].let_in()
    assert limiter.limit == 1  # as many as were served
    await asyncio.sleep(0)
    assert not late.done()
    await slots[7].__aexit__(None, None, None)
    await late


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 40))
def test_nobody_waits_for_ever_and_the_limit_holds(seed: int, ceiling: int, requests: int) -> None:
    draw = random.Random(seed)
    most = 0

    async def one(limiter: Limiter) -> None:
        nonlocal most
        await asyncio.sleep(draw.random() * 0.002)
        async with limiter.slot() as slot:
            most = max(most, limiter.in_flight)
            await asyncio.sleep(draw.random() * 0.001)
            match draw.choice(("let in", "refused", "refused for a time", "broken", "cancelled")):
                case "let in":
                    slot.let_in()
                    await asyncio.sleep(draw.random() * 0.001)
                case "refused":
                    slot.refused(None)
                case "refused for a time":
                    slot.refused(draw.random() * 0.002)
                case "broken":
                    raise OSError
                case _:
                    raise asyncio.CancelledError

    async def all_of_them() -> Limiter:
        limiter = Limiter(ceiling)
        tasks = [asyncio.create_task(one(limiter)) for _ in range(requests)]
        for task in draw.sample(tasks, requests // 4):
            asyncio.get_running_loop().call_later(draw.random() * 0.003, task.cancel)
        await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
        return limiter

    limiter = asyncio.run(all_of_them())
    assert limiter.in_flight == 0
    assert most <= ceiling
    assert 1 <= limiter.limit <= ceiling
