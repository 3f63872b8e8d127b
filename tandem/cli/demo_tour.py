"""`tandem demo --tour`, which is what `make run` shows: a recorded problem at once, ten live ones, a table and a page.

The demo pair's own answers alone are recorded ones to the same problems, so that the live part is short; another pair
answers alone too.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console

from tandem.cli.default_pair import DEMO_PAIR, take_default_pair, what_is_missing
from tandem.cli.demo_recorded import PLAYED, command_of, play, recorded
from tandem.cli.live import LINE_SECONDS, LiveView, RunFigures, clock
from tandem.cli.options import make_engine
from tandem.cli.run import default_folder
from tandem.cli.session import Session
from tandem.datasets import load_dataset
from tandem.errors import TandemError
from tandem.models.base import Delta, Request
from tandem.reports.comparison import MENTOR_ONLY, report
from tandem.runs.compare import Comparison, Part, carry_out

if TYPE_CHECKING:
    from tandem.engine import Tandem
    from tandem.runs.store import RunStore

PROBLEMS = 10
ANCHORS = (MENTOR_ONLY, "intern-only")
RECORDED = "alone"  # the folder of the anchors' rows
# How the anchors were recorded: what is given on the command line goes before it.
DEMO_OPTIONS: dict[str, Any] = {
    "backend": "transformers",
    "aim": "gain",
    "mentor_max_tokens": 640,
    "intern_max_tokens": 640,
    "mentor_profile": "qwen2.5-coder-1.5b-in-process-8x128+32",
    "intern_profile": "qwen2.5-coder-0.5b-in-process-8x512+128",
}
_TOKENS = 1922  # that the demo pair wrote when the rows were recorded, insights and answers
_WINDOW = 10.0  # seconds over which the rate is taken


def take_tour(options: dict[str, Any], console: Console) -> None:
    """Show a recorded problem while the models are loaded, then live ones, and what came of them."""
    began = time.monotonic()
    if demo := not options["mentor"] and not options["intern"]:  # the demo pair itself, whatever the config file names
        if missing := what_is_missing():
            asyncio.run(play(console, PLAYED[1:2]))
            raise TandemError(f"the rest is live, and the models are not on this machine: {missing}")
        options |= DEMO_PAIR
        options |= {name: value for name, value in DEMO_OPTIONS.items() if options.get(name) in (None, "auto")}
    take_default_pair(options)
    engine = make_engine(options)
    problems = load_dataset("starter", limit=PROBLEMS)
    folder = default_folder("starter", "tour")
    data = {"name": "starter", "split": None, "limit": PROBLEMS, "problems": len(problems)}
    names = ["tandem"] if demo else [*ANCHORS, "tandem"]
    job = Comparison(folder, data, problems, {"mentor": None, "intern": None}, PROBLEMS, at_once=len(names))
    view = TourView(len(problems) * len(names), _TOKENS if demo else None)

    async def work() -> list[Part]:
        async with engine:
            loading = asyncio.create_task(engine.prepare())
            await play(console, PLAYED[1:2])
            console.print(f"\nNow {PROBLEMS} problems live, by {' and '.join(_pair(engine))}.\n", style="bold")
            if not loading.done():
                console.print("loading both models", style="dim")
            await loading
            if demo:
                for name in ANCHORS:
                    shutil.copytree(recorded(RECORDED) / name, folder / name)
            async with view.counting(engine):
                return await carry_out(engine, names, job, view.run)

    session = Session(folder, "the same command", new=True)
    parts = session.run(view, work)
    if demo:
        first, *others = ANCHORS
        told = [f"recorded, not run now: {command_of(RECORDED)}", *(f"recorded with {first}" for _ in others)]
        parts = [*(Part(name, name, note=note) for name, note in zip(ANCHORS, told, strict=True)), *parts]
    _conclude(folder, parts, engine, console)
    console.print(f"That took {clock(time.monotonic() - began)}. Your own pair: tandem tune --help", soft_wrap=True)


def _pair(engine: Tandem) -> list[str]:
    return [model.spec.name for _, model in engine.models()]


def _conclude(folder: Path, parts: list[Part], engine: Tandem, console: Console) -> None:
    from tandem.reports.page.exports import comparison_view
    from tandem.reports.page.gather import read_comparison
    from tandem.reports.page.writers import write_comparison
    from tandem.runs.index import remember

    report(folder, parts, unit=engine.plan().unit)
    comparison = read_comparison(folder)
    for part in comparison_view(comparison.figures):
        console.print(part, soft_wrap=isinstance(part, str))
    page, *_ = write_comparison(folder, comparison)
    remember(folder)
    console.print(f"\nThe page is {page.resolve()} (tandem view {folder} opens it).", soft_wrap=True)


class TourView(LiveView):
    """Problems done, the rate at which both models write, and the time left."""

    def __init__(self, total: int, expected: int | None = None) -> None:
        """`expected` are the tokens that will be written, where that is known: a batch ends its problems together."""
        super().__init__()
        self._total, self._figures, self._expected = total, RunFigures(), expected
        self._tokens = {"mentor": 0, "intern": 0}
        self._before: deque[tuple[float, int]] = deque()
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        return self  # the bars go up with the live part: before it, the picture has the terminal

    @asynccontextmanager
    async def counting(self, engine: Tandem) -> AsyncIterator[None]:
        """Count what the models write, and show the rate every half second (elsewhere than on a terminal, ten)."""
        for role, model in engine.models():
            model.stream = partial(self._counted, role, model.stream)  # type: ignore[method-assign]
        super().__enter__()
        self._began = time.monotonic()
        self._task = self._bars.add_task("solving", total=self._total, note="")
        showing = asyncio.create_task(self._show())
        try:
            yield
        finally:
            showing.cancel()

    async def _counted(
        self, role: str, stream: Callable[[Request], AsyncGenerator[Delta, None]], request: Request
    ) -> AsyncGenerator[Delta, None]:
        async with aclosing(stream(request)) as deltas:
            async for delta in deltas:
                self._tokens[role] += delta.tokens
                yield delta

    async def _show(self) -> None:
        while True:
            await asyncio.sleep(0.5 if self.err.is_terminal else LINE_SECONDS)
            line = self._line()
            if self.err.is_terminal:
                self._bars.update(self._task, completed=self._figures.n, note=line)
            else:
                self.say(f"{self._figures.n}/{self._total} problems, {line}")

    def _line(self) -> str:
        now, written = time.monotonic(), sum(self._tokens.values())
        self._before.append((now, written))
        while now - self._before[0][0] > _WINDOW and len(self._before) > 2:
            self._before.popleft()
        since, before = self._before[0] if len(self._before) > 1 else (self._began, 0)
        rate = (written - before) / max(now - since, 1e-3)
        parts = [f"{rate:.0f} tokens/s"]
        parts += [f"{role} {tokens:,} tokens" for role, tokens in self._tokens.items()]
        if self._expected is not None and rate and self._expected > written:
            parts.append(f"about {clock((self._expected - written) / rate)} left")
        elif done := self._figures.n:
            left = (now - self._began) / done * (self._total - done)
            parts.append(f"about {clock(left)} left")
        return ", ".join(parts)

    @contextmanager
    def run(self, name: str, store: RunStore, total: int) -> Iterator[Callable[[Mapping[str, Any]], None]]:
        yield self._figures.add


__all__ = ["take_tour"]
