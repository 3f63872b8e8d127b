"""Connections that ask for nothing: a limit on how many there are, and time-outs for headers, bodies and idle sockets.

Without them a few hundred sockets that send nothing, or a byte now and then, take every descriptor of the process.
"""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

HEADERS = 20.0  # seconds from a connection, or the answer before, until a request's headers are there
BODY = 60.0  # seconds until its body is there
_RESERVED = 64  # descriptors for models behind this server, files and pipes
_FEWEST, _MOST = 16, 4096


def room(limit: int | None = None) -> tuple[int, int]:
    """Return how many connections the process has descriptors for, and how many may be accepted at once.

    `limit` is that on its descriptors, by default its own. The event loop accepts all that wait before it looks at one,
    and without a descriptor left it logs an error for each: so those have room of their own.
    """
    own = resource.getrlimit(resource.RLIMIT_NOFILE)[0] if limit is None else limit
    together = min(max((own - _RESERVED) // 4, _FEWEST // 2), 512)
    return min(max(own - _RESERVED - together, _FEWEST), _MOST), together


def limited(most: int) -> type[asyncio.Protocol]:
    """Return uvicorn's protocol with a limit: over it the connection that has asked for nothing the longest is closed.

    Where all of them are being answered, the new one is.
    """
    base: Any = AutoHTTPProtocol

    class LimitedProtocol(base):  # type: ignore[misc]
        def connection_made(self, transport: asyncio.Transport) -> None:
            self.since = time.monotonic()
            super().connection_made(transport)
            if len(self.connections) > most:
                idle = [one for one in self.connections if state(one) != "answering"]
                late = min(idle, key=lambda one: one.since, default=self)
                self.connections.discard(late)  # its end comes later: the next one must not find it again
                late.transport.abort()

    return LimitedProtocol


def state(connection: Any) -> str:
    """Return what a connection does: it is `waiting` for headers, `reading` a body, or `answering`."""
    cycle = connection.cycle
    if cycle is None or cycle.response_complete:
        return "waiting"
    return "reading" if cycle.more_body else "answering"


class Sweeper:
    """Closes connections that stay too long in one state."""

    def __init__(self, *, headers: float = HEADERS, body: float = BODY, clock: Callable[[], float] = time.monotonic):
        self._limits = {"waiting": headers, "reading": body}
        self._clock = clock
        self._seen: dict[Any, tuple[str, Any, float]] = {}  # by connection: its state, its request, since when

    def sweep(self, connections: set[Any]) -> int:
        """Look at all connections, close the late ones, and return how many those were."""
        now, seen, closed = self._clock(), {}, 0
        for one in list(connections):
            here = state(one), one.cycle
            before = self._seen.get(one)
            since = before[2] if before and before[:2] == here else now
            seen[one] = (*here, since)
            if now - since > self._limits.get(here[0], float("inf")):
                one.transport.abort()
                closed += 1
        self._seen = seen
        return closed

    async def run(self, connections: set[Any], pause: float = 1.0) -> None:
        while True:
            self.sweep(connections)
            await asyncio.sleep(pause)
