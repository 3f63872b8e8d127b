"""What thousands of requests that are open at once cost in memory.

python benchmarks/open_requests.py [--requests 4096] [--tokens 8] [--token-ms 8000] [--json]

A stub endpoint in a process of its own writes a token with 20 log-probabilities to all of its requests each
`--token-ms`. All requests are opened at once through a pooled model of one replica and read by metered calls, as a
run does. Printed is the memory of this process (resident, MB) when all of them are open, and at the most while they
are read to their end, over what it has after one such call (aim: below 300 MB for 4,096).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tandem.ledger import Ledger
from tandem.models.base import Request
from tandem.models.call import Call
from tandem.models.vllm.model import PooledModel
from tandem.spec import Continuation, ModelSpec
from tandem.types import Message

PROMPT = "A machine makes {n} parts an hour and every tenth is bad. How many good ones does it make in 8 hours? " * 8


def resident() -> float:
    """Return this process's memory in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


async def one(model: PooledModel, number: int, tokens: int, ledger: Ledger, begun: set[int]) -> int:
    """Make one call and read it to its end; return the tokens that came."""
    message = Message(role="user", content=PROMPT.format(n=number))
    request = Request((message,), "answer", tokens, top_logprobs=20, affinity=str(number))
    async with Call(model, request, "intern", ledger) as call:
        async for _ in call:
            begun.add(number)
    return call.tokens


async def measure(url: str, requests: int, tokens: int) -> dict[str, Any]:
    """Open all requests, and watch this process until they have ended."""
    spec = ModelSpec(name="stub", vocabulary=50_000, continuation=Continuation.NATIVE)
    model = PooledModel(spec, [url], max_in_flight=requests)
    ledger, begun = Ledger(), set[int]()
    await one(model, requests, 1, ledger, set())
    gc.collect()
    idle = resident()
    began = time.monotonic()
    calls = [asyncio.create_task(one(model, n, tokens, ledger, begun)) for n in range(requests)]
    all_open, most, open_after = 0.0, 0.0, 0.0
    while not all(call.done() for call in calls):
        most = max(most, resident())
        if not all_open and len(begun) == requests and not any(call.done() for call in calls):
            all_open, open_after = resident(), time.monotonic() - began
        await asyncio.sleep(0.1)
    received = sum(await asyncio.gather(*calls))
    await model.aclose()
    if not all_open:
        raise SystemExit("the first requests ended before the last were open: use a longer --token-ms")
    return {
        "requests": requests,
        "tokens": received,
        "failed": sum(entry.error is not None for entry in ledger),
        "seconds_to_all_open": round(open_after, 1),
        "idle_mb": round(idle, 1),
        "all_open_mb_over_idle": round(all_open - idle, 1),
        "most_mb_over_idle": round(most - idle, 1),
        "kb_per_request": round((most - idle) * 1e3 / requests, 1),
    }


async def serve(tokens: int, seconds: float) -> None:
    """Answer chats for ever, all of them at one pace: one timer, so that the server can keep thousands open."""
    from stub import Reply, sse

    frames, tail = sse.frames(Reply(tokens=(" word",) * tokens), "stub", 20, "all")
    tick = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                if "content-length:" not in head:  # the pool asks whether the server is well
                    writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
                    continue
                body = json.loads(await reader.readexactly(int(head.partition("content-length:")[2].split()[0])))
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
                )
                for frame in frames[: body["max_tokens"]]:
                    await tick.wait()
                    writer.write(frame)
                writer.write(tail)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=4096)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    while True:
        await asyncio.sleep(seconds)
        tick.set()
        tick.clear()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=4096)
    parser.add_argument("--tokens", type=int, default=8)
    parser.add_argument("--token-ms", type=float, default=8000.0)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    files = args.requests + 256
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < files:
        raise SystemExit(f"{files} open files are needed, and {hard} allowed: raise the limit (ulimit -n)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    if args.serve:
        sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
        asyncio.run(serve(args.tokens, args.token_ms / 1e3))
    command = [sys.executable, __file__, "--serve", *sys.argv[1:]]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as stub:
        try:
            assert stub.stdout is not None
            found = asyncio.run(measure(stub.stdout.readline().strip(), args.requests, args.tokens))
        finally:
            stub.terminate()
    if args.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name.replace('_', ' '):>24}  {value}")


if __name__ == "__main__":
    main()
