"""Measuring a speed profile: what a model's server takes for fresh prompts, for the same again, and for text.

Requests come in bursts of as many at once as the load has. A cycle has three phases: fresh prompts with one token of
answer, the same prompts again, and once more with long answers. Device time (wall time x devices) is then shared out
over the tokens that the server reports: three phases, three rates, none negative. A call that has n tokens of answer is
charged n times the written rate although the first of them comes with the prompt, so the prompt's rate is what is
left: at the measured load the sum is what the call took.
"""

from __future__ import annotations

import asyncio
import random
import statistics
from collections.abc import Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import NamedTuple

from tandem.errors import TandemError
from tandem.ledger import Usage
from tandem.models.base import Model, Request
from tandem.models.devices import Hardware
from tandem.models.profiles import KeptProfile, Measurement
from tandem.spec import SpeedProfile
from tandem.types import Message

PROMPT, ANSWER = 512, 128  # tokens, where the device is quick enough
_LEAST = 64, 16
_PILOT = 8  # tokens of an answer, to see about how quick the device is
_WORDS_FEW, _WORDS_MORE = 16, 64  # in the prompts before; from both follows how many make a prompt
_CYCLES = 2, 3, 25  # at least, aimed at, at most
_REPEAT = 16  # bursts of prompts in a cycle, at most
_TRIES = 3  # cycles that a failed request may spoil
_CACHED = 0.25  # of the prompts: what a prefix cache finds at least
_KINDS = ("uncached", "cached", "written")

Report = Callable[[str, float], None]  # what goes on, and which share of the time is over


@dataclass(frozen=True)
class Load:
    """Requests at once, tokens of a prompt and of an answer; None: what the device manages in the time."""

    concurrency: int = 8
    prompt_tokens: int | None = None
    answer_tokens: int | None = None

    def __str__(self) -> str:
        return f"{self.concurrency} at once, {self.prompt_tokens} + {self.answer_tokens} tokens"


class Phase(NamedTuple):
    """What a phase took: seconds, calls, and tokens by kind."""

    seconds: float = 0.0
    calls: float = 0.0
    uncached: float = 0.0
    cached: float = 0.0
    written: float = 0.0


def _sum(phases: Iterable[Phase]) -> Phase:
    return Phase(*map(sum, zip(*phases, strict=True)))


class _Spoiled(Exception):
    """A request had to be tried again: the time of its phase says nothing."""


class _Meter:
    def __init__(self, model: Model, concurrency: int, clock: Callable[[], float], seed: int | None) -> None:
        self._model, self._concurrency, self._clock = model, concurrency, clock
        self._random = random.Random(seed)

    def prompts(self, words: int) -> list[str]:
        """Return prompts of so many words, which differ from the first word on; each asks for a long answer."""
        return [" ".join(self._random.choices(_WORDS, k=words)) + _TASK for _ in range(self._concurrency)]

    async def burst(self, prompts: Sequence[str], answer_tokens: int) -> Phase:
        """Send all prompts at once; where answers end before their cap, go on until as many tokens are written."""
        left: float = answer_tokens * len(prompts)
        found: list[Phase] = []

        async def ask(prompt: str) -> None:
            nonlocal left
            while left >= 1:
                cap = min(answer_tokens, int(left))
                left -= cap
                phase = await self._ask(prompt, cap)
                left += max(cap - max(phase.written, 1), 0)
                found.append(phase)

        began = self._clock()
        async with asyncio.TaskGroup() as group:
            for prompt in prompts:
                group.create_task(ask(prompt))
        return _sum([Phase(self._clock() - began), *found])

    async def _ask(self, prompt: str, cap: int) -> Phase:
        message = Message(role="user", content=prompt)
        request = Request((message,), "answer", cap, affinity=prompt)
        usage, written = Usage(), 0
        async with aclosing(self._model.stream(request)) as deltas:
            async for delta in deltas:
                if delta.failed:
                    raise _Spoiled(delta.failed.error)
                written += delta.tokens
                usage = delta.usage or usage
        prompt_tokens = usage.prompt or request.prompt_tokens(self._model.count)
        return Phase(0.0, 1.0, prompt_tokens - usage.cached, usage.cached, usage.completion or written)

    async def cycle(self, words: int, answer_tokens: int, repeat: int = 1) -> tuple[Phase, Phase, Phase]:
        """Return fresh prompts (`repeat` bursts), the same again (as many), and the last ones with long answers."""
        fresh, again = [], []
        prompts: list[str] = []
        for _ in range(repeat):
            prompts = self.prompts(words)
            fresh.append(await self.burst(prompts, 1))
            again.append(await self.burst(prompts, 1))
        return _sum(fresh), _sum(again), await self.burst(prompts, answer_tokens)


async def measure(
    model: Model,
    load: Load,
    where: Callable[[], Hardware],
    *,
    seconds: float = 60.0,
    report: Report = lambda what, share: None,
    command: str = "",
    seed: int | None = None,
) -> tuple[KeptProfile, list[str]]:
    """Measure a model's speed profile at a load in about so many seconds; return it, and what a user should know.

    `where` says on what it runs, once it is ready. Lengths that the load leaves open are halved until the device
    manages three cycles in the time; there are two at the least. Rates are the medians over the cycles. Raises
    TandemError if requests keep failing, and where nothing could be made out.
    """
    report("getting the model ready", 0.0)
    await model.probe()
    hardware = where()
    clock = hardware.clock
    meter = _Meter(model, load.concurrency, clock, seed)
    notes: list[str] = []
    if not hardware.known:
        notes.append(f"{hardware.endpoint} is taken for 1 device (how many there are: --devices N)")

    async def cycle(words: int, answer_tokens: int, repeat: int = 1) -> tuple[Phase, Phase, Phase]:
        for last in (*[False] * (_TRIES - 1), True):
            try:
                return await meter.cycle(words, answer_tokens, repeat)
            except* _Spoiled as spoiled:
                if last:
                    raise TandemError(f"requests keep failing: {spoiled.exceptions[0]}") from None
            except* TandemError as failed:
                raise failed.exceptions[0] from None
        raise AssertionError

    began = clock()

    def over() -> float:
        return min((clock() - began) / seconds, 1.0)

    report("warming up", 0.0)
    answer = min(load.answer_tokens or ANSWER, _PILOT)
    warm = await cycle(_WORDS_FEW, answer)
    pilot = await cycle(_WORDS_MORE, answer)
    speed, _ = _rates(pilot, hardware.devices)
    load, repeat = _planned(load, speed, seconds - (clock() - began), hardware.devices)
    assert load.prompt_tokens and load.answer_tokens
    words = _words(load.prompt_tokens, warm[0], pilot[0])
    cycles: list[Measurement] = []
    while len(cycles) < _CYCLES[2]:
        report(f"cycle {len(cycles) + 1}: {load}", over())
        before = clock()
        phases = await cycle(words, load.answer_tokens, repeat)
        measured, remark = _rates(phases, hardware.devices)
        cycles.append(measured)
        notes += [remark] if remark and remark not in notes else []
        if len(cycles) >= _CYCLES[0] and clock() - began + (clock() - before) > seconds:
            break
    report("done", 1.0)
    middle = {kind: statistics.median(getattr(cycle, kind) for cycle in cycles) for kind in _KINDS}
    if not middle["written"] or not middle["uncached"]:
        raise TandemError("the times do not tell reading from writing: take longer --prompt-tokens and --answer-tokens")
    profile = SpeedProfile(
        model=model.spec.name,
        endpoint=hardware.endpoint,
        **middle,
        device=hardware.device,
        devices=hardware.devices,
        load=str(load),
        concurrency=load.concurrency,
        prompt_tokens=load.prompt_tokens,
        completion_tokens=load.answer_tokens,
        date=f"{datetime.now(UTC):%Y-%m-%d}",
    )
    return KeptProfile(profile=profile, engine=hardware.engine, cycles=tuple(cycles), command=command), notes


def _words(tokens: int, few: Phase, more: Phase) -> int:
    """Return how many words make a prompt of so many tokens, by what the server says of two lengths of it."""
    short, long = ((phase.uncached + phase.cached) / phase.calls for phase in (few, more))
    each = max((long - short) / (_WORDS_MORE - _WORDS_FEW), 0.5)
    return max(1, round(_WORDS_MORE + (tokens - long) / each))


def _planned(load: Load, pilot: Measurement, seconds: float, devices: float) -> tuple[Load, int]:
    """Return the load with its lengths, and how many bursts of prompts are about as long as one of answers."""
    prompt, answer = load.prompt_tokens or PROMPT, load.answer_tokens or ANSWER

    def times() -> tuple[float, float]:
        reading = prompt * (pilot.uncached + pilot.cached) + 2 * pilot.written
        return load.concurrency * reading / devices, load.concurrency * answer * pilot.written / devices

    while sum(times()) * _CYCLES[1] > seconds:
        shorter = (
            prompt if load.prompt_tokens else max(prompt // 2, _LEAST[0]),
            answer if load.answer_tokens else max(answer // 2, _LEAST[1]),
        )
        if shorter == (prompt, answer):
            break
        prompt, answer = shorter
    reading, writing = times()
    repeat = 1 if sum(times()) * _CYCLES[1] > seconds or not reading else round(writing / reading)
    return replace(load, prompt_tokens=prompt, answer_tokens=answer), min(max(repeat, 1), _REPEAT)


def _rates(phases: tuple[Phase, Phase, Phase], devices: float) -> tuple[Measurement, str]:
    """Share a cycle's device time out over its tokens, and say what is odd: least squares without negative rates."""
    import numpy as np
    from scipy.optimize import nnls

    fresh, again, long = phases
    remark = ""
    kept = tuple(dict(phase._asdict()) for phase in phases)
    if again.cached >= _CACHED * (again.cached + again.uncached):
        rows = [list(phase[2:]) for phase in phases]
        times = [phase.seconds for phase in phases]
    else:  # no prefix cache, or one that is not reported: what the long answers took beyond the same prompts
        share = long.calls / again.calls
        rows = [[fresh.uncached + fresh.cached, 0.0, fresh.written], [0.0, 0.0, long.written - again.written * share]]
        times = [fresh.seconds, max(long.seconds - again.seconds * share, 0.0)]
        remark = "no cached tokens are reported: a cached token is taken to cost what an uncached one does"
        if again.seconds / again.calls < 0.5 * fresh.seconds / fresh.calls:
            remark += " (yet the same prompts were quicker the second time: the server may cache and not say so)"
    # In seconds, not relative to each phase: a very short second phase must not decide over the long ones.
    found, _ = nnls(np.array(rows, dtype=float), np.array(times) * devices)
    uncached, cached, written = map(float, found)
    if remark:
        cached = uncached
    return Measurement(uncached=uncached, cached=min(cached, uncached), written=written, phases=kept), remark


_TASK = "\n\nWrite a long Python module with a documented function for each of the words above, one after the other."
_WORDS = (
    *("river", "stone", "window", "paper", "yellow", "garden", "train", "letter", "music", "bridge", "winter", "table"),
    *("cloud", "orange", "forest", "engine", "silver", "market", "story", "island", "candle", "corner", "button"),
    *("desert", "copper", "street", "rabbit", "planet", "kitchen", "summer", "doctor", "basket", "metal", "pencil"),
    *("harbor", "village", "mirror", "carpet", "dragon", "butter", "castle", "ticket", "farmer", "hammer", "blanket"),
    *("valley", "pepper", "rocket", "camera", "needle", "temple", "circle", "monkey", "pocket", "saddle", "lemon"),
)
