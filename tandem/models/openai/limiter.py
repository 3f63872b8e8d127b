"""Adaptive limit on concurrent requests to an endpoint (additive increase, halved on refusal)."""

from __future__ import annotations

import asyncio
from collections import deque

_CAREFUL = 10


class Limiter:
    """A limit between 1 and `ceiling` on the requests in flight, for one event loop; waiters are served in order.

    A request refused for load (429, 503) halves it, once a round: requests that were in flight when it was halved do
    not halve it again. Nothing new is sent until all of those are answered, and then no more than were served at
    once, so that a storm is over after one round. Every `limit` requests that are let in while it is used up raise
    it by one; ten times as many are needed for the step that was one too many the last time.
    """

    def __init__(self, ceiling: int) -> None:
        self.ceiling = ceiling
        self.in_flight = 0
        self._limit = float(ceiling)
        self._wall = 0  # what was too many the last time
        self._round = 0
        self._settling = False  # the limit was halved, and older requests are not all answered yet
        self._unanswered = 0
        self._served = 0  # answered well, and still open
        self._most_served = 0  # in this round
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._resumes = 0.0  # the loop's time before which nothing is sent
        self._timer: asyncio.TimerHandle | None = None

    @property
    def limit(self) -> int:
        return int(self._limit)

    def slot(self) -> Slot:
        return Slot(self)

    async def enter(self) -> int:
        if self._waiting or not self._free():
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            self._wake()
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():  # already granted: pass it on
                    self.leave(answered=False, served=False)
                raise
        else:
            self._grant()
        return self._round

    def let_in(self) -> None:
        if self.in_flight >= self.limit:  # an unused limit proves nothing
            needed = self.limit * (_CAREFUL if self.limit + 1 == self._wall else 1)
            self._limit = min(self._limit + 1 / needed, self.ceiling)
        self._served += 1
        self._most_served = max(self._most_served, self._served)
        self._answered()

    def refused(self, round_: int, after: float | None) -> None:
        """Note that a request of a round was refused, with the seconds that all are asked to wait."""
        if after is not None:
            self._resumes = max(self._resumes, asyncio.get_running_loop().time() + after)
        if round_ == self._round:
            self._wall = self.limit
            self._limit = max(self._limit / 2, 1.0)
            self._round += 1
            self._settling = True
        self._answered()

    def leave(self, *, answered: bool, served: bool) -> None:
        self.in_flight -= 1
        self._served -= served
        if not answered:
            self._answered()
        self._wake()

    def _answered(self) -> None:
        self._unanswered -= 1
        if self._settling and not self._unanswered:
            if self._most_served:
                self._limit = min(self._limit, float(self._most_served))
                self._wall = self._most_served + 1
            self._settling, self._most_served = False, self._served
        self._wake()

    def _free(self) -> bool:
        paused = asyncio.get_running_loop().time() < self._resumes
        return not paused and not self._settling and self.in_flight < self.limit

    def _grant(self) -> None:
        self.in_flight += 1
        self._unanswered += 1

    def _wake(self) -> None:
        while self._waiting and self._free():
            turn = self._waiting.popleft()
            if not turn.done():
                self._grant()
                turn.set_result(None)
        loop = asyncio.get_running_loop()
        if self._waiting and self._timer is None and loop.time() < self._resumes:
            self._timer = loop.call_at(self._resumes, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._wake()


class Slot:
    """One request's slot. Report the endpoint's response: `let_in` or `refused`."""

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter
        self._round = 0
        self._answered = self._served = False

    async def __aenter__(self) -> Slot:
        self._round = await self._limiter.enter()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._limiter.leave(answered=self._answered, served=self._served)

    def let_in(self) -> None:
        self._answered = self._served = True
        self._limiter.let_in()

    def refused(self, after: float | None) -> None:
        """The endpoint is overloaded, and asks all requests to wait `after` seconds."""
        self._answered = True
        self._limiter.refused(self._round, after)
