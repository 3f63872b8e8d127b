"""Serving until a signal: then new requests are refused, those in flight are finished, and the models released."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import signal
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn
from fastapi import FastAPI

from tandem.errors import UsageError
from tandem.server.gate import Gate


class _Server(uvicorn.Server):
    """Uvicorn's server, which refuses new requests for a moment before shutdown, so that a load balancer notices."""

    def __init__(self, config: uvicorn.Config, gate: Gate, notice: float, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._gate, self._notice, self._on_start = gate, notice, started
        self._leaving: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_start()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Start draining at the first signal; a second one aborts open requests."""
        if self._leaving is not None:
            for task in [self._leaving, *self.server_state.tasks]:
                task.cancel()
            self._end(sig, frame)
        elif sig == signal.SIGINT and not self._gate.running:
            self._end(sig, frame)
        else:
            self._gate.drain()
            self._leaving = asyncio.get_running_loop().create_task(self._leave(sig, frame))

    async def _leave(self, sig: int, frame: FrameType | None) -> None:
        await asyncio.sleep(self._notice if self._gate.running else 0.0)
        self._end(sig, frame)

    def _end(self, sig: int, frame: FrameType | None) -> None:
        """Let uvicorn shut down. It would re-raise the signal afterwards, but SIGTERM has been handled: exit code 0."""
        if sig == signal.SIGINT:
            super().handle_exit(sig, frame)
        self.should_exit = True


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


def own_machine(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


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
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        lifespan="on",
        timeout_graceful_shutdown=int(drain_seconds),
        timeout_keep_alive=30,
        server_header=False,
    )
    asyncio.run(_Server(config, gate, notice, started).serve(sockets=[listening]))
