"""Admission of requests: limits on concurrent and waiting requests; others get a Retry-After."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TypeVar

from tandem.server.errors import ApiError

T = TypeVar("T")
_RECENT = 64  # recent requests, to estimate the wait


class Limit:
    """The end of the time for a series of waits: one timer, as a time-out for each of many short ones is slow.

    Between two waits it may pass to another task.
    """

    def __init__(self) -> None:
        self.over = False
        self._waiting: asyncio.Task[object] | None = None
        self._cancelled = False

    def expire(self) -> None:
        """End the wait there is, and refuse all later ones."""
        self.over = True
        if self._waiting and not self._cancelled:
            self._cancelled = self._waiting.cancel()

    async def next(self, events: AsyncGenerator[T, None]) -> T:
        """Return the next event. Raises TimeoutError when the time is over, StopAsyncIteration behind the last."""
        if self.over:
            raise TimeoutError
        task = asyncio.current_task()
        assert task
        before, self._waiting = task.cancelling(), task
        try:
            return await anext(events)
        except asyncio.CancelledError:
            if self._ends(task) and task.cancelling() <= before:
                raise TimeoutError from None
            raise
        finally:
            self._waiting = None
            self._ends(task)

    def _ends(self, task: asyncio.Task[object]) -> bool:
        """Take back our own cancellation of the task, if there was one."""
        ours, self._cancelled = self._cancelled, False
        if ours:
            task.uncancel()
        return ours


class Seat:
    """A request's place: in the queue, then with a slot `since` then."""

    def __init__(self) -> None:
        self.since: float | None = None
        self.taking: asyncio.Task[None] | None = None

    async def taken(self) -> None:
        """Wait for the slot."""
        if self.taking is not None:
            await self.taking


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
        self._limits: set[Limit] = set()

    @asynccontextmanager
    async def enter(self) -> AsyncGenerator[Seat, None]:
        """Hold a place in the queue, and its slot once it is there: `Seat.taken` waits for that.

        Raises ApiError 429 if too many wait, 503 while the server shuts down.
        """
        self.check()
        seat = Seat()
        self.waiting += 1
        taking = None
        try:
            if self._room.locked():
                taking = asyncio.create_task(self._take(seat))
                seat.taking = taking
            else:
                await self._take(seat)
            yield seat
        finally:
            if taking is not None and not taking.done():
                taking.cancel()
                await asyncio.gather(taking, return_exceptions=True)
            if seat.since is None:  # nor was it ever, perhaps not even begun to be waited for
                self.waiting -= 1
            else:
                self.running -= 1
                self._seconds.append(time.monotonic() - seat.since)
                self._room.release()

    async def _take(self, seat: Seat) -> None:
        await self._room.acquire()
        self.waiting -= 1
        self.running += 1
        seat.since = time.monotonic()

    @asynccontextmanager
    async def further(self) -> AsyncGenerator[None, None]:
        """Wait for one more slot for a request that has one, behind those that wait for their first, and hold it."""
        await self._room.acquire()
        try:
            yield
        finally:
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
    def limit(self, deadline: float | None) -> Iterator[Limit]:
        """Open a limit that is over at the deadline (by the loop's clock; None: never) or when work is broken off."""
        limit = Limit()
        timer = None if deadline is None else asyncio.get_running_loop().call_at(deadline, limit.expire)
        if self.broken:
            limit.expire()
        self._limits.add(limit)
        try:
            yield limit
        finally:
            self._limits.discard(limit)
            if timer:
                timer.cancel()

    def break_off(self) -> None:
        """End all that runs: each request then sends its error."""
        self.broken = self.draining = True
        for limit in self._limits:
            limit.expire()
