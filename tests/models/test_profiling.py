"""Measuring a speed profile: on a server whose clock is scripted, over HTTP, and in process on real weights."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stub.reply import Reply
from stub.server import Stub

from tandem.errors import TandemError, UsageError
from tandem.ledger import Usage
from tandem.models.base import Attempt, Delta, Model, Request
from tandem.models.devices import Hardware, hardware_of
from tandem.models.openai import OpenAIModel
from tandem.models.profiles import KeptProfile
from tandem.models.profiling import Load, measure
from tandem.models.transformers import TransformersModel
from tandem.models.vllm import state
from tandem.models.vllm.model import PooledModel
from tandem.spec import ModelSpec


class Clockwork(Model):
    """A model on one device whose own clock says what every token takes; its prefix cache is exact."""

    def __init__(
        self,
        uncached: float,
        cached: float,
        written: float,
        *,
        cache: bool = True,
        says: bool = True,
        stops: int = 9999,
    ) -> None:
        self.spec = ModelSpec(name="clockwork")
        self.address = "nowhere"
        self.now = 0.0
        self.calls: list[Request] = []
        self.fails = 0
        self.open = self.most = 0
        self._rates = uncached, cached, written
        self._seen: set[str] = set()
        self._cache, self._says, self._stops = cache, says, stops

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        self.calls.append(request)
        self.open += 1
        self.most = max(self.most, self.open)
        await asyncio.sleep(0)  # the others of the burst come in
        self.open -= 1
        text = request.messages[-1].content
        prompt, written = self.count(text), min(request.max_tokens, self._stops)
        cached = prompt - 1 if self._cache and text in self._seen else 0
        self._seen.add(text)
        uncached, again, each = self._rates
        self.now += (prompt - cached) * uncached + cached * again + written * each
        if self.fails:
            self.fails -= 1
            yield Delta(failed=Attempt("a hiccup", Usage(), 0.1))
        finish = "length" if written == request.max_tokens else "stop"
        usage = Usage(prompt=prompt, cached=cached if self._says else 0, completion=written)
        yield Delta("1 " * written, written, finish_reason=finish, usage=usage)  # type: ignore[arg-type]

    def count(self, text: str) -> int:
        return len(text.split())

    def cut(self, text: str, tokens: int) -> str:
        return " ".join(text.split()[:tokens])

    async def probe(self) -> ModelSpec:
        return self.spec

    async def aclose(self) -> None:
        pass

    async def measured(self, load: Load, seconds: float = 60.0, devices: float = 1) -> tuple[KeptProfile, list[str]]:
        here = Hardware("nowhere", "a clock", devices, clock=lambda: self.now)
        return await measure(self, load, lambda: here, seconds=seconds, seed=1)


RATE = st.floats(1e-6, 1e-2)


@settings(max_examples=15)
@given(
    uncached=RATE,
    share=st.floats(0, 1),
    ratio=st.floats(0.5, 60),
    at_once=st.integers(1, 32),
    devices=st.integers(1, 8),
)
async def test_the_rates_of_a_clock_are_found(
    uncached: float, share: float, ratio: float, at_once: int, devices: int
) -> None:
    model = Clockwork(uncached, uncached * share, uncached * ratio)
    kept, notes = await model.measured(Load(at_once, 32, 8), devices=devices)
    its = kept.profile
    assert its.uncached == pytest.approx(devices * uncached, rel=1e-6)
    assert its.cached == pytest.approx(devices * uncached * share, rel=1e-6, abs=1e-12)
    assert its.written == pytest.approx(devices * uncached * ratio, rel=1e-6)
    assert model.most == at_once == its.concurrency and notes == []
    assert 2 <= len(kept.cycles) <= 25
    wide = kept.spread("written")
    assert wide is not None and wide < 1e-6


async def test_a_quick_device_gets_whole_lengths_and_many_cycles_a_slow_one_shorter_ones() -> None:
    quick, _ = await Clockwork(1e-5, 1e-7, 1e-4).measured(Load(8))
    assert (quick.profile.prompt_tokens, quick.profile.completion_tokens, len(quick.cycles)) == (512, 128, 25)
    slow = Clockwork(5e-3, 1e-4, 4e-2)
    kept, _ = await slow.measured(Load(8))
    assert kept.profile.prompt_tokens < 512 and kept.profile.completion_tokens < 128
    assert slow.now < 90 and len(kept.cycles) >= 2
    assert f"8 at once, {kept.profile.prompt_tokens} + {kept.profile.completion_tokens} tokens" == kept.profile.load


async def test_lengths_that_are_named_stay_and_there_are_two_cycles() -> None:
    kept, _ = await Clockwork(5e-3, 1e-4, 4e-2).measured(Load(8, 300, 100), seconds=10)
    assert (kept.profile.prompt_tokens, kept.profile.completion_tokens, len(kept.cycles)) == (300, 100, 2)


async def test_no_two_prompts_are_the_same_but_those_that_are_to_be() -> None:
    model = Clockwork(1e-4, 1e-6, 1e-3)
    await model.measured(Load(4, 64, 16))
    once = [request.messages[-1].content for request in model.calls if request.max_tokens == 1]
    fresh = {text.split("\n")[0] for text in once}
    assert len(fresh) == len(once) // 2  # each twice
    assert len({" ".join(text.split()[:6]) for text in fresh}) == len(fresh)


async def test_without_a_prefix_cache_a_cached_token_costs_what_an_uncached_one_does() -> None:
    kept, (note,) = await Clockwork(1e-4, 1e-6, 1e-3, cache=False).measured(Load(4))
    assert kept.profile.cached == kept.profile.uncached == pytest.approx(1e-4, rel=1e-6)
    assert kept.profile.written == pytest.approx(1e-3, rel=1e-6)
    assert "no cached tokens" in note and "quicker" not in note


async def test_a_cache_that_is_not_reported_is_said_and_does_not_spoil_the_rates() -> None:
    kept, (note,) = await Clockwork(1e-4, 1e-6, 1e-3, says=False).measured(Load(4))
    assert kept.profile.uncached == pytest.approx(1e-4, rel=0.01)
    assert kept.profile.written == pytest.approx(1e-3, rel=1e-6)
    assert "quicker the second time" in note


async def test_answers_that_stop_early_are_asked_for_again_and_counted_as_written() -> None:
    model = Clockwork(1e-4, 1e-6, 1e-3, stops=10)
    kept, _ = await model.measured(Load(4, 64, 32))
    assert kept.profile.written == pytest.approx(1e-3, rel=1e-6)
    assert all(cycle.phases[2]["written"] == 4 * 32 for cycle in kept.cycles)


async def test_a_cycle_with_a_failed_request_is_measured_again_and_a_server_that_keeps_failing_is_an_error() -> None:
    model = Clockwork(1e-4, 1e-6, 1e-3)
    model.fails = 2
    kept, _ = await model.measured(Load(4))
    assert kept.profile.written == pytest.approx(1e-3, rel=1e-6)
    model.fails = 10**9
    with pytest.raises(TandemError, match="keep failing: a hiccup"):
        await model.measured(Load(4))


@pytest.mark.slow
async def test_a_server_over_http_is_measured_by_what_it_reports() -> None:
    def respond(body: dict[str, object]) -> Reply:
        text = str(body["messages"])
        count, again = len(text.split()), text in seen
        seen.add(text)
        cap = int(str(body["max_tokens"]))
        # 2 ms a word that is new, 20 ms a token: far above what a loaded machine takes for itself.
        delay = 0.0 if again else 0.002 * count
        usage = {"prompt_tokens": count, "cached_tokens": count - 1 if again else 0}
        return replace(Reply(), tokens=("7 ",) * cap, first_delay=delay, token_delay=0.02, finish="length", **usage)

    seen: set[str] = set()
    async with Stub(respond=respond) as stub:
        model = OpenAIModel(ModelSpec(name="stub"), base_url=stub.url)
        kept, notes = await measure(model, Load(2, 200, 20), lambda: hardware_of(model, 2), seconds=1)
        await model.aclose()
    its = kept.profile
    assert (its.concurrency, its.devices, its.endpoint) == (2, 2, model.address.rpartition(" ")[0])
    # Two at once on what counts as two devices: each token has its own time.
    assert 0.01 < its.written < 0.06  # a loaded machine is late now and then
    assert 0.001 < its.uncached < 0.008 and its.cached < its.uncached
    assert notes == [] and stub.most_in_flight == 2


def test_the_devices_are_those_of_the_pool_that_serves_an_endpoint(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TANDEM_HOME", str(tmp_path))
    urls = [f"http://127.0.0.1:{port}/v1" for port in (9001, 9002)]

    def pool(*places: str) -> None:
        replicas = [state.ReplicaState(url=u, place=p, log="") for u, p in zip(urls, places, strict=True)]
        me = {"uid": os.getuid(), "host": state.host(), "pid": os.getpid(), "started": state.identity(os.getpid())}
        state.save(state.PoolState(name="mine", model="m", kind="standing", since=0.0, replicas=replicas, **me))

    both, one = PooledModel(ModelSpec(name="m"), urls), OpenAIModel(ModelSpec(name="m"), base_url=urls[0])
    pool("GPU 0,1", "GPU 2,3")
    found = hardware_of(both)
    assert (found.endpoint, found.devices, found.known) == ("vllm", 4, True)
    assert found.device.startswith("4 x ")
    pool("cores 0,1", "cores 2")
    found = hardware_of(both)
    assert (found.endpoint, found.devices) == ("vllm", 1) and found.device.startswith("3 cores of ")
    assert hardware_of(both, 7).devices == 7
    state.remove("mine")
    found = hardware_of(one)
    assert (found.endpoint, found.devices, found.known) == ("127.0.0.1:9001/v1", 1, False)


def test_cpu_time_is_for_cores_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TANDEM_HOME", str(tmp_path))
    model = OpenAIModel(ModelSpec(name="m"), base_url="http://127.0.0.1:9001/v1")
    with pytest.raises(UsageError, match=r"cores of this machine, not for the server at 127\.0\.0\.1:9001/v1"):
        hardware_of(model, cpu_time=True)


def test_the_cpu_time_of_a_pool_is_that_of_its_processes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TANDEM_HOME", str(tmp_path))
    program = "import os, sys\nprint(flush=True)\nsys.stdin.readline()\nwhile sum(os.times()[:2]) < 0.3: pass\n"
    program += "print(flush=True)\nsys.stdin.readline()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    busy = subprocess.Popen([sys.executable, "-c", program], start_new_session=True, **pipes)  # type: ignore[call-overload]
    assert busy.stdin and busy.stdout
    busy.stdout.readline()
    me = {"uid": os.getuid(), "host": state.host(), "pid": os.getpid(), "started": state.identity(os.getpid())}
    # The head of a session is the guard, whose own time does not count: here it is this test's process.
    one = state.ReplicaState(url="http://127.0.0.1:9001/v1", place="cores 0,1", log="", session=os.getpid())
    state.save(state.PoolState(name="mine", model="m", kind="standing", since=0.0, replicas=[one], **me))
    found = hardware_of(OpenAIModel(ModelSpec(name="m"), base_url="http://127.0.0.1:9001/v1"), cpu_time=True)
    before = found.clock()
    busy.stdin.write("\n")
    busy.stdin.flush()
    busy.stdout.readline()
    used = found.clock() - before
    busy.communicate("\n")
    assert found.device.endswith(", by CPU time") and found.cores == 2
    assert 0.1 < used < 0.3  # half of some 0.3 s, whatever else ran


@pytest.mark.weights
async def test_a_real_model_in_process_is_measured(smollm2: Path) -> None:
    model = TransformersModel(ModelSpec(name="smollm2-135m", backend="transformers"), smollm2)
    kept, notes = await measure(model, Load(2, 64, 16), lambda: hardware_of(model, cpu_time=True), seconds=5)
    await model.aclose()
    its = kept.profile
    assert (its.endpoint, its.devices, notes) == ("in process", 1, [])
    assert "cores of" in its.device and "torch" in kept.engine
    assert 0 <= its.cached < its.uncached < its.written
    took = sum(phase["seconds"] for phase in kept.cycles[0].phases)
    whole = sum(
        getattr(kept.cycles[0], k) * phase[k]
        for phase in kept.cycles[0].phases
        for k in ("uncached", "cached", "written")
    )
    assert whole == pytest.approx(took, rel=0.2)
