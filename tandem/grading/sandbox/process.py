"""One sandboxed process seen from its parent: starting it, and making sure that all of it is dead."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tandem.children import start_process
from tandem.grading.sandbox.launch import Launcher, Role


class SandboxProcess:
    """A running tester or candidate; `status` is the pipe on which bwrap reports the process inside."""

    def __init__(self, process: asyncio.subprocess.Process, status: int) -> None:
        self._process = process
        self._status = status

    @property
    def lines(self) -> asyncio.StreamReader:
        assert self._process.stdout is not None
        return self._process.stdout

    @classmethod
    async def start(
        cls, launcher: Launcher, role: Role, job: Mapping[str, Any], pipes: Sequence[int]
    ) -> SandboxProcess:
        """Start `role` with `job`. Raises OSError if no process can be made."""
        status, status_out = os.pipe()

        async def end(process: asyncio.subprocess.Process) -> None:
            unwanted = cls(process, os.dup(status))
            assert process.stdin is not None
            process.stdin.close()  # a survivor of the kill finds no job
            unwanted.kill()
            await unwanted.wait()

        try:
            process = await start_process(
                *launcher.command(role, status_out),
                end=end,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE if role == "tester" else asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                env=launcher.environment(),
                cwd="/",
                pass_fds=(*pipes, status_out) if launcher.kind == "bwrap" else pipes,
                start_new_session=True,
                limit=1 << 16,
            )
        except BaseException:
            os.close(status)
            raise
        finally:
            os.close(status_out)
        assert process.stdin is not None
        process.stdin.write(json.dumps({**job, "pipes": pipes, "limits": launcher.limits()}).encode())
        process.stdin.close()
        return cls(process, status)

    def kill(self) -> None:
        if self._process.returncode is None:
            inner = self._inner()
            with contextlib.suppress(ProcessLookupError):
                # bwrap ends by itself once the first process inside is gone, and then so are all others there.
                os.kill(inner, signal.SIGKILL) if inner else os.killpg(self._process.pid, signal.SIGKILL)

    async def wait(self) -> None:
        """Wait until none of its processes runs."""
        await self._process.wait()
        os.close(self._status)
        if self._process.stdout is not None:
            await self._process.stdout.read()

    def _inner(self) -> int:
        """Return the process id of the first process inside bwrap; 0 if there is none (yet)."""
        os.set_blocking(self._status, False)
        try:
            inner = int(json.loads(os.read(self._status, 4096))["child-pid"])
            process = Path(f"/proc/{inner}/status").read_text()
        except (OSError, ValueError, KeyError):
            return 0
        return inner if f"PPid:\t{self._process.pid}\n" in process else 0  # never another process
