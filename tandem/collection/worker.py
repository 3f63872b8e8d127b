"""A worker process of a parallel collection: takes its job on standard input, tells its progress on standard output.

Its input's end means that it is to stop, or that its parent is dead: it writes down what it has and ends.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from tandem.collection.collector import CollectionProgress, Collector
from tandem.collection.plan import CollectionPlan
from tandem.errors import TandemError
from tandem.grading import open_sandbox
from tandem.grading.sandbox import Kind
from tandem.ledger import Role
from tandem.models.base import Model
from tandem.models.load import load_model
from tandem.spec import ModelSpec
from tandem.types import Problem

_SAY_EVERY = 0.5  # seconds


class ModelAt(BaseModel):
    """A model as a worker loads it: what its parent found out of it, and the endpoint (or several) that serves it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    spec: ModelSpec
    endpoint: str | None = None
    timeout: float | None = None
    api_key_env: str | None = None

    def load(self, role: Role) -> Model:
        """Return the model."""
        options: dict[str, Any] = {} if self.api_key_env is None else {"api_key_env": self.api_key_env}
        model = load_model(self.spec.name, role=role, endpoint=self.endpoint, timeout=self.timeout, **options)
        model.spec = self.spec
        return model


class WorkerJob(BaseModel):
    """One worker's share."""

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
    sandbox: Kind | None = None  # where code is judged


def say(kind: str, fields: Mapping[str, Any]) -> None:
    """Send the parent a line; one that is gone hears nothing."""
    with suppress(OSError, ValueError):
        print(json.dumps({"kind": kind, **fields}), flush=True)


async def carry_out(job: WorkerJob, stop: asyncio.Event) -> CollectionProgress:
    """Collect this worker's share until it is done or `stop` is set."""
    sandbox = open_sandbox(job.sandbox) if job.sandbox else None
    mentor, intern = job.mentor.load("mentor"), job.intern.load("intern")
    try:
        await asyncio.gather(mentor.probe(), intern.probe())
        collector = Collector(mentor, intern, job.plan, job.out, shard=job.shard, max_usd=job.max_usd, sandbox=sandbox)

        async def tell() -> None:
            while True:
                await asyncio.sleep(_SAY_EVERY)
                say("progress", collector.figures().as_dict())

        teller = asyncio.create_task(tell())
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
            teller.cancel()
            ended.cancel()
        return collector.progress
    finally:
        await asyncio.gather(mentor.aclose(), intern.aclose())


async def main() -> int:
    """Read the job, do it, and say how it ended."""
    job = WorkerJob.model_validate_json(sys.stdin.buffer.readline())
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def wait_for_end() -> None:
        while os.read(0, 1 << 16):  # not through sys.stdin, whose lock would be held at the interpreter's end
            pass
        with suppress(RuntimeError):  # the loop is closed: all is done
            loop.call_soon_threadsafe(stop.set)

    threading.Thread(target=wait_for_end, daemon=True).start()
    try:
        progress = await carry_out(job, stop)
    except TandemError as error:
        say("error", {"error": str(error), "exit_code": error.exit_code})
        return 1
    say("done", progress.as_dict())
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
