"""What a problem no longer needs stops on the server: seen in a real vLLM replica's own counts, at both paces."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from scripted_classifier import ScriptedClassifier

from tandem.config import Pace, Settings
from tandem.insight import answer_messages
from tandem.ladder import parse_ladder
from tandem.models.base import Model, Request
from tandem.models.fake import FakeModel, Rule, Script
from tandem.models.vllm import metrics
from tandem.models.vllm.command import Serve
from tandem.models.vllm.metrics import ReplicaMetrics
from tandem.models.vllm.model import PooledModel
from tandem.models.vllm.placement import Place
from tandem.models.vllm.pool import Pool
from tandem.spec import ModelSpec
from tandem.strategies import Context, make_strategy
from tandem.sufficiency.policy import Policy, PolicyCard
from tandem.types import Decision, InsightDelta, Problem, Solution

pytestmark = [pytest.mark.vllm, pytest.mark.weights, pytest.mark.timeout(900)]

LONG = 4000  # tokens that are allowed: half a minute or more of writing
EARLY = LONG // 2  # what was aborted ends before (how long an abort takes is the machine's affair), other answers after
PROBLEM = Problem.from_text(
    "List every whole number from 1 to 300 as an English word, each with its square and its cube.", id="p", task="math"
)
NOTES = "Goal: " + " ".join(f"note{i}" for i in range(400))


class Watched:
    """One replica with the model, and its own page of counts."""

    def __init__(self, model: PooledModel, url: str) -> None:
        self.model = model
        self._url = url

    async def look(self) -> ReplicaMetrics:
        async with httpx.AsyncClient(timeout=60) as client:
            look = await metrics.read(client, self._url)
        assert look is not None and look.running is not None and look.generated is not None
        return look

    async def written(self) -> float:
        """Return the tokens written since its start."""
        return (await self.look()).generated or 0.0

    async def until_running(self, requests: int) -> None:
        """Wait until so many requests run there."""
        async with asyncio.timeout(180):
            while (await self.look()).running != requests:  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    async def until_still(self, before: float) -> None:
        """Wait until nothing runs; see that it ended early since `before`, and that nothing is written any more."""
        await self.until_running(0)
        written = await self.written()
        assert written - before < EARLY
        await asyncio.sleep(2)
        assert await self.written() == written


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def replica(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Watched]:
    cores = tuple(sorted(os.sched_getaffinity(0)))
    serve = Serve(str(smollm2), "smollm2", context=8192, kv_cache_gib=1)
    pool = Pool(serve, [Place(0, cores=cores[-1:])], tmp_path_factory.mktemp("pool"))
    await pool.start()
    model = PooledModel(
        ModelSpec(name="smollm2", vocabulary=49_152, insight_mode="prefix"), pool.urls, tokenizer_path=smollm2
    )
    await model.probe()
    yield Watched(model, pool.urls[0])
    await model.aclose()
    await pool.aclose()


def context(mentor: Model, intern: Model, ladder: str, by_level: Mapping[str, float], pace: Pace) -> Context:
    policy = Policy(ScriptedClassifier(by_level), PolicyCard(thresholds=dict.fromkeys(by_level, 0.5)))
    settings = Settings(pace=pace, intern_max_tokens=LONG)
    return Context(PROBLEM, "tandem", mentor, intern, settings, parse_ladder(ladder), policy, draft_tokens=16)


@pytest.mark.asyncio(loop_scope="module")
async def test_what_is_cut_here_would_have_been_long(replica: Watched) -> None:
    request = Request(answer_messages(PROBLEM), "answer", EARLY)  # the insight's prompt too, and the draft's
    assert (await replica.model.complete(request)).tokens == EARLY


@pytest.mark.asyncio(loop_scope="module")
async def test_an_eager_mentor_stops_when_its_insight_suffices(replica: Watched) -> None:
    ctx = context(replica.model, FakeModel(), f"low=20,high={LONG}", {"low": 0.9, "high": 0.9}, "eager")
    before = await replica.written()
    events = [event async for event in make_strategy("tandem").run(ctx)]
    await replica.until_still(before)
    solution = events[-1]
    assert isinstance(solution, Solution) and solution.level == "low"
    (insight,) = solution.ledger.select("mentor")
    assert insight.usage.source == "counted" and insight.usage.completion_bound == LONG  # cut, and not ended
    assert 20 <= insight.usage.completion < EARLY


@pytest.mark.asyncio(loop_scope="module")
async def test_a_discarded_draft_stops_while_the_mentor_goes_on(replica: Watched) -> None:
    mentor = FakeModel(Script(rules=(Rule(text=NOTES, purpose="insight"),), token_seconds=0.05))
    ctx = context(mentor, replica.model, "none,high=300", {"none": 0.1, "high": 0.9}, "eager")
    before = await replica.written()
    async with aclosing(make_strategy("tandem").run(ctx)) as events:
        async for event in events:
            if isinstance(event, Decision):
                await replica.until_running(1)  # the draft is judged, and its stream goes on
                break
        assert isinstance(await anext(events), InsightDelta)  # of the next level: the draft is discarded
        await replica.until_still(before)
        (probe,) = ctx.ledger.select("intern")
        assert probe.purpose == "probe" and 16 <= probe.usage.completion < EARLY


@pytest.mark.asyncio(loop_scope="module")
async def test_a_thrifty_mentor_writes_nothing_between_levels_and_stops_with_its_reader(replica: Watched) -> None:
    ctx = context(replica.model, FakeModel(), f"low=20,high={LONG}", {"low": 0.1, "high": 0.9}, "thrifty")
    before = await replica.written()
    async with aclosing(make_strategy("tandem").run(ctx)) as events:
        async for event in events:
            if isinstance(event, Decision):
                await replica.until_still(before)  # between levels
                assert await replica.written() - before == 20
                break
        before = await replica.written()
        # Not its first text: that may be held back, as long as it may become a header, until the mentor has ended.
        reading = asyncio.ensure_future(anext(events))
        await replica.until_running(1)
        reading.cancel()  # whoever asked has left
        await asyncio.wait({reading})
    await replica.until_still(before)
