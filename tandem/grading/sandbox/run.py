"""Running a candidate: two processes, two pipes between them, and a timeout."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from dataclasses import dataclass
from typing import cast

from tandem.errors import TandemError
from tandem.grading.sandbox.launch import Kind, Launcher, Role, explain
from tandem.grading.sandbox.process import SandboxProcess

SECONDS = 10.0
MEMORY = 1 << 30
START_SECONDS = 30.0  # for both processes to be ready, on a machine that is busy with models


@dataclass(frozen=True, slots=True)
class ProgramVerdict:
    """Whether a program passes its tests, and why not."""

    passed: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Submission:
    """A program and its tests: `prelude` before both, the rest as in CodeTests."""

    code: str
    tests: str
    entry_point: str = ""
    prelude: str = ""


class Sandbox:
    """Runs submissions, at most one for each processor at a time."""

    def __init__(self, launcher: Launcher, seconds: float) -> None:
        self.kind: Kind = launcher.kind
        self.seconds = seconds
        self._launcher = launcher
        self._slots: asyncio.Semaphore | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def run(self, submission: Submission, *, seconds: float | None = None) -> ProgramVerdict:
        """Run the tests against the program, for at most `seconds` (the sandbox's) from when both are ready.

        All its processes are dead when this returns or is cancelled. Raises TandemError if they do not start.
        """
        if self._slots is None or self._loop is not asyncio.get_running_loop():
            self._slots, self._loop = asyncio.Semaphore(os.cpu_count() or 1), asyncio.get_running_loop()
        async with self._slots:
            limit = self.seconds if seconds is None else seconds
            try:
                verdict = await self._once(submission, limit) or await self._once(submission, limit)
            except OSError as error:  # no descriptors or no processes left
                raise TandemError(f"the sandbox ({self.kind}) cannot start a process: {error}") from None
        if verdict is None:
            raise TandemError(f"the sandbox ({self.kind}) did not start within {START_SECONDS:g} s: tandem doctor")
        return verdict

    async def _once(self, submission: Submission, seconds: float) -> ProgramVerdict | None:
        """Return the verdict, or None if the processes were not ready in time."""
        calls_in, calls_out = os.pipe()
        replies_in, replies_out = os.pipe()
        job = {"prelude": submission.prelude, "entry_point": submission.entry_point}
        processes: list[SandboxProcess] = []
        try:
            try:
                for role, code, pipes in (
                    ("candidate", submission.code, (calls_in, replies_out)),
                    ("tester", submission.tests, (replies_in, calls_out)),
                ):
                    processes.append(
                        await SandboxProcess.start(self._launcher, cast(Role, role), {**job, "code": code}, pipes)
                    )
            finally:
                for end in (calls_in, calls_out, replies_in, replies_out):
                    os.close(end)
            return await _watch(processes[1].lines, seconds)
        finally:
            for process in processes:
                process.kill()
            for process in processes:
                await process.wait()


async def _watch(lines: asyncio.StreamReader, seconds: float) -> ProgramVerdict | None:
    try:
        ready = await asyncio.wait_for(lines.readline(), START_SECONDS)
    except TimeoutError:
        return None
    if ready != b"ready\n":
        return None
    try:
        found = json.loads(await asyncio.wait_for(lines.readline(), seconds))
        return ProgramVerdict(bool(found["passed"]), str(found["reason"]))
    except TimeoutError:
        return ProgramVerdict(False, f"not done after {seconds:g} s")
    except ValueError:
        return ProgramVerdict(False, "the tests were ended by a limit of the sandbox")


def open_sandbox(kind: Kind = "bwrap", *, seconds: float = SECONDS, memory: int = MEMORY) -> Sandbox:
    """Return a sandbox after one process was seen to start in it.

    `seconds` is the time on the clock for one submission, `memory` the bytes of address space of each of its two
    processes. Raises UsageError for an unknown kind, TandemError if this machine cannot run it, with what to do.
    """
    launcher = Launcher(kind, seconds=seconds, memory=memory)
    replies, writing = os.pipe()
    job = {"prelude": "", "code": "", "entry_point": "", "limits": launcher.limits()}
    try:
        reading = os.open(os.devnull, os.O_RDONLY)  # no tester: it ends once it is ready
        try:
            trial = subprocess.run(
                launcher.command("candidate"),
                input=json.dumps({**job, "pipes": (reading, writing)}).encode(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=launcher.environment(),
                cwd="/",
                pass_fds=(reading, writing),
                start_new_session=True,
                timeout=START_SECONDS,
                check=False,
            )
        finally:
            os.close(reading)
            os.close(writing)
        if b"ready" in os.read(replies, 4096):
            return Sandbox(launcher, seconds)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise explain(kind, str(error)) from None
    finally:
        os.close(replies)
    raise explain(kind, trial.stderr.decode(errors="replace"))
