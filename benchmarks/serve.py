"""What `tandem serve` costs beside the engine that it serves, and beside another proxy, with models that take no time.

python benchmarks/serve.py [--requests 192] [--concurrency 16] [--streams 1000] [--rounds 3] [--tokens 64]
    [--classifier PATH] [--stub-port 8951] [--optillm URL] [--json]

A stub endpoint in a process of its own plays mentor and intern without any latency, `tandem serve` is another process.
Measured are, round by round,

- `one` and `many`: milliseconds of a problem by `Tandem.asolve` in this process, and by a request (model `tandem`, not
  streamed) to a server with the same settings, one after another and `--concurrency` at once, at p50 and p99; and of
  CPU time, of this process and of the server's, which makes the requests a second of one core. The mix of levels is
  that of benchmarks/overhead.py;
- `streams`: so many streams (model `intern`) that are opened at once: how many end whole, the longest, and the
  server's memory at its most;
- `through`: milliseconds of a chat with the mentor alone, not streamed: straight to the stub, through our server
  (model `mentor`), and with `--optillm` through optillm, one after another. Printed is what each adds at p50 (aim:
  ours adds at most half of what optillm adds).

The ways take turns within a round, a few requests each, so that what else the machine does meets all of them. Figures
are medians of the rounds. Answers and whole insights have `--tokens` tokens. For optillm, in an environment of its own
(a full install draws in gigabytes; what passes a request through needs only this):

    pip install --no-deps optillm
    pip install numpy networkx openai 'z3-solver<=4.15.4.0' aiohttp flask tiktoken scikit-learn cerebras_cloud_sdk \\
        requests PyYAML beautifulsoup4 lxml math-verify
    OPENAI_API_KEY=none optillm --base-url http://127.0.0.1:8951/v1 --approach none --port 8952 --log error
    python benchmarks/serve.py --optillm http://127.0.0.1:8952
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from overhead import INSTANT, INTERN, MENTOR, QUESTION, Drafts, fixed_mix, ladder_text, server
from serve_process import ServeProcess, serve_process
from wire import Wire

from tandem.engine import Tandem
from tandem.sufficiency.classifier import nearest_classifier

CHAT = "/v1/chat/completions"
CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
Figures = dict[str, float]


@dataclass
class Way:
    """A way to get an answer: what it took, and how much was computed for it. `core` is where we wait for it."""

    once: Callable[[str], Awaitable[Any]]
    cpu: Callable[[], float] = time.process_time
    core: int = -1  # as a client the stub's, which has least to do
    ms: list[float] = field(default_factory=list)
    seconds: float = 0.0  # of CPU time

    async def take(self, questions: Iterator[str]) -> None:
        """Get answers one after another."""
        for question in questions:
            began = time.perf_counter()
            await self.once(question)
            self.ms.append(1e3 * (time.perf_counter() - began))

    @property
    def figures(self) -> Figures:
        """What one answer took."""
        p99 = statistics.quantiles(self.ms, n=100)[98]
        return {"p50": statistics.median(self.ms), "p99": p99, "cpu": 1e3 * self.seconds / len(self.ms)}


async def in_turns(ways: dict[str, Way], requests: int, concurrency: int) -> dict[str, Figures]:
    """Ask so many questions each way, a few at a time."""
    numbers = count(1000)
    for way in ways.values():
        way.ms, way.seconds = [], 0.0
    while requests > len(next(iter(ways.values())).ms):
        asked = [QUESTION.format(n=next(numbers)) for _ in range(2 * concurrency)]
        for way in ways.values():
            with on(way.core):
                questions, before = iter(asked), way.cpu()
                await asyncio.gather(*(way.take(questions) for _ in range(concurrency)))
                way.seconds += way.cpu() - before
    return {name: way.figures for name, way in ways.items()}


@contextmanager
def on(core: int) -> Iterator[None]:
    """Stay on one core."""
    if not CORES:
        yield
        return
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {CORES[core]})
        yield
    finally:
        os.sched_setaffinity(0, before)


def chat(model: str, question: str, **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": question}], **fields}


def asking(wire: Wire, model: str) -> Callable[[str], Awaitable[Any]]:
    """Return what asks a server."""

    async def once(question: str) -> None:
        found = await wire.post(CHAT, chat(model, question))
        if found.status != 200:
            raise SystemExit(f"{wire.url} answered {found.status}: {found.body[:500].decode()}")

    return once


async def streams(serving: ServeProcess, many: int) -> Figures:
    """Open so many streams at once and read them all."""
    wire, fields = Wire(serving.url), {"stream": True, "stream_options": {"include_usage": True}}
    bodies = [chat("intern", QUESTION.format(n=1000 + number), **fields) for number in range(many)]
    with on(-1):
        found = await asyncio.gather(*(wire.post(CHAT, body) for body in bodies))
    wire.close()
    whole = [one for one in found if one.status == 200 and one.events[-1] == "[DONE]" and "usage" in one.events[-2]]
    longest = max(one.seconds for one in found)
    return {"ended_whole": len(whole), "longest_s": longest, "most_mb": serving.memory("VmHWM")}


@asynccontextmanager
async def pair(url: str, given: argparse.Namespace, folder: Path) -> AsyncGenerator[tuple[Tandem, ServeProcess], None]:
    """Start an engine here and a server, both with the same settings."""
    settings = {
        **{"mentor": MENTOR, "mentor_endpoint": url, "intern": INTERN, "intern_endpoint": url, "pace": "thrifty"},
        **{"effort": ladder_text(given.tokens), "classifier": str(folder / "classifier")},
    }
    options = [part for name, value in settings.items() for part in (f"--{name.replace('_', '-')}", value)]
    os.environ["TANDEM_HOME"] = str(folder / "home")
    async with aclosing(Tandem(**settings)) as engine:  # type: ignore[arg-type]
        await engine.prepare()
        async with serve_process(folder, *options, "--concurrency", str(given.streams)) as serving:
            yield engine, serving


async def measure(given: argparse.Namespace, folder: Path, drafts: Drafts) -> dict[str, list[Any]]:
    """Return the figures of each part, round by round, after a short round that is not counted."""
    found: dict[str, list[Any]] = {}
    with server(INSTANT, given.tokens, drafts, given.stub_port) as url:
        async with pair(url, given, folder) as (engine, serving):
            wire = Wire(serving.url)

            def cpu() -> float:
                return serving.cpu

            both = {"asolve": Way(engine.asolve, core=0), "server": Way(asking(wire, "tandem"), cpu)}
            ways = {
                "stub": Way(asking(Wire(url.removesuffix("/v1")), MENTOR)),
                "tandem": Way(asking(wire, "mentor")),
            }
            if given.optillm:
                ways["optillm"] = Way(asking(Wire(given.optillm.rstrip("/").removesuffix("/v1")), MENTOR))
            for requests, rounds in ((32, 1), (given.requests, given.rounds)):
                found = {name: [] for name in ("one", "many", "through", "streams")}
                for _ in range(rounds):
                    found["one"].append(await in_turns(both, requests, 1))
                    found["many"].append(await in_turns(both, requests, given.concurrency))
                    found["through"].append(await in_turns(ways, requests, 1))
            for _ in range(given.rounds):  # at the end: memory that was once in use may stay
                found["streams"].append(await streams(serving, given.streams))
    return found


def derive(found: dict[str, list[Any]]) -> None:
    """Add to each round what follows from its figures."""
    for one in (*found["one"], *found["many"]):
        direct, served = one["asolve"], one["server"]
        one["added"] = {name: served[name] - direct[name] for name in direct}
        one["ratio"] = {name: served[name] / direct[name] for name in direct}
        one["a_core_second"] = {who: 1e3 / one[who]["cpu"] for who in ("asolve", "server")}
    for one in found["through"]:
        for way in one.values():
            way["added"] = way["p50"] - one["stub"]["p50"]
        if "optillm" in one:
            one["tandem"]["of_optillm"] = one["tandem"]["added"] / one["optillm"]["added"]


def medians(rounds: list[Any]) -> Any:
    """Return the median of each figure over the rounds."""
    if isinstance(rounds[0], dict):
        return {name: medians([one[name] for one in rounds]) for name in rounds[0]}
    return round(statistics.median(rounds), 3)


def show(told: dict[str, Any], given: argparse.Namespace) -> None:
    """Print the table."""
    for part, concurrency in ((told["one"], 1), (told["many"], given.concurrency)):
        print(f"{f'a problem, {concurrency} at once (ms)':28}      p50      p99      CPU")
        for who in ("asolve", "server", "added", "ratio"):
            print(f"  {who:26}" + "".join(f"{part[who][name]:9.2f}" for name in ("p50", "p99", "cpu")))
        core = part["a_core_second"]
        print(f"  requests a second of one core: server {core['server']:.0f}, asolve {core['asolve']:.0f}")
    found = told["streams"]
    print(f"{given.streams} streams at once: {found['ended_whole']:.0f} ended whole, the last after", end=" ")
    print(f"{found['longest_s']:.1f} s; the server's memory at its most {found['most_mb']:.0f} MB")
    for name, way in told["through"].items():
        print(f"mentor alone by {name:8} p50 {way['p50']:.2f} ms, adds {way['added']:.2f} ms")
    if "optillm" in told["through"]:
        print(f"ours adds {told['through']['tandem']['of_optillm']:.2f} of what optillm adds (aim: at most 0.5)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=192, help="of each way in each round")
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=64, help="tokens of an answer and of a whole insight")
    parser.add_argument("--classifier", type=Path, help="its folder (default: the shipped one)")
    parser.add_argument("--stub-port", type=int, default=8951, help="where the stub listens, for optillm")
    parser.add_argument("--optillm", metavar="URL", help="optillm's proxy that runs, in front of the stub")
    parser.add_argument("--json", action="store_true", help="print all figures as JSON")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        drafts = fixed_mix(given.classifier or nearest_classifier(MENTOR, INTERN), given.tokens, folder / "classifier")
        rounds = asyncio.run(measure(given, folder, drafts))
    derive(rounds)
    told = {name: medians(one) for name, one in rounds.items()}
    if given.json:
        print(json.dumps({"medians": told, "rounds": rounds}, indent=2))
    else:
        show(told, given)


if __name__ == "__main__":
    main()
