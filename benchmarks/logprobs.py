"""What the top-k log-probabilities of whole answers cost in tokens/s, and whether server or client pays for them.

python benchmarks/logprobs.py [--model smollm2-135m] [--requests 32] [--concurrency 32] [--tokens 96] [--k 0,1,5,10,20]
    [--rounds 3] [--json]

One vLLM replica is started (without a GPU: on the last core, everything else on the others). The same number of
requests is sent for each k (0: none asked for), by three clients in turn:

- `bytes`: the bodies that tandem sends; the answer's bytes are read and dropped, so that only the server has work;
- `tandem`: `OpenAIModel`, which makes four floats of each token's log-probabilities;
- `bare`: the openai client, streaming, which makes an object of each log-probability.

All answers have `--tokens` tokens, and a question of its own for each round, so that no prompt is found in a cache.
Printed are, each the median of the rounds, tokens/s over those of the same client in the same round with k = 0, and
CPU milliseconds for 1,000 tokens (Linux): of the client's process; of the server's processes but the worker; of the
worker, which computes (on one GPU it is part of the server's engine process). CPU time tells who pays on a busy machine
too, where tokens/s tell little.
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
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import openai

from tandem.models.base import Request
from tandem.models.catalog import find
from tandem.models.openai import OpenAIModel
from tandem.models.openai.request import Dialect, chat_body
from tandem.models.vllm.command import Serve
from tandem.models.vllm.machine import find_machine
from tandem.models.vllm.placement import Place
from tandem.models.vllm.pool import Pool
from tandem.models.weights import pull
from tandem.spec import ModelSpec
from tandem.types import Message

Client = Callable[[Request], Awaitable[int]]  # sends one request, returns the tokens of its answer
CPU = ("client", "server", "worker")


def counting(mark: str, tokens: int, k: int) -> Request:
    """Return a request whose answer never ends by itself; the prompt is shorter than one cache block of the CPU."""
    text = f"{mark}: write all whole numbers from one on as words, one a line. Never stop. Begin: one, two, three"
    return Request((Message(role="user", content=text),), "answer", tokens, top_logprobs=k or None)


@asynccontextmanager
async def replica(serve: Serve, memory: float | None = None) -> AsyncIterator[tuple[Pool, Place]]:
    """Start one replica (on `memory` of a card) and keep all else of ours off the core that it computes on."""
    machine = find_machine()
    place = Place(0, cores=machine.cores[-1:])
    if machine.gpus:
        place = Place(0, gpus=(machine.gpus[0].index,), memory=memory)
    elif len(machine.cores) > 1:
        os.sched_setaffinity(0, machine.cores[:-1])
    with tempfile.TemporaryDirectory() as folder:
        pool = Pool(serve, [place], Path(folder))
        await pool.start()
        try:
            print("the replica is ready", file=sys.stderr, flush=True)
            yield pool, place
        finally:
            await pool.aclose()


def cpu_seconds(root: int) -> list[tuple[str, float]]:
    """Return name and CPU seconds of a process and of all that it started; nothing without /proc."""
    tick, parents, found = os.sysconf("SC_CLK_TCK"), {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            head, _, rest = stat.read_text().rpartition(")")
        except OSError:  # it has just ended
            continue
        pid, fields = int(stat.parent.name), rest.split()
        parents[pid] = int(fields[1])
        found[pid] = (head.partition("(")[2], (int(fields[11]) + int(fields[12])) / tick)

    def ours(pid: int) -> bool:
        while pid != root and pid in parents:
            pid = parents[pid]
        return pid == root

    return [said for pid, said in found.items() if ours(pid)]


def spent(server: int) -> dict[str, float]:
    """Return the CPU seconds of this process, of the worker that computes, and of the server's other processes."""
    used = dict.fromkeys(CPU, 0.0) | {"client": time.process_time()}
    for name, seconds in cpu_seconds(server):
        used["worker" if "Worker" in name else "server"] += seconds
    return used


def bytes_client(url: str, spec: ModelSpec, http: httpx.AsyncClient) -> Client:
    async def send(request: Request) -> int:
        body = chat_body(spec, spec.name, request, Dialect())
        last = b""
        async with http.stream("POST", f"{url}/chat/completions", json=body) as answer:
            async for data in answer.aiter_raw():
                last = (last + data)[-1000:]
        usage = json.loads(last.split(b"data: ")[-2])["usage"]
        return int(usage["completion_tokens"])

    return send


def tandem_client(model: OpenAIModel) -> Client:
    async def send(request: Request) -> int:
        answer = await model.complete(request)
        assert len(answer.stats) == (answer.tokens if request.top_logprobs else 0)
        return answer.tokens

    return send


def bare_client(url: str, spec: ModelSpec, client: openai.AsyncOpenAI) -> Client:
    async def send(request: Request) -> int:
        body = chat_body(spec, spec.name, request, Dialect(usage="plain"))
        tokens = 0
        async for chunk in await client.chat.completions.create(**body):
            tokens = chunk.usage.completion_tokens if chunk.usage else tokens
        return tokens

    return send


async def once(client: Client, k: int, mark: str, server: int, given: argparse.Namespace) -> dict[str, float]:
    """Send all requests of one client and one k; return tokens/s and CPU milliseconds for 1,000 tokens."""
    gate = asyncio.Semaphore(given.concurrency)

    async def one(number: int) -> int:
        async with gate:
            return await client(counting(f"{mark}{number}", given.tokens, k))

    before, began = spent(server), time.perf_counter()
    tokens = sum(await asyncio.gather(*map(one, range(given.requests))))
    seconds, after = time.perf_counter() - began, spent(server)
    cpu = {name: 1e6 * (after[name] - before[name]) / tokens for name in CPU}
    return {"tokens": tokens, "tokens_per_second": tokens / seconds} | cpu


async def measure(given: argparse.Namespace) -> dict[str, Any]:
    ks = list(map(int, given.k.split(",")))
    if 0 not in ks:
        ks.insert(0, 0)
    spec = ModelSpec(name=given.model, local=True)
    async with (
        replica(Serve(str(pull(find(given.model))), given.model, kv_cache_gib=1)) as (pool, _),
        httpx.AsyncClient(timeout=600, limits=httpx.Limits(max_connections=given.concurrency)) as http,
        openai.AsyncOpenAI(base_url=pool.urls[0], api_key="none", max_retries=0) as bare,
    ):
        url, server = pool.urls[0], pool.replicas[0].session
        assert server is not None
        model = OpenAIModel(spec, base_url=url, max_in_flight=given.concurrency)
        clients = {
            "bytes": bytes_client(url, spec, http),
            "tandem": tandem_client(model),
            "bare": bare_client(url, spec, bare),
        }
        rows: dict[str, dict[int, list[dict[str, float]]]] = {name: {k: [] for k in ks} for name in clients}
        for client in clients.values():
            await once(client, max(ks), "warm", server, given)
        for turn in range(given.rounds):
            for k in ks if turn % 2 == 0 else reversed(ks):  # whatever drifts, drifts both ways
                for name, client in clients.items():
                    rows[name][k].append(await once(client, k, f"{name} {turn}.{k}.", server, given))
        await model.aclose()
    found: dict[str, Any] = {}
    for name, of_client in rows.items():
        none = [row["tokens_per_second"] for row in of_client[0]]
        for k, turns in of_client.items():
            rates = [row["tokens_per_second"] for row in turns]
            found.setdefault(name, {})[str(k)] = {
                "tokens": [int(row["tokens"]) for row in turns],
                "tokens_per_second": rates,
                "ratio": statistics.median(a / b for a, b in zip(rates, none, strict=True)),
                "cpu_ms": {part: statistics.median(row[part] for row in turns) for part in CPU},
            }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m", help="a name of the catalog")
    parser.add_argument("--requests", type=int, default=32, help="for each client and k, in each round")
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=96, help="of an answer")
    parser.add_argument("--k", default="0,1,5,10,20")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found = asyncio.run(measure(given))
    if given.json:
        print(json.dumps(found))
        return
    print("client   k  tokens/s  over k=0   CPU ms for 1,000 tokens: " + ", ".join(CPU))
    for name, of_client in found.items():
        for k, row in of_client.items():
            rate, cpu = statistics.median(row["tokens_per_second"]), row["cpu_ms"]
            print(f"{name:6} {k:>3}  {rate:8.0f}  {row['ratio']:8.3f}   " + ", ".join(f"{cpu[p]:.0f}" for p in CPU))


if __name__ == "__main__":
    main()
