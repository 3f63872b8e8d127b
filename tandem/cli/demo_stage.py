"""What both models write while one problem is being solved, call by call: events alone do not say who wrote what."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import partial

from tandem.engine import Tandem
from tandem.ledger import Entry, Ledger, Purpose, Role
from tandem.models.base import Delta, Model, Request
from tandem.models.recorded import Recorded
from tandem.types import Decision, Event, Solution


@dataclass(slots=True)
class Block:
    role: Role
    purpose: Purpose
    text: str = ""
    tokens: int = 0
    closed: bool = False
    cut: bool = False  # it was closed before the model had ended
    error: str | None = None
    request: Request | None = None


@dataclass(slots=True)
class Stage:
    """One problem being solved: everything that a view shows. A `Recorder` that keeps nothing.

    `ledger` grows as calls end; what is in flight is in `blocks` alone. `speed` is in tokens a second (None: as they
    come).
    """

    strategy: str
    names: dict[Role, str]
    question: str
    speed: float | None = None
    note: str = ""  # where the view is not of something that happens now
    ledger: Ledger = field(default_factory=Ledger)
    blocks: list[Block] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    solution: Solution | None = None
    verdict: bool | None = None  # whether the answer is right, where that is known
    reference: str | None = None
    estimate: str | None = None  # what the mentor alone might have cost
    replayed: bool = False
    started: float = field(default_factory=time.monotonic)
    ended: float | None = None

    @property
    def seconds(self) -> float | None:
        """Seconds so far, those of a slowed view included; of a replay those that it took, at its end."""
        if self.replayed:
            return self.solution.seconds if self.solution else None
        return (self.ended or time.monotonic()) - self.started

    def restart(self) -> None:
        self.started = time.monotonic()

    def tokens(self, role: Role) -> int:
        return self.ledger.tokens(role) + sum(b.tokens for b in self.blocks if b.role == role and not b.closed)

    def take(self, event: Event) -> None:
        """Take up an event; text is not taken from events but from the calls."""
        if isinstance(event, Decision):
            self.decisions.append(event)
        elif isinstance(event, Solution):
            self.solution, self.ended = event, time.monotonic()

    def attach(self, engine: Tandem) -> None:
        """See what an engine's models write as it is read, slowed to `speed`; before its first problem."""
        for model in (engine.mentor, engine.intern):
            model.stream = partial(self._seen, model.stream)  # type: ignore[method-assign]

    async def _seen(
        self, stream: Callable[[Request], AsyncGenerator[Delta, None]], request: Request
    ) -> AsyncGenerator[Delta, None]:
        block = next((b for b in reversed(self.blocks) if b.request is request), None)
        async with aclosing(stream(request)) as deltas:
            async for delta in deltas:
                if block is not None:
                    block.text += delta.text
                    block.tokens += delta.tokens
                if self.speed and delta.tokens:
                    await asyncio.sleep(delta.tokens / self.speed)
                yield delta

    def find(self, model: Model, request: Request, occurrence: int) -> Recorded | None:
        return None

    async def turn(self, model: Model, request: Request, occurrence: int) -> None:
        """Wait for no other call."""

    async def open(self, model: Model, request: Request, role: Role, occurrence: int) -> str | None:
        block = Block(role, request.purpose, request=request)
        began = any(other.role == role and other.purpose == "insight" for other in self.blocks)
        if request.purpose == "insight" and isinstance(request.prefix, str) and not began:
            block.text = request.prefix  # how it had to begin; later prefixes are what it wrote before
        self.blocks.append(block)
        return str(len(self.blocks) - 1)

    def failed(self, number: str | None, request: Request, entry: Entry) -> None:
        """Nothing to show: the call goes on."""

    def close(
        self, number: str | None, model: Model, request: Request, occurrence: int, entry: Entry, given: Recorded | None
    ) -> None:
        block = self.blocks[int(number or 0)]
        block.purpose, block.tokens, block.error = entry.purpose, entry.usage.completion, entry.error
        block.cut = given is not None and given.finish_reason is None
        block.closed = True


def written(stage: Stage, role: Role) -> list[Block]:
    """Return the blocks of a role for a view: an insight that goes on in a further call is one text."""
    found: list[Block] = []
    for block in stage.blocks:
        if block.role != role:
            continue
        if found and block.purpose == found[-1].purpose == "insight":
            before = found[-1]
            found[-1] = replace(block, text=before.text + block.text, tokens=before.tokens + block.tokens)
        else:
            found.append(replace(block))
    return found
