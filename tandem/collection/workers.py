"""The workers of a parallel collection: problems are assigned by id, and all workers share the same replicas.

A worker process reads its job from standard input and reports its progress on standard output. End of input means that
it should stop or that its parent is dead: it saves its work and exits.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from tandem.children import start_process
from tandem.collection.collector import CollectionProgress, Collector
from tandem.collection.plan import CollectionPlan, shard_of
from tandem.errors import TandemError
from tandem.grading import open_sandbox
from tandem.grading.sandbox import Kind
from tandem.ledger import Role
from tandem.models.base import Model
from tandem.models.load import load_model
from tandem.runs.work import work_through
from tandem.spec import ModelSpec
from tandem.storage.lock import FolderLock
from tandem.types import Problem

_PATIENCE = 60.0  # seconds for a worker to end its calls and save its work
_LINE = 1 << 20
_REPORT_EVERY = 0.5  # seconds


class ModelAt(BaseModel):
    """A model as a worker loads it: the spec probed by its parent, and the endpoint (or several) that serves it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    spec: ModelSpec
    found: dict[str, Any]  # what a spec has beside what a manifest shows of it
    endpoint: str | None = None
    timeout: float | None = None
    api_key_env: str | None = None

    def load(self, role: Role) -> Model:
        options: dict[str, Any] = {} if self.api_key_env is None else {"api_key_env": self.api_key_env}
        model = load_model(self.spec.name, role=role, endpoint=self.endpoint, timeout=self.timeout, **options)
        model.spec = self.spec.model_copy(update=self.found)
        return model


class WorkerJob(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    mentor: ModelAt
    intern: ModelAt
    plan: CollectionPlan
    out: Path
    shard: int
    problems: tuple[Problem, ...]
    concurrency: int
    max_seconds: float | None = None
    max_usd: float | None = None
    sandbox: Kind | None = None  # where code is graded


def shares(problems: Sequence[Problem], workers: int) -> list[list[Problem]]:
    """Return each worker's problems; a problem's worker does not depend on the other problems."""
    parts: list[list[Problem]] = [[] for _ in range(workers)]
    for problem in problems:
        parts[shard_of(problem.id, workers)].append(problem)
    return parts


async def collect_parallel(
    jobs: Sequence[WorkerJob], lock: FolderLock, report: Callable[[CollectionProgress], None] | None = None
) -> CollectionProgress:
    """Run the jobs, each in its own process, and return the summed progress.

    The processes share this one's folder lock, so that no other process writes there while one of them is alive.
    Raises TandemError with the first worker's error; the others are then stopped. Cancelling stops all of them, and
    their work is saved.
    """
    states = [CollectionProgress() for _ in jobs]

    def update(number: int, state: CollectionProgress) -> None:
        states[number] = state
        if report:
            report(CollectionProgress.total(states))

    workers = [_Worker(number, job, update) for number, job in enumerate(jobs) if job.problems]
    await work_through(workers, lambda worker: worker.run(lock), concurrency=len(workers))
    return CollectionProgress.total(states)


class _Worker:
    def __init__(self, number: int, job: WorkerJob, update: Callable[[int, CollectionProgress], None]) -> None:
        self._number, self._job, self._update = number, job, update

    async def run(self, lock: FolderLock) -> None:
        process = await start_process(
            sys.executable,
            "-m",
            "tandem.collection.workers",
            end=_end,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            pass_fds=(lock.fileno(),),
            start_new_session=True,  # Ctrl-C goes to the parent, which then stops its workers
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
        """Read the process's reports; raises TandemError if it fails."""
        async for line in lines:
            try:
                message: dict[str, Any] = json.loads(line)
                kind = message.pop("kind")
            except (ValueError, KeyError, TypeError):
                continue  # a print of some library
            if kind == "error":
                error = TandemError(message["error"])
                error.exit_code = message["exit_code"]
                raise error
            self._update(self._number, CollectionProgress(**message))
            if kind == "done":
                return
        raise TandemError(f"worker {self._number} ended without a report; run the same command again")


async def _end(process: asyncio.subprocess.Process) -> None:
    """Close a worker's input so that it ends; kill it if it does not."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        async with asyncio.timeout(_PATIENCE):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def _send(kind: str, fields: Mapping[str, Any]) -> None:
    """Send the parent a line, if it is alive."""
    with suppress(OSError, ValueError):
        print(json.dumps({"kind": kind, **fields}), flush=True)


async def _collect(job: WorkerJob, stop: asyncio.Event) -> CollectionProgress:
    sandbox = open_sandbox(job.sandbox) if job.sandbox else None
    mentor, intern = job.mentor.load("mentor"), job.intern.load("intern")
    try:
        await asyncio.gather(mentor.probe(), intern.probe())
        collector = Collector(mentor, intern, job.plan, job.out, shard=job.shard, max_usd=job.max_usd, sandbox=sandbox)

        async def report() -> None:
            while True:
                await asyncio.sleep(_REPORT_EVERY)
                _send("progress", asdict(collector.figures()))

        reporter = asyncio.create_task(report())
        work = asyncio.create_task(
            collector.collect(job.problems, concurrency=job.concurrency, max_seconds=job.max_seconds)
        )
        ended = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({work, ended}, return_when=asyncio.FIRST_COMPLETED)
            work.cancel()
            with suppress(asyncio.CancelledError):
                await work
        finally:
            reporter.cancel()
            ended.cancel()
        return collector.progress
    finally:
        await asyncio.gather(mentor.aclose(), intern.aclose())


async def _main() -> int:
    job = WorkerJob.model_validate_json(sys.stdin.buffer.readline())
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def wait_for_end() -> None:
        while os.read(0, 1 << 16):  # not sys.stdin: its lock would be held at interpreter exit
            pass
        with suppress(RuntimeError):  # the loop is closed: all work is done
            loop.call_soon_threadsafe(stop.set)

    threading.Thread(target=wait_for_end, daemon=True).start()
    try:
        progress = await _collect(job, stop)
    except TandemError as error:
        _send("error", {"error": str(error), "exit_code": error.exit_code})
        return 1
    _send("done", asdict(progress))
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(_main()))
