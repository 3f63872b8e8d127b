"""Admission of requests: limits on concurrent and waiting requests; others get a Retry-After."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager

from tandem.server.errors import ApiError

_RECENT = 64  # recent requests, to estimate the wait


class Gate:
    """Admits requests. `running` and `waiting` count them; after `drain` no new one is admitted.

    `broken`: the time for those in flight is over too.
    """

    def __init__(self, concurrency: int, queue: int) -> None:
        self.running = self.waiting = 0
        self.draining = False
        self._concurrency, self._queue = concurrency, queue
        self._room = asyncio.Semaphore(concurrency)
        self._seconds: deque[float] = deque(maxlen=_RECENT)
        self.broken = False
        self._limits: set[asyncio.Timeout] = set()

    @asynccontextmanager
    async def enter(self) -> AsyncGenerator[None, None]:
        """Wait for a slot and hold it. Raises ApiError 429 if too many wait, 503 while the server shuts down."""
        self.check()
        self.waiting += 1
        try:
            await self._room.acquire()
        finally:
            self.waiting -= 1
        self.running += 1
        began = time.monotonic()
        try:
            yield
        finally:
            self.running -= 1
            self._seconds.append(time.monotonic() - began)
            self._room.release()

    def check(self) -> None:
        """Raise the error that `enter` would raise immediately."""
        if self.draining:
            raise ApiError(503, "this server is shutting down; use another one", retry_after=5)
        if self._room.locked() and self.waiting >= self._queue:
            usual = sum(self._seconds) / len(self._seconds) if self._seconds else 1.0
            wait = usual * (self.waiting + 1) / self._concurrency
            raise ApiError(
                429,
                f"{self.running} requests are being solved and {self.waiting} wait; try again later",
                code="overloaded",
                retry_after=min(max(wait, 1.0), 300.0),
            )

    def drain(self) -> None:
        self.draining = True

    @contextmanager
    def breaking(self, limit: asyncio.Timeout) -> Iterator[None]:
        """Let `break_off` end what runs under a time-out, at once."""
        if self.broken:
            limit.reschedule(0)
        self._limits.add(limit)
        try:
            yield
        finally:
            self._limits.discard(limit)

    def break_off(self) -> None:
        """End all that runs: each request then sends its error."""
        self.broken = self.draining = True
        for limit in self._limits:
            limit.reschedule(0)
