"""A minute of sockets that say nothing, and of slow ones: how `/healthz`, memory and the log of a server take it.

    python benchmarks/idle_sockets.py --idle 500 --slow 50 --seconds 60

Opens the sockets to a server of its own on fakes, and again those that it closes. The slow ones send a
byte of their headers a second. `/healthz` is asked over a connection of its own each time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from serve_process import ServeProcess, serve_process


async def hold(url: str, until: float, opened: list[int], *, slow: bool) -> None:
    """Keep a socket open until a time; open another when the server closes it."""
    address = urlsplit(url)
    while time.monotonic() < until:
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        opened[0] += 1
        head = iter(f"POST /v1/chat/completions HTTP/1.1\r\nHost: {address.netloc}\r\nX-Slow: {'x' * 1000}")
        try:
            async with asyncio.timeout(max(until - time.monotonic(), 0.01)):
                while slow and not reader.at_eof():
                    writer.write(next(head).encode())
                    await writer.drain()
                    await asyncio.sleep(1.0)
                await reader.read()
        except (TimeoutError, OSError):
            pass
        writer.close()


async def measure(serving: ServeProcess, idle: int, slow: int, seconds: float) -> dict[str, object]:
    """Return the figures of one run."""
    url, until, opened = serving.url, time.monotonic() + seconds, [0]
    before, lines = serving.memory(), len(serving.log.read_text().splitlines())
    sockets = [asyncio.create_task(hold(url, until, opened, slow=number >= idle)) for number in range(idle + slow)]
    taken, most = [], before
    async with httpx.AsyncClient(trust_env=False, timeout=30, headers={"Connection": "close"}) as client:
        while time.monotonic() < until:
            began = time.perf_counter()
            (await client.get(f"{url}/healthz")).raise_for_status()
            taken.append(1000 * (time.perf_counter() - began))
            most = max(most, serving.memory())
            await asyncio.sleep(0.2)
    await asyncio.gather(*sockets)
    return {
        "sockets opened": opened[0],
        "healthz": {"asked": len(taken), "p50 ms": round(statistics.median(taken), 1), "most ms": round(max(taken), 1)},
        "memory MB": {"before": round(before, 1), "most": round(most, 1), "after": round(serving.memory(), 1)},
        "log lines": len(serving.log.read_text().splitlines()) - lines,
    }


async def run(given: argparse.Namespace) -> dict[str, object]:
    """Start a server on fakes and measure."""
    with tempfile.TemporaryDirectory() as folder:
        async with serve_process(Path(folder), "--mentor", "fake", "--intern", "fake") as serving:
            return await measure(serving, given.idle, given.slow, given.seconds)


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--idle", type=int, default=500)
    parser.add_argument("--slow", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60.0)
    given = parser.parse_args()
    print(json.dumps(asyncio.run(run(given)), indent=1))


if __name__ == "__main__":
    main()
