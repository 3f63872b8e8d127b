"""The server as a process of its own: it prints its base URL and serves until it is stopped."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
from asyncio import StreamReader, StreamWriter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from stub import Reply, Seen, Stub


@dataclass
class Logged(Stub):
    """Writes down each chat as it begins and as it ends, so that a process that was killed has told what it did."""

    log: TextIO | None = None

    async def _chat(self, reply: Reply, seen: Seen, reader: StreamReader, writer: StreamWriter) -> bool:
        self._say({"begins": seen.body["messages"]})
        try:
            return await super()._chat(reply, seen, reader, writer)
        finally:
            bill = {"prompt": seen.billed_prompt, "completion": seen.billed_completion}
            self._say({"ends": seen.body["messages"], "how": seen.ended, **bill})
            self.seen.remove(seen)  # it may serve for long

    def _say(self, what: dict[str, Any]) -> None:
        if self.log is not None:
            self.log.write(json.dumps(what) + "\n")
            self.log.flush()


@contextlib.contextmanager
def written(path: Path | None) -> Iterator[TextIO | None]:
    if path is None:
        yield None
        return
    with path.open("a") as file:
        yield file


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--model", default="stub")
    parser.add_argument("--first-ms", type=float, default=50.0)
    parser.add_argument("--token-ms", type=float, default=5.0)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--hold", metavar="WORD", help="a question with this word gets two tokens and no end")
    parser.add_argument("--log", type=Path, help="a file for a line on each chat as it begins, and as it ends")
    args = parser.parse_args()
    words = tuple(f" word{i % 10}" for i in range(args.tokens))
    reply = Reply(tokens=words, first_delay=args.first_ms / 1e3, token_delay=args.token_ms / 1e3)

    def respond(body: dict[str, Any]) -> Reply:
        held = args.hold is not None and args.hold in body["messages"][-1]["content"]
        return replace(reply, fault="stall", fault_after=2) if held else reply

    models = [{"id": args.model, "object": "model"}]
    with written(args.log) as log:
        async with Logged(reply, respond=respond, models=models, host=args.host, port=args.port, log=log) as stub:
            print(stub.url, flush=True)
            await asyncio.Event().wait()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
