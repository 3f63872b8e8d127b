"""One server process with all its children: started, watched until ready, ended completely."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

import httpx

from tandem.errors import EndpointError
from tandem.models.vllm import guard
from tandem.models.vllm.log import reason, shorten, stage

READY_SECONDS = 600.0
_LOOK = 0.25  # seconds between two looks at a process
_ANSWER = 1.0  # seconds for an answer during the start; the next look may find a better moment
_STOP = guard.GRACE + 5.0  # seconds after which a guard that hangs is not waited for

Progress = Callable[[str], None]


class ReplicaError(EndpointError):
    """A server did not start; `port_taken` if its port was the reason."""

    def __init__(self, message: str, *, port_taken: bool = False) -> None:
        super().__init__(message)
        self.port_taken = port_taken


class Replica:
    """A server on a port of this machine, in a session of its own under a guard, which ends it when we end.

    The server inherits our environment (with `env` on top), but no API key: it has no use for one, and with
    VLLM_API_KEY it would ask for it. `host` is the address of ours at which it listens.
    `log` is appended to; only its owner may read it.
    """

    def __init__(
        self, argv: Sequence[str], env: Mapping[str, str], port: int, log: Path, host: str = "127.0.0.1"
    ) -> None:
        self._origin = f"http://{host}:{port}"
        self.url = f"{self._origin}/v1"
        self.pid: int | None = None
        self.log = log
        self._argv = list(argv)
        self._env = {key: value for key, value in os.environ.items() if not key.endswith("_API_KEY")} | dict(env)
        self._begin = 0
        self._guard: subprocess.Popen[bytes] | None = None
        self._client: httpx.AsyncClient | None = None

    @property
    def session(self) -> int | None:
        """The guard's process id, which is the session of the server and its children."""
        return self._guard.pid if self._guard else None

    @property
    def alive(self) -> bool:
        """Whether the server runs; False only when nothing of it is left."""
        return self._guard is not None and self._guard.poll() is None

    async def start(self) -> None:
        line = await asyncio.to_thread(self._spawn().readline)
        self.pid = int(line) if line.strip() else None

    async def wait_ready(
        self, within: float = READY_SECONDS, progress: Progress | None = None, name: str | None = None
    ) -> None:
        """Wait until the server answers and, where it lists what it serves, serves `name`.

        Raises ReplicaError with the server's own reason and its log's path, if it ends or takes more than `within`
        seconds; it is not stopped then. `progress` hears of each new stage.
        """
        deadline, at, seen = time.monotonic() + within, self._begin, "starting"
        if progress:
            progress(seen)
        while True:
            if not self.alive:
                why = self._why()
                taken = "address already in use" in why.lower()
                raise ReplicaError(f"{why}; its log: {self.log}", port_taken=taken)
            at, new = self._stage(at)
            if new and new != seen:
                seen = new
                if progress:
                    progress(seen)
            if await self._ready(name):
                return
            if time.monotonic() > deadline:
                raise ReplicaError(f"not ready after {within:g} s (last seen: {seen}); its log: {self.log}")
            await asyncio.sleep(_LOOK)

    async def ended(self) -> str:
        while self.alive:  # noqa: ASYNC110 (a process has no event)
            await asyncio.sleep(_LOOK)
        return f"{self._why()}; its log: {self.log}"

    async def healthy(self, within: float) -> bool:
        try:
            answer = await self._http().get(f"{self._origin}/health", timeout=within)
        except httpx.HTTPError:
            return False
        return answer.status_code == httpx.codes.OK

    def shorten_log(self) -> None:
        if shorten(self.log):
            self._begin = 0

    async def stop(self) -> None:
        """End the server and all that it started. Afterwards nothing of it is left."""
        process, client = self._guard, self._client
        self._client = None
        if client:
            await client.aclose()
        if process is None:
            return
        if process.poll() is None:
            process.terminate()  # beside the pipe's end, since a fork of ours may hold that open
        for pipe in (process.stdin, process.stdout):
            if pipe:
                pipe.close()
        deadline = time.monotonic() + _STOP
        while process.poll() is None and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        if process.poll() is None:
            process.kill()
            process.wait()
        await asyncio.to_thread(guard.kill_family, process.pid)  # there is none, unless the guard was killed

    def _spawn(self) -> IO[bytes]:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as log:
            self._begin = log.seek(0, os.SEEK_END)
            self._guard = subprocess.Popen(
                [sys.executable, "-I", guard.__file__, *self._argv],
                stdin=subprocess.PIPE,  # ends with us: the guard's cue
                stdout=subprocess.PIPE,
                stderr=log,
                env=self._env,
                start_new_session=True,
            )
        assert self._guard.stdout is not None
        return self._guard.stdout

    def _why(self) -> str:
        assert self._guard is not None
        code = self._guard.poll() or 0
        number = -code if code < 0 else code - 128
        killed = f"killed by {signal.Signals(number).name}" if number in set(signal.Signals) else ""
        if code == 128 + signal.SIGKILL:
            return f"the server was {killed} (out of memory?)"
        words = reason(self.log, self._begin)
        if words and not killed:
            return words
        return f"the server was {killed}" if killed else f"the server ended with status {code}"

    def _stage(self, at: int) -> tuple[int, str | None]:
        """Return how far the log has been read, and the last stage behind `at`."""
        found = None
        with self.log.open("rb") as log:
            log.seek(at)
            for line in log:
                if not line.endswith((b"\n", b"\r")):
                    break
                at += len(line)
                found = stage(line.decode(errors="replace")) or found
        return at, found

    async def _ready(self, name: str | None) -> bool:
        if not await self.healthy(_ANSWER):
            return False
        try:
            answer = await self._http().get(f"{self.url}/models", timeout=_ANSWER)
        except httpx.HTTPError:
            return False
        if answer.status_code in (401, 403):  # it wants a key of the user's choice; it is up
            return True
        if answer.status_code != httpx.codes.OK:
            return False
        served = [card.get("id") for card in answer.json().get("data", [])]
        # Another server may answer on our port while ours finds it taken and is about to end.
        return name is None or name in served

    def _http(self) -> httpx.AsyncClient:
        if self._client is None:
            self._client = httpx.AsyncClient(trust_env=False, verify=False)  # this machine, no proxy, no TLS
        return self._client
