"""What the engine costs beside the bare HTTP calls: wall time at a server's pace, CPU time at no latency.

python benchmarks/overhead.py [--solves 500] [--concurrency 64] [--rounds 3] [--tokens 128] [--classifier PATH] [--json]

A stub endpoint in a process of its own (on another core where there are two) plays mentor and intern. Measured are

- `wall`: seconds of all solves by `Tandem.asolve_many`, over those of the same HTTP calls made bare, with the stub's
  first token after 50 ms and 5 ms between tokens (aim: at most 1.15);
- `cpu`: CPU milliseconds per solve of this process, tandem and bare, with a stub that never waits.

Bare means the openai client and nothing else: `async for chunk in stream` over the very bodies that the tandem run
before it sent, at the same concurrency, one problem's calls one after another as tandem made them (pace thrifty), a
discarded draft closed after as many chunks. `--bare bytes` is the harder floor: the body's bytes are counted and
dropped, nothing is parsed. Loading models and classifier is not measured.

The mix is fixed: of ten problems four stop at level none, three at low, two at medium, one at high. Levels are 1/10,
1/2 and all of `--tokens`, which is also the length of an answer. To that end the stub writes drafts of two kinds; the
estimator is the classifier's own, its card gets thresholds between the two, and stop shares so small that this holds
for the stub's pair too, whose thresholds come from the run itself.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import multiprocessing
import os
import re
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tandem.engine import Tandem
from tandem.ladder import parse_ladder
from tandem.models.base import Delta, Request
from tandem.models.logprobs import token_stat
from tandem.models.openai import OpenAIModel
from tandem.models.openai.request import Dialect, chat_body
from tandem.spec import Continuation, ModelSpec
from tandem.sufficiency.classifier import Classifier, load_classifier, nearest_classifier
from tandem.sufficiency.signals import classifier_inputs, draft_signals, question_candidates, question_signals
from tandem.types import Problem, Solution

MIX = (0, 1, 0, 2, 0, 1, 3, 0, 2, 1)  # by problem number: the level whose draft is the first to suffice
DRAFTS = ((-0.02, *(-5.0 - 0.5 * rank for rank in range(19))), tuple(-1.6 - 0.25 * rank for rank in range(20)))
HEADERS = ("Planning", "Retrieval", "Action")
QUESTION = "A machine makes {n} parts an hour and every tenth part of machine {n} is bad. How many good ones in 8 h?"
PATIENT, INSTANT = (0.05, 0.005), (0.0, 0.0)  # seconds to the first token, and between two
MENTOR, INTERN = "stub-mentor", "stub-intern"

Delays = tuple[float, float]
Drafts = tuple[tuple[float, ...], ...]  # top log-probabilities of every token: of a draft that suffices, of another
Chain = list[tuple[dict[str, Any], int | None]]  # bodies, and after how many tokens each was cut (None: read out)


def ladder_text(tokens: int) -> str:
    return f"none,low={tokens // 10},medium={tokens // 2},high={tokens}"


# The stub's side: a process of its own.


def serve(pipe: Connection, core: int | None, delays: Delays, tokens: int, drafts: Drafts, port: int) -> None:
    if core is not None:
        os.sched_setaffinity(0, {core})
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # that a closed draft's socket takes no more is no news
    asyncio.run(_serve(pipe, delays, tokens, drafts, port))


async def _serve(pipe: Connection, delays: Delays, tokens: int, drafts: Drafts, port: int) -> None:
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from stub import Reply, Stub

    first, each = delays
    reply = partial(Reply, first_delay=first, token_delay=each)
    words = (*(f" word{i % 10}" for i in range(tokens - 1)), " \\boxed{42}")
    good, bad = (reply(tokens=words, top=(top,) * tokens) for top in drafts)
    section = tokens // len(HEADERS)
    insight = [" note" if i % section else f"\n{HEADERS[i // section % 3]}: note" for i in range(tokens + 1)]
    budgets = [level.tokens or 0 for level in parse_ladder(ladder_text(tokens))]
    rest = [reply(tokens=tuple(insight[start:])) for start in range(tokens + 1)]

    def respond(body: dict[str, Any]) -> Reply:
        last = body["messages"][-1]["content"]
        bought = last.count(" note")
        if body.get("continue_final_message") and not bought:  # the probe: does it continue a text?
            return Reply(tokens=(", 10",))
        if body["model"] == MENTOR:  # it goes on from its own beginning
            return rest[bought]
        number = int(re.search(r"machine (\d+)", last)[1])  # type: ignore[index]
        return good if bought >= budgets[MIX[number % len(MIX)]] else bad

    async with Stub(respond=respond, models=[{"id": MENTOR}, {"id": INTERN}], port=port) as stub:
        pipe.send(stub.url)
        await asyncio.to_thread(pipe.recv)  # ends with a word, or with the parent


@contextmanager
def server(delays: Delays, tokens: int, drafts: Drafts, port: int = 0) -> Iterator[str]:
    """Run the stub; the context is its base URL."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    core = cores[-1] if len(cores) > 1 else None
    if core is not None:
        os.sched_setaffinity(0, cores[:-1])
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=serve, args=(theirs, core, delays, tokens, drafts, port), daemon=True)
    process.start()
    theirs.close()
    try:
        yield ours.recv()
    finally:
        ours.send(None)
        process.join()
        if core is not None:
            os.sched_setaffinity(0, cores)


# Our side.


class Recorded(OpenAIModel):
    """The real model; it notes the requests, one list entry each, and touches no delta."""

    def __init__(self, name: str, url: str, requests: dict[str, list[Request]]) -> None:
        spec = ModelSpec(name=name, backend="openai", context=32768, continuation=Continuation.NATIVE)
        super().__init__(spec, base_url=url)
        self.requests = requests

    def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        self.requests.setdefault(request.affinity, []).append(request)
        return super().stream(request)


class Pair:
    """The two ways to do the same work, in turn: `tandem` leaves the chains of calls that `bare` makes again."""

    def __init__(self, url: str, classifier: Path, tokens: int, concurrency: int, bare: str) -> None:
        import openai

        self.requests: dict[str, list[Request]] = {}
        self.models = Recorded(MENTOR, url, self.requests), Recorded(INTERN, url, self.requests)
        self.engine = Tandem(*self.models, effort=ladder_text(tokens), pace="thrifty", classifier=str(classifier))
        self.client = openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0, timeout=600)
        self.replay = {"chunks": self._read_chunks, "bytes": self._read_bytes}[bare]
        self.concurrency = concurrency
        self.solutions: list[Solution] = []

    async def tandem(self, problems: list[Problem]) -> None:
        self.requests.clear()
        self.solutions.clear()
        async for _, result in self.engine.asolve_many(problems, concurrency=self.concurrency):
            if not isinstance(result, Solution):
                raise result
            self.solutions.append(result)

    def chains(self) -> list[Chain]:
        """Return each problem's calls in order."""
        specs = {model.spec.name: model.spec for model in self.models}
        chains = []
        for solution in self.solutions:
            chain: Chain = []
            # At pace thrifty a call ends before the next begins: requests and ledger entries pair up.
            for request, entry in zip(self.requests[solution.problem_id], solution.ledger, strict=True):
                body = chat_body(specs[entry.model], entry.model, request, Dialect())
                chain.append((body, None if entry.usage.source == "reported" else entry.usage.completion))
            chains.append(chain)
        return chains

    async def bare(self, chains: list[Chain]) -> None:
        gate = asyncio.Semaphore(self.concurrency)

        async def one(chain: Chain) -> None:
            async with gate:
                for body, cut in chain:
                    await self.replay(body, cut)

        await asyncio.gather(*(one(chain) for chain in chains))

    async def _read_chunks(self, body: dict[str, Any], cut: int | None) -> None:
        fields: Any = {name: body[name] for name in ("model", "messages", "stream")}
        read = 0
        async with await self.client.chat.completions.create(**fields, extra_body=body) as stream:
            async for chunk in stream:
                read += bool(chunk.choices and chunk.choices[0].delta.content)
                if read == cut:
                    return

    async def _read_bytes(self, body: dict[str, Any], cut: int | None) -> None:
        fields: Any = {name: body[name] for name in ("model", "messages", "stream")}
        read = -1  # the first event only names the role
        create = self.client.chat.completions.with_streaming_response.create
        async with create(**fields, extra_body=body) as response:
            async for piece in response.http_response.aiter_bytes():
                read += piece.count(b"\n\n")
                if cut is not None and read >= cut:
                    return

    async def close(self) -> None:
        await self.engine.aclose()
        await self.client.close()


async def measure(
    pair: Pair, problems: list[Problem], rounds: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Return the figures of `clock` for tandem and bare, round by round, after a short round that is not counted."""
    await pair.engine.prepare()
    await pair.tandem(problems[: pair.concurrency])
    await pair.bare(pair.chains())
    found: dict[str, list[float]] = {"tandem": [], "bare": []}

    async def timed(name: str, run: Awaitable[None]) -> None:
        started = clock()
        await run
        found[name].append(clock() - started)

    for _ in range(rounds):
        await timed("tandem", pair.tandem(problems))
        chains = pair.chains()
        await timed("bare", pair.bare(chains))
    found["ratio"] = [a / b for a, b in zip(found["tandem"], found["bare"], strict=True)]
    return found


def fixed_mix(source: Path | None, tokens: int, folder: Path) -> Drafts:
    """Write the classifier again with thresholds between the two drafts; return them, what it thinks better first."""
    if source is None:
        raise SystemExit("no classifier is shipped: name one with --classifier PATH")
    classifier = load_classifier(source, plain=False)
    card, thresholds, better = classifier.card, {}, set()
    length = min(card.draft_tokens or tokens, tokens)
    # About its length in tokens; the thresholds lie far enough from both drafts.
    question = question_signals(len(QUESTION) // 4) | question_candidates(QUESTION)
    drafts = (draft_signals([token_stat(top[0], top, None)] * length, ended=length == tokens) for top in DRAFTS)
    signals = [classifier_inputs(draft, question) for draft in drafts]
    for level in parse_ladder(ladder_text(tokens)):
        first, second = (classifier.sufficiency(level, s, level.tokens or 0) for s in signals)
        thresholds[level.name] = (first + second) / 2
        better.add(first > second)
    if len(better) > 1:
        raise SystemExit(f"classifier '{card.id}' prefers another draft at another level: the mix cannot be fixed")
    policy = card.policy.model_copy(update={"thresholds": thresholds, "stop_shares": dict.fromkeys(thresholds, 0.05)})
    Classifier(classifier.estimator, card.model_copy(update={"policy": policy, "models": {}, "points": {}})).save(
        folder
    )
    return DRAFTS if better.pop() else DRAFTS[::-1]


async def part(
    given: argparse.Namespace, folder: Path, drafts: Drafts, delays: Delays, clock: Callable[[], float]
) -> Any:
    problems = [Problem.from_text(QUESTION.format(n=1000 + n)) for n in range(given.solves)]
    with server(delays, given.tokens, drafts) as url:
        pair = Pair(url, folder, given.tokens, given.concurrency, given.bare)
        found = await measure(pair, problems, given.rounds, clock)
        mix = Counter(solution.level for solution in pair.solutions)
        calls = sum(len(solution.ledger.entries) for solution in pair.solutions)
        await pair.close()
    return found, dict(sorted(mix.items(), key=lambda item: -item[1])), calls


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--solves", type=int, default=500)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=128, help="tokens of an answer and of a whole insight")
    parser.add_argument("--classifier", type=Path, help="its folder (default: the shipped one)")
    parser.add_argument("--bare", choices=("chunks", "bytes"), default="chunks", help="what the bare calls read")
    parser.add_argument("--json", action="store_true", help="print all figures as JSON")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        drafts = fixed_mix(given.classifier or nearest_classifier(MENTOR, INTERN), given.tokens, Path(folder))
        wall, mix, calls = await part(given, Path(folder), drafts, PATIENT, time.perf_counter)
        cpu, _, _ = await part(given, Path(folder), drafts, INSTANT, time.process_time)
    for name in ("tandem", "bare"):
        cpu[name] = [1e3 * seconds / given.solves for seconds in cpu[name]]
    report = {
        "solves": given.solves,
        "concurrency": given.concurrency,
        "tokens": given.tokens,
        "bare": given.bare,
        "calls": calls,
        "levels": mix,
        "wall_seconds": wall,
        "cpu_ms_per_solve": cpu,
        "median_wall_ratio": statistics.median(wall["ratio"]),
        "median_cpu_ratio": statistics.median(cpu["ratio"]),
    }
    if given.json:
        print(json.dumps(report, indent=2))
        return
    print(f"{given.solves} solves at concurrency {given.concurrency}: {calls} calls, levels {mix}")
    for what, unit, found in (("wall", "s", wall), ("cpu", "ms a solve", cpu)):
        for a, b, ratio in zip(found["tandem"], found["bare"], found["ratio"], strict=True):
            print(f"{what}: tandem {a:.2f} {unit}, bare {b:.2f} {unit}, ratio {ratio:.3f}")
        print(f"{what}: median ratio {statistics.median(found['ratio']):.3f}")


if __name__ == "__main__":
    asyncio.run(main())
