"""Two real vLLM replicas on the CPU: what they give, what their caches know, and one of them killed among 40 solves."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tandem.config import Serving
from tandem.engine import Tandem
from tandem.errors import TandemError
from tandem.insight import intern_view
from tandem.ladder import parse_ladder
from tandem.ledger import Ledger
from tandem.models.base import Request
from tandem.models.call import Call
from tandem.models.fake import FakeModel
from tandem.models.vllm.command import CPU_BLOCK
from tandem.models.vllm.served import ServedModel
from tandem.spec import Continuation, ModelSpec
from tandem.types import Message, Problem

pytestmark = [pytest.mark.vllm, pytest.mark.weights, pytest.mark.timeout(900)]

BLOCK = CPU_BLOCK
LEVELS = [level for level in parse_ladder("none,low=60,medium=140,high=300") if level.tokens is not None]
INSIGHT = (
    "Goal: find the total.\nPlanning: add what is bought in each of the three shops, then take off what is returned.\n"
    * 12
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool(smollm2: Path) -> AsyncIterator[ServedModel]:
    cores = len(os.sched_getaffinity(0))
    model = ServedModel(
        ModelSpec(name="smollm2", vocabulary=49_152, backend="vllm"),
        smollm2,
        serving=Serving(replicas=min(2, cores), context=2048),
    )
    await model.probe()
    yield model
    sessions = [replica.session for replica in replicas(model)]
    await model.aclose()
    assert not any(of_session(session) for session in sessions)  # shutdown leaves no process


def replicas(model: ServedModel) -> list[Any]:
    assert model._pool is not None
    return model._pool.replicas


def of_session(session: int | None) -> list[int]:
    """Return the processes of a session, by /proc."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if session is not None and fields[3] == str(session) and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


async def until_open(model: ServedModel, url: str, calls: int) -> None:
    """Wait until a replica has so many calls open."""
    assert model._inner is not None
    async with asyncio.timeout(60):
        while model._inner.loads[url] < calls:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def ask(text: str, **changes: Any) -> Request:
    request = Request(messages=(Message(role="user", content=text),), purpose="answer", max_tokens=24)
    return replace(request, **changes)


async def read(model: ServedModel, request: Request) -> Call:
    async with Call(model, request, "intern", Ledger()) as call:
        async for _ in call:
            pass
    return call


@pytest.mark.asyncio(loop_scope="module")
async def test_generation_log_probabilities_and_continuation(pool: ServedModel) -> None:
    assert pool.spec.continuation is Continuation.NATIVE and pool.spec.logprobs and pool.spec.context == 2048
    call = await read(pool, ask("Name three colours.", top_logprobs=20))
    assert call.text and call.tokens == len(call.stats) == 24 and call.finish_reason == "length"
    assert all(stat.logprob <= 0 and stat.entropy >= 0 for stat in call.stats)
    begun = call.text[: len(call.text) // 2]
    rest = await read(pool, ask("Name three colours.", prefix=begun))
    assert rest.text and not rest.text.startswith(begun)


@pytest.mark.asyncio(loop_scope="module")
async def test_text_is_continued_by_ids_as_if_it_had_never_been_cut(pool: ServedModel) -> None:
    assert pool.spec.token_ids
    # An answer without any doubt: a prompt that is read is rounded otherwise than tokens that are written.
    question = "Write the numbers from 1 to 40, separated by commas."
    request = ask(question, purpose="insight", max_tokens=48, affinity="x")
    whole = await read(pool, request)
    cuts = [await read(pool, replace(request, max_tokens=n)) for n in (7, 20, 33)]
    for cut in cuts:
        rest = await read(pool, replace(request, prefix=cut.text, max_tokens=48 - cut.tokens))
        assert (cut.text + rest.text, cut.tokens + rest.tokens) == (whole.text, 48)
        assert cut._usage is not None and rest._usage is not None
        assert rest._usage.prompt == cut._usage.prompt + cut.tokens  # not a token more or less than was written


@pytest.mark.asyncio(loop_scope="module")
async def test_each_level_finds_the_levels_before_it_in_one_replicas_cache(pool: ServedModel) -> None:
    question = "In three shops Ann buys apples, pears and plums for her friends, and returns some of them. " * 6
    problem = Problem.from_text(question + "How many are left?", task="math")
    before = ""
    for level in LEVELS:
        insight = pool.cut(INSIGHT, level.tokens or 0)
        messages, prefix = intern_view(problem, insight)
        call = await read(pool, ask("", messages=messages, prefix=prefix, affinity="one", top_logprobs=5))
        usage = call._usage
        assert usage is not None and usage.source == "reported"
        shared = pool.count("".join(m.content for m in messages)[: len(before)]) if before else 0
        assert usage.cached >= (shared - BLOCK // 4) // BLOCK * BLOCK  # a few tokens at the seam may join otherwise
        assert before == "" or usage.cached > 0
        before = "".join(m.content for m in messages)


@pytest.mark.asyncio(loop_scope="module")
async def test_one_replica_killed_among_forty_solves(pool: ServedModel) -> None:
    problems = [
        Problem.from_text(f"What is {n} plus {n + 1}? Explain each step.", id=f"p{n}", task="math") for n in range(40)
    ]
    tandem = Tandem(FakeModel(), pool, strategy="fixed:low=20", intern_max_tokens=160)
    victim = replicas(pool)[-1]
    killed = False
    ended: Counter[str] = Counter()
    failed: list[str] = []
    async for _, solution in tandem.asolve_many(problems, concurrency=20):
        assert not isinstance(solution, TandemError), solution
        ended[solution.problem_id] += 1
        answers = solution.ledger.select("intern", "answer")
        failed += [entry.error for entry in answers if entry.error]
        assert [entry.error for entry in answers].count(None) == 1  # each once, whatever was tried before
        if not killed:
            await until_open(pool, victim.url, 3)
            os.kill(victim.pid, signal.SIGKILL)
            killed = True
    assert ended == Counter({problem.id: 1 for problem in problems})
    assert len(failed) >= 2  # of those in flight there one may just have ended
    async with asyncio.timeout(400):
        while not all([replica.alive and await replica.healthy(5) for replica in replicas(pool)]):  # noqa: ASYNC110
            await asyncio.sleep(1)
    again = await asyncio.gather(*(read(pool, ask("Hello", affinity=f"a{n}")) for n in range(8)))
    assert all(call.finished for call in again)
