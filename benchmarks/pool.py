"""What a run costs the replica that it keeps busy: tokens/s of a run over a bare client with the same prompts.

python benchmarks/pool.py [--model smollm2-135m] [--problems 96] [--concurrency 16] [--tokens 128] [--rounds 3]
    [--json]

One vLLM replica is started (without a GPU: on the last core). In turns, with the same questions, whose prompts are in
the cache for both:

- `run`: `tandem.runs.runner.run` with strategy intern-only: journal, records, grading and all;
- `bare`: the openai client, streaming, at the same concurrency; chunks are counted by the server's usage report.

Printed is tokens/s of both and their ratio (aim: at least 0.97).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import openai

from tandem.engine import Tandem
from tandem.insight import answer_messages
from tandem.models.catalog import find
from tandem.models.fake import FakeModel
from tandem.models.vllm.command import Serve
from tandem.models.vllm.machine import find_machine
from tandem.models.vllm.placement import Place
from tandem.models.vllm.pool import Pool
from tandem.models.weights import pull
from tandem.runs.runner import run
from tandem.runs.store import RunStore
from tandem.types import Problem


def questions(n: int) -> list[Problem]:
    text = "Case {i}. A shop sells {i} apples, then {j} pears, and half as many plums. How many fruits is that?"
    return [Problem.from_text(text.format(i=i, j=2 * i + 3), id=f"q{i}", task="math", reference="1") for i in range(n)]


async def bare(url: str, model: str, problems: list[Problem], given: argparse.Namespace) -> float:
    gate, tokens = asyncio.Semaphore(given.concurrency), 0
    async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:

        async def one(problem: Problem) -> None:
            nonlocal tokens
            messages: Any = [{"role": m.role, "content": m.content} for m in answer_messages(problem)]
            async with gate:
                stream = await client.chat.completions.create(
                    model=model,
                    messages=messages,
                    max_tokens=given.tokens,
                    temperature=0.0,
                    stream=True,
                    stream_options={"include_usage": True},
                )
                async for chunk in stream:
                    if chunk.usage:
                        tokens += chunk.usage.completion_tokens

        started = time.perf_counter()
        await asyncio.gather(*map(one, problems))
        return tokens / (time.perf_counter() - started)


async def ours(url: str, model: str, problems: list[Problem], given: argparse.Namespace, folder: Path) -> float:
    tandem = Tandem(
        FakeModel(), model, strategy="intern-only", intern_endpoint=url, intern_max_tokens=given.tokens, temperature=0.0
    )
    async with tandem:
        await tandem.prepare()
        with RunStore.create(folder, {"run": {}}) as store:
            started = time.perf_counter()
            summary = await run(tandem, problems, store, concurrency=given.concurrency)
            seconds = time.perf_counter() - started
    assert summary["errors"] == 0
    return float(summary["intern_tokens"]) / seconds


async def measure(given: argparse.Namespace) -> dict[str, Any]:
    machine = find_machine()
    place = Place(0, gpus=(machine.gpus[0].index,)) if machine.gpus else Place(0, cores=machine.cores[-1:])
    if not machine.gpus and len(machine.cores) > 1:
        os.sched_setaffinity(0, machine.cores[:-1])  # the client's work is not the replica's
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pool = Pool(Serve(str(pull(find(given.model))), given.model), [place], folder)
        await pool.start()
        try:
            url, runs, bares = pool.urls[0], [], []
            asked = questions(given.problems)
            await bare(url, given.model, asked, given)  # every prompt is in the cache for both
            for i in range(given.rounds):
                runs.append(await ours(url, given.model, asked, given, folder / f"run{i}"))
                bares.append(await bare(url, given.model, asked, given))
        finally:
            await pool.aclose()
    ratio = statistics.median(a / b for a, b in zip(runs, bares, strict=True))
    return {"run": runs, "bare": bares, "ratio": ratio}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--problems", type=int, default=96)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found = asyncio.run(measure(given))
    if given.json:
        print(json.dumps(found))
        return
    for way in ("run", "bare"):
        print(f"{way:5} tokens/s {', '.join(f'{rate:.0f}' for rate in found[way])}")
    print(f"ratio {found['ratio']:.3f} (aim: at least 0.97)")


if __name__ == "__main__":
    main()
