"""The workers of a parallel collection: each has the problems whose ids fall to it, all share the same replicas."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

from tandem.children import start_process
from tandem.collection.collector import CollectionProgress
from tandem.collection.plan import shard_of
from tandem.collection.worker import WorkerJob
from tandem.errors import TandemError
from tandem.storage.lock import FolderLock
from tandem.types import Problem

_PATIENCE = 60.0  # seconds for a worker to end its calls and write down what it has
_LINE = 1 << 20


def shares(problems: Sequence[Problem], workers: int) -> list[list[Problem]]:
    """Return each worker's problems; a problem goes to the same one whatever else there is."""
    parts: list[list[Problem]] = [[] for _ in range(workers)]
    for problem in problems:
        parts[shard_of(problem.id, workers)].append(problem)
    return parts


async def collect_parallel(
    jobs: Sequence[WorkerJob], lock: FolderLock, report: Callable[[CollectionProgress], None] | None = None
) -> CollectionProgress:
    """Run the jobs, each in a process of its own, and return their sum.

    The processes hold the folder's lock with this one, so that nobody else writes there while one of them is left.
    Raises TandemError with the first worker's error; the others are then stopped. Cancelling stops all of them, and
    what they had is written down.
    """
    states = [CollectionProgress() for _ in jobs]

    def update(number: int, state: CollectionProgress) -> None:
        states[number] = state
        if report:
            report(CollectionProgress.total(states))

    workers = [_Worker(number, job, update) for number, job in enumerate(jobs) if job.problems]
    try:
        async with asyncio.TaskGroup() as group:
            for worker in workers:
                group.create_task(worker.run(lock))
    except BaseExceptionGroup as several:
        raise several.exceptions[0] from None
    return CollectionProgress.total(states)


class _Worker:
    def __init__(self, number: int, job: WorkerJob, update: Callable[[int, CollectionProgress], None]) -> None:
        self._number, self._job, self._update = number, job, update

    async def run(self, lock: FolderLock) -> None:
        """Run the process to its end."""
        process = await start_process(
            sys.executable,
            "-m",
            "tandem.collection.worker",
            end=_end,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            pass_fds=(lock.fileno(),),
            start_new_session=True,  # Ctrl-C is for the parent, which then asks its workers to stop
            limit=_LINE,
        )
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(self._job.model_dump_json().encode() + b"\n")
            await self._listen(process.stdout)
        except asyncio.CancelledError:
            process.stdin.close()
            async with asyncio.timeout(_PATIENCE):
                await self._listen(process.stdout)
            raise
        finally:
            await _end(process)

    async def _listen(self, lines: asyncio.StreamReader) -> None:
        """Take up what the process tells; raises TandemError if it fails."""
        async for line in lines:
            try:
                told: dict[str, Any] = json.loads(line)
                kind = told.pop("kind")
            except (ValueError, KeyError, TypeError):
                continue  # somebody's print
            if kind == "error":
                error = TandemError(told["error"])
                error.exit_code = told["exit_code"]
                raise error
            self._update(self._number, CollectionProgress(**told))
            if kind == "done":
                return
        raise TandemError(f"worker {self._number} ended without a word; run the same command again")


async def _end(process: asyncio.subprocess.Process) -> None:
    """Let a worker end, which it does when nobody tells it anything any more; kill it if it does not."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        async with asyncio.timeout(_PATIENCE):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
