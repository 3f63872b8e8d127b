"""The endpoints of the soak test: a mentor in this process, interns that are killed and come back, and their bills."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections import defaultdict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from soak_requests import HOLD, INTERN, MENTOR, REFUSED
from stub import Reply, Stub, busy


@dataclass
class Intern:
    """An endpoint as a process of its own."""

    log: Path
    port: int = 0
    url: str = ""

    async def start(self) -> None:
        """Serve, where it was before if it was."""
        options = ["--first-ms", "0", "--token-ms", "0", "--tokens", str(len(INTERN)), "--hold", HOLD]
        options += ["--model", "fake-intern", "--port", str(self.port), "--log", str(self.log)]
        tests, pipe = Path(__file__).parent, asyncio.subprocess.PIPE
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "stub", *options, cwd=tests, stdout=pipe
        )
        assert self.process.stdout
        self.url = (await self.process.stdout.readline()).decode().strip()
        self.port = int(self.url.removesuffix("/v1").rpartition(":")[2])

    async def kill(self) -> None:
        """End at once."""
        self.process.kill()
        await self.process.wait()

    @property
    def lines(self) -> list[dict[str, Any]]:
        """What it has written down."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    @property
    def open(self) -> int:
        """Chats that began and did not end."""
        return sum(1 if "begins" in line else -1 for line in self.lines)


@dataclass
class Bill:
    """What a request has cost one model, by the endpoints. `exact`: none of its calls was broken off."""

    prompt: int = 0
    completion: int = 0
    open: int = 0  # calls that began and did not end
    cut: int = 0

    def add(self, prompt: int, completion: int, how: str) -> None:
        """Add a call that ended."""
        self.prompt += prompt
        self.completion += completion
        self.cut += how == "cut"

    @property
    def exact(self) -> bool:
        """Whether every call was read to its end."""
        return not self.open and not self.cut


@dataclass
class Pair:
    """Both models' endpoints."""

    mentor: Stub
    interns: list[Intern]

    def bills(self) -> dict[str, dict[int | None, Bill]]:
        """Return what each request has cost by its number (None: what was not of the mix), for either model."""
        mentor, intern = defaultdict[int | None, Bill](Bill), defaultdict[int | None, Bill](Bill)
        for seen in self.mentor.chats:
            mentor[_number(seen.body["messages"])].add(seen.billed_prompt, seen.billed_completion, seen.ended)
        for line in (line for one in self.interns for line in one.lines):
            if "begins" in line:
                intern[_number(line["begins"])].open += 1
            else:
                bill = intern[_number(line["ends"])]
                bill.open -= 1
                bill.add(line["prompt"], line["completion"], line["how"])
        return {"mentor": mentor, "intern": intern}


@asynccontextmanager
async def soaked_pair(folder: Path) -> AsyncGenerator[Pair, None]:
    """Run a mentor and two interns."""
    interns = [Intern(folder / f"intern{number}.log") for number in range(2)]
    async with Stub(respond=_respond, models=[{"id": "fake-mentor"}], beyond=busy(0.1, "ms")) as mentor:
        try:
            await asyncio.gather(*(intern.start() for intern in interns))
            yield Pair(mentor, interns)
        finally:
            await asyncio.gather(*(intern.kill() for intern in interns if intern.url))


def _respond(body: dict[str, Any]) -> Reply:
    """Answer as the mentor, which goes on where a text of its own stops."""
    last = body["messages"][-1]["content"]
    if body.get("continue_final_message"):
        return Reply(tokens=MENTOR[last.count(" note") :] if " note" in last else (", 10",))
    if REFUSED in last:
        return Reply(tokens=MENTOR[:2], finish="content_filter")
    return Reply(tokens=MENTOR, fault="stall" if HOLD in last else None, fault_after=2)


def _number(messages: list[dict[str, Any]]) -> int | None:
    found = re.search(r"case (\d+)", " ".join(message["content"] for message in messages))
    return int(found[1]) if found else None
