"""What vLLM inside this process (AsyncLLM) is worth over HTTP to a replica of its own: tokens/s, first token, CPU time.

python benchmarks/in_process.py [--model smollm2-135m] [--concurrency 1,32] [--tokens 64] [--k 20] [--rounds 3] [--json]

The same model is loaded twice with the same options (without a GPU: both on the last core, everything else on the
others, about 7 GB of memory; with one: 40 % of it each). The ways take turns with the same kind of prompts, whose
answers all have `--tokens` tokens with log-probabilities; while one works, the other two wait:

- `http`: tandem's `OpenAIModel` to the replica;
- `engine`: AsyncLLM, made into what tandem needs: text and four floats of each token's log-probabilities. Its
  scheduler and its model still run in processes of their own, as vLLM has it;
- `ids`: the same without any text, which is more than a backend could leave out: the floor.

Printed are, for each concurrency and as medians of the rounds, tokens/s, those over http, seconds to the first token
(median of the requests), and CPU milliseconds of all processes together for 1,000 tokens (Linux); further the CPU
seconds that both take each second while nothing is asked, and the memory that AsyncLLM adds to this process.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import statistics
import time
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

from logprobs import counting, cpu_seconds, replica

from tandem.models.base import Delta, Request
from tandem.models.catalog import find
from tandem.models.logprobs import token_stat
from tandem.models.openai import OpenAIModel
from tandem.models.vllm.command import Serve, environment
from tandem.models.vllm.placement import Place
from tandem.models.weights import pull
from tandem.spec import ModelSpec

MEMORY = 0.4  # of a GPU, for each of the two
NUMBERS = itertools.count()

Stream = Callable[[Request], AsyncGenerator[Delta, None]]


def start_engine(serve: Serve, place: Place) -> Any:
    """Load the model for this process with the options of the replica."""
    os.environ |= environment(serve, place) | {"VLLM_LOGGING_LEVEL": "ERROR"}
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    share = {"gpu_memory_utilization": place.memory} if place.gpus and place.memory else {}
    options = AsyncEngineArgs(
        model=serve.model,
        dtype=serve.dtype,
        max_logprobs=serve.max_logprobs,
        enable_prefix_caching=True,
        enforce_eager=not place.gpus,
        **share,
    )
    return AsyncLLM.from_engine_args(options)


def in_process(engine: Any, *, text: bool) -> Stream:
    """Return what streams a request from `engine` as deltas with statistics; without `text` they carry none."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    tokenizer = engine.get_tokenizer()
    size = engine.model_config.get_vocab_size()

    async def stream(request: Request) -> AsyncGenerator[Delta, None]:
        messages = [{"role": m.role, "content": m.content} for m in request.messages]
        written = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        prompt = tokenizer(written, add_special_tokens=False)["input_ids"]
        k = request.top_logprobs
        params = SamplingParams(
            max_tokens=request.max_tokens,
            temperature=request.sampling.temperature,
            logprobs=k,
            flat_logprobs=True,
            detokenize=text,
            output_kind=RequestOutputKind.DELTA,
        )
        async for output in engine.generate({"prompt_token_ids": prompt}, params, f"{next(NUMBERS)}"):
            part, flat = output.outputs[0], output.outputs[0].logprobs
            stats = [
                token_stat(flat.logprobs[at], flat.logprobs[at + 1 : at + 1 + k], size)
                for at in (flat.start_indices if k else ())  # the chosen token comes first, then the best
            ]
            yield Delta(part.text, len(part.token_ids), stats, "length" if part.finish_reason else None)

    return stream


async def once(stream: Stream, concurrency: int, requests: list[Request]) -> dict[str, float]:
    """Read all requests to their ends; return tokens/s, the median seconds to a first token, CPU ms."""
    gate, waits = asyncio.Semaphore(concurrency), []

    async def one(request: Request) -> int:
        async with gate:
            began, tokens, stats = time.perf_counter(), 0, 0
            async for delta in stream(request):
                if not tokens and delta.tokens:
                    waits.append(time.perf_counter() - began)
                tokens += delta.tokens
                stats += len(delta.stats)
            assert stats == (tokens if request.top_logprobs else 0)
            return tokens

    before, began = cpu_total(), time.perf_counter()
    tokens = sum(await asyncio.gather(*map(one, requests)))
    seconds, used = time.perf_counter() - began, cpu_total() - before
    return {
        "tokens": tokens,
        "tokens_per_second": tokens / seconds,
        "first_token": statistics.median(waits),
        "cpu_ms": 1e6 * used / tokens,
    }


def cpu_total() -> float:
    return sum(seconds for _, seconds in cpu_seconds(os.getpid()))


def memory() -> float:
    """Return this process's memory in MB; 0 without /proc."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6 if statm.exists() else 0.0


async def measure(given: argparse.Namespace) -> dict[str, Any]:
    many = list(map(int, given.concurrency.split(",")))
    serve = Serve(str(pull(find(given.model))), given.model, kv_cache_gib=1)
    async with replica(serve, MEMORY) as (pool, place):
        alone = memory()
        engine = start_engine(serve, place)
        model = OpenAIModel(ModelSpec(name=given.model), base_url=pool.urls[0], max_in_flight=max(many))
        ways = {"http": model.stream, "engine": in_process(engine, text=True), "ids": in_process(engine, text=False)}
        rows: dict[int, dict[str, list[dict[str, float]]]] = {c: {way: [] for way in ways} for c in many}
        try:
            for stream in ways.values():
                await once(stream, 8, [counting(f"warm {n}", given.tokens, given.k) for n in range(8)])
            before = cpu_total()
            await asyncio.sleep(given.idle)
            idle = (cpu_total() - before) / given.idle
            for turn, concurrency in itertools.product(range(given.rounds), many):
                marks = [f"{turn}.{concurrency}.{n}" for n in range(max(given.fewest, concurrency))]
                for way in ways if turn % 2 == 0 else reversed(ways):  # whatever drifts, drifts both ways
                    requests = [counting(f"{way} {mark}", given.tokens, given.k) for mark in marks]
                    rows[concurrency][way].append(await once(ways[way], concurrency, requests))
            grown = memory() - alone
        finally:
            await model.aclose()
            engine.shutdown()
    found: dict[str, Any] = {"idle_cpu": idle, "memory_mb": grown}
    for concurrency, of_way in rows.items():
        found[str(concurrency)] = {way: figures(turns, of_way["http"]) for way, turns in of_way.items()}
    return found


def figures(turns: list[dict[str, float]], http: list[dict[str, float]]) -> dict[str, Any]:
    """Return the medians of one way's rounds, and its tokens/s over those of `http` in the same rounds."""
    ratios = [a["tokens_per_second"] / b["tokens_per_second"] for a, b in zip(turns, http, strict=True)]
    medians = {name: statistics.median(turn[name] for turn in turns) for name in turns[0]}
    return medians | {"ratio": statistics.median(ratios), "ratios": ratios}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m", help="a name of the catalog")
    parser.add_argument("--concurrency", default="1,32")
    parser.add_argument("--fewest", type=int, default=4, help="requests for each way in a round, at the least")
    parser.add_argument("--tokens", type=int, default=64, help="of an answer")
    parser.add_argument("--k", type=int, default=20, help="log-probabilities")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--idle", type=float, default=5.0, help="seconds that nothing is asked")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found = asyncio.run(measure(given))
    if given.json:
        print(json.dumps(found))
        return
    idle, grown = found.pop("idle_cpu"), found.pop("memory_mb")
    print(f"idle: {idle:.3f} CPU seconds a second for both; AsyncLLM adds {grown:.0f} MB to this process")
    print("at once  way     tokens/s  over http  first token  CPU ms for 1,000 tokens")
    for concurrency, of_way in found.items():
        for way, row in of_way.items():
            print(f"{concurrency:>7}  {way:6}  {row['tokens_per_second']:8.1f}  {row['ratio']:9.3f}", end="")
            print(f"  {1e3 * row['first_token']:8.0f} ms  {row['cpu_ms']:8.0f}")


if __name__ == "__main__":
    main()
