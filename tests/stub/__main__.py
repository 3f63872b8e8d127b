"""The server as a process of its own: it prints its base URL and serves until it is stopped."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from stub import Reply, Stub


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--model", default="stub")
    parser.add_argument("--first-ms", type=float, default=50.0)
    parser.add_argument("--token-ms", type=float, default=5.0)
    parser.add_argument("--tokens", type=int, default=128)
    args = parser.parse_args()
    words = tuple(f" word{i % 10}" for i in range(args.tokens))
    reply = Reply(tokens=words, first_delay=args.first_ms / 1e3, token_delay=args.token_ms / 1e3)
    async with Stub(reply, models=[{"id": args.model, "object": "model"}], host=args.host, port=args.port) as stub:
        print(stub.url, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
