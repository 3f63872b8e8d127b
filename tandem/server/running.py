"""Serving until a signal: then new requests are refused, those in flight are finished, and the models released."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from logging.handlers import QueueHandler, QueueListener
from types import FrameType

import uvicorn
from fastapi import FastAPI

from tandem.errors import UsageError
from tandem.server.connections import Sweeper, limited, room
from tandem.server.gate import Gate

_FAREWELL = 2  # seconds for the errors of requests that are broken off
_LAST_LINES = 1.0  # seconds for them to be written
_LINES = 10_000  # of the log that may wait for their reader


class _Server(uvicorn.Server):
    """Uvicorn's server, which refuses new requests for a moment before shutdown, so that a load balancer notices."""

    def __init__(
        self, config: uvicorn.Config, gate: Gate, notice: float, drain: float, started: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._gate, self._notice, self._drain, self._on_start = gate, notice, drain, started
        self._leaving: asyncio.Task[None] | None = None
        self._sweeping: asyncio.Task[None]

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._sweeping = asyncio.create_task(Sweeper().run(self.server_state.connections))
        self._on_start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._sweeping.cancel()
        over = asyncio.get_running_loop().call_later(self._drain, self._gate.break_off)
        try:
            await super().shutdown(sockets)
        finally:
            over.cancel()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Start draining at the first signal; a second one ends open requests with an error, a third one at once."""
        if self._gate.broken:
            for task in self.server_state.tasks:
                task.cancel()
            self._end(sig, frame)
        elif self._leaving is not None:
            self._leaving.cancel()
            self._gate.break_off()
            self._leaving = asyncio.get_running_loop().create_task(self._break(sig, frame))
        elif sig == signal.SIGINT and not self._gate.running:
            self._end(sig, frame)
        else:
            self._gate.drain()
            self._leaving = asyncio.get_running_loop().create_task(self._leave(sig, frame))

    async def _leave(self, sig: int, frame: FrameType | None) -> None:
        await asyncio.sleep(self._notice if self._gate.running else 0.0)
        self._end(sig, frame)

    async def _break(self, sig: int, frame: FrameType | None) -> None:
        """Let open requests send their errors, then end those that do not (a client may read nothing)."""
        began = time.monotonic()
        while self.server_state.tasks and time.monotonic() - began < _FAREWELL:  # noqa: ASYNC110 (uvicorn tells nobody)
            await asyncio.sleep(0.02)
        for task in self.server_state.tasks:
            task.cancel()
        self._end(sig, frame)

    def _end(self, sig: int, frame: FrameType | None) -> None:
        """Let uvicorn shut down. It would re-raise the signal afterwards, but SIGTERM has been handled: exit code 0."""
        if sig == signal.SIGINT:
            super().handle_exit(sig, frame)
        self.should_exit = True


@contextlib.contextmanager
def show_requests(access_log: bool) -> Iterator[None]:
    """Log each request to standard error in a line with its time, while the context is open."""
    logger = logging.getLogger("tandem.access")
    logger.setLevel(logging.INFO if access_log else logging.WARNING)
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    lines: queue.Queue[logging.LogRecord] = queue.Queue(_LINES)
    queued, listener = _Unhurried(lines), QueueListener(lines, handler)
    logger.addHandler(queued)
    logger.propagate = False
    listener.start()
    try:
        yield
    finally:
        logger.removeHandler(queued)
        logger.propagate = True
        ending = threading.Thread(target=listener.stop, daemon=True)  # which waits for ever where nobody reads the log
        ending.start()
        ending.join(_LAST_LINES)


class _Unhurried(QueueHandler):
    """Leaves writing to a thread and drops what does not fit: a log that nobody reads must not stop requests."""

    def enqueue(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(queue.Full):
            self.queue.put_nowait(record)


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket. Raises UsageError for an address that cannot be used."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Explicitly TCP, or asyncio leaves Nagle's algorithm on for its connections, which delays every answer by 40 ms.
    found = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((host, port))
    except OSError as error:
        found.close()
        reason = error.strerror or str(error)
        raise UsageError(f"cannot listen on {host}:{port}: {reason}; take another --host or --port") from None
    return found


def run(
    app: FastAPI,
    gate: Gate,
    listening: socket.socket,
    *,
    drain_seconds: float,
    notice: float = 2.0,
    started: Callable[[], None] = lambda: None,
) -> None:
    """Serve until SIGTERM or Ctrl-C; then requests in flight get up to `drain_seconds` to finish."""
    most, together = room()
    config = uvicorn.Config(
        app,
        http=limited(most),
        backlog=together,
        log_level="warning",
        access_log=False,
        lifespan="on",
        timeout_graceful_shutdown=int(drain_seconds) + _FAREWELL,
        timeout_keep_alive=30,
        server_header=False,
    )
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:  # uvloop's, where it is installed
        runner.run(_Server(config, gate, notice, drain_seconds, started).serve(sockets=[listening]))
