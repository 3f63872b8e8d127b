"""A collection as a terminal sees it: models made ready, progress, the table at its end, and how to go on."""

from __future__ import annotations

import asyncio
import json
import shlex
import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from tandem.cli.collecting_view import CollectionView
from tandem.collection.added_signals import join_added
from tandem.collection.collector import CollectionProgress, Collector
from tandem.collection.folder import Folder, files
from tandem.collection.manifest import describe_collection, open_manifest, read_manifest
from tandem.collection.meter import spent
from tandem.collection.parallel import collect_parallel, shares
from tandem.collection.plan import CollectionPlan, Key, estimate
from tandem.collection.reuse import reuse, without_insight
from tandem.collection.table import export, export_parquet, public
from tandem.collection.texts import Texts
from tandem.collection.worker import ModelAt, WorkerJob
from tandem.engine import Tandem
from tandem.errors import MissingPackageError, TandemError, UsageError
from tandem.grading import Sandbox
from tandem.ledger import Role
from tandem.models.base import Model
from tandem.storage.jsonl import JsonlWriter
from tandem.storage.lock import FolderLock
from tandem.types import Problem

_ORPHANS = 10.0  # seconds that the workers of a killed collection may take to end


@dataclass(frozen=True, slots=True)
class Wishes:
    """How a collection is to be carried out."""

    out: Path
    table: Path
    concurrency: int
    workers: int | None = None  # None: this process alone
    max_minutes: float | None = None
    max_usd: float | None = None
    timeout: float | None = None  # seconds that an endpoint may send nothing
    endpoints: dict[Role, str | None] | None = None
    as_json: bool = False
    reuse: Path | None = None  # another collection, to take over from


class CollectionJob:
    """One part of a collection, from the models' start to the table."""

    def __init__(
        self,
        engine: Tandem,
        plan: CollectionPlan,
        problems: Sequence[Problem],
        datasets: list[dict[str, Any]],
        sandbox: Sandbox | None,
        wishes: Wishes,
    ) -> None:
        self._engine, self._plan, self._problems, self._datasets = engine, plan, problems, datasets
        self._sandbox, self._wishes = sandbox, wishes
        self._began = time.monotonic()
        self._last = CollectionProgress()
        self._view: CollectionView | None = None

    def estimate(self) -> dict[str, Any]:
        """Return what is missing and what it may cost, without asking a model."""
        out = self._wishes.out
        folder, known = Folder(out, write=False), Texts.known(out)
        others: set[Key] = set()
        if (source := self._wishes.reuse) is not None:
            others = set(filter(without_insight, Folder(source, write=False).keys()))
            known |= {name for name in Texts.known(source) if name[1] == "answer"}
        return estimate(
            self._plan,
            self._engine.mentor,
            self._engine.intern,
            self._problems,
            lambda key: key in folder or key in others,
            lambda problem, source: (problem, source) in known,
        )

    def carry_out(self) -> None:
        """Collect, write the table, print the summary, and say what is left to do.

        Raises TandemError if it cannot start or if problems failed, KeyboardInterrupt after Ctrl-C or SIGTERM.
        """
        out = self._wishes.out
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"cannot write {out}: {error.strerror}; take another --out") from None
        lock = _lock(out)
        try:
            _mend(out)
            self._view = CollectionView(self._missing())
            with self._view:
                try:
                    asyncio.run(self._run(lock))
                except (KeyboardInterrupt, asyncio.CancelledError):
                    self._last.stopped = "interrupted"
            self._finish()
        finally:
            lock.release()

    def _missing(self) -> list[Problem]:
        folder = Folder(self._wishes.out, write=False)
        return [p for p in self._problems if any(key not in folder for key in self._plan.keys(p.id))]

    async def _run(self, lock: FolderLock) -> None:
        task = asyncio.current_task()
        if task and threading.current_thread() is threading.main_thread():
            with suppress(NotImplementedError):  # Windows
                asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        assert self._view is not None
        todo, out = self._view.todo, self._wishes.out
        if not todo and read_manifest(out) is not None:
            return
        async with self._engine as engine:
            self._view.status("getting both models ready")
            await engine.prepare()
            manifest = describe_collection(self._plan, engine.mentor, engine.intern)
            manifest = open_manifest(out, manifest | {"datasets": self._datasets})
            if self._wishes.reuse is not None:
                wanted = {key for problem in todo for key in self._plan.keys(problem.id)}
                taken = reuse(self._wishes.reuse, out, manifest, wanted)
                self._view.status(f"{taken} rows taken over from {self._wishes.reuse}")
            self._view.status("")
            self._began = time.monotonic()
            await self._collect(todo, lock)

    async def _collect(self, todo: list[Problem], lock: FolderLock) -> None:
        wishes = self._wishes
        seconds = wishes.max_minutes * 60 if wishes.max_minutes else None
        left = None if wishes.max_usd is None else wishes.max_usd - spent(wishes.out)
        if left is not None and left <= 0:
            self._last.stopped = f"--max-usd {wishes.max_usd:g} is spent"
            return
        if wishes.workers:
            jobs = self._jobs(todo, wishes.workers, seconds, left)
            self._report(await collect_parallel(jobs, lock, self._report))
            return
        engine = self._engine
        collector = Collector(engine.mentor, engine.intern, self._plan, wishes.out, max_usd=left, sandbox=self._sandbox)
        self._last = collector.progress
        await collector.collect(todo, concurrency=wishes.concurrency, max_seconds=seconds, report=self._report)

    def _jobs(self, todo: list[Problem], workers: int, seconds: float | None, left: float | None) -> list[WorkerJob]:
        wishes = self._wishes
        mentor, intern = self._at("mentor"), self._at("intern")
        parts = shares(todo, workers)
        busy = sum(bool(part) for part in parts) or 1
        return [
            WorkerJob(
                mentor=mentor,
                intern=intern,
                plan=self._plan,
                out=wishes.out,
                shard=number,
                problems=tuple(part),
                concurrency=-(-wishes.concurrency // busy),
                max_seconds=seconds,
                max_usd=None if left is None else left / busy,
                sandbox=self._sandbox.kind if self._sandbox else None,
            )
            for number, part in enumerate(parts)
        ]

    def _at(self, role: Role) -> ModelAt:
        """Return where the workers find a model: at replicas that run here, or where it was given."""
        model: Model = self._engine.model(role)
        urls: list[str] = getattr(model, "urls", [])
        endpoint = ",".join(urls) or (self._wishes.endpoints or {}).get(role)
        key = getattr(model, "api_key_env", None)
        return ModelAt(spec=model.spec, endpoint=endpoint, timeout=self._wishes.timeout, api_key_env=key)

    def _report(self, progress: CollectionProgress) -> None:
        self._last = progress
        if self._view:
            self._view(progress)

    def _finish(self) -> None:
        """Write the table and say how it went."""
        wishes, last = self._wishes, self._last
        folder = Folder(wishes.out, write=False)
        table = join_added(map(public, folder.rows()), wishes.out)
        rows = export(table, wishes.table)
        tables = [str(wishes.table)]
        with suppress(MissingPackageError):
            parquet = wishes.table.with_name(wishes.table.name.removesuffix(".gz").removesuffix(".jsonl") + ".parquet")
            export_parquet(table, parquet)
            tables.append(str(parquet))
        left = len(self._missing())
        summary = {
            "folder": str(wishes.out),
            "tables": tables,
            "problems": len(self._problems),
            "problems_left": left,
            "rows_in_table": rows,
            "seconds": round(time.monotonic() - self._began, 1),
            **last.as_dict(),
        }
        if wishes.as_json:
            click.echo(json.dumps(summary))
        else:
            click.echo(f"{rows} rows in {' and '.join(tables)}", err=True)
        if last.stopped == "interrupted":
            click.echo(f"stopped; what is done is in {wishes.out}. Go on with {_again()}", err=True)
            raise KeyboardInterrupt
        if last.stopped:
            click.echo(f"stopped: {last.stopped}. Go on with {_again()}", err=True)
        if last.failed:
            raise TandemError(
                f"{last.failed} problems failed, see errors*.jsonl in {wishes.out}; to try them again: {_again()}"
            )


def _lock(out: Path) -> FolderLock:
    """Take the folder's lock; workers of a collection that was killed have a moment to end."""
    deadline = time.monotonic() + _ORPHANS
    while True:
        try:
            return FolderLock(out)
        except UsageError:
            if time.monotonic() > deadline or not _orphaned(out):
                raise
            time.sleep(0.1)


def _orphaned(out: Path) -> bool:
    """Whether the process that took the folder's lock is dead, so that only its workers hold it."""
    try:
        said = json.loads((out / "run.lock").read_text())
        return not Path(f"/proc/{said['pid']}").exists() and Path("/proc/self").exists()
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _mend(out: Path) -> None:
    """Take torn last lines off every file of a collection that was killed, before anybody else reads them."""
    for kind in ("rows", "texts", "calls"):
        for path in files(out, kind):
            JsonlWriter(path).close()


def _again() -> str:
    """Return the command to go on with; not one that shows a password."""
    words = sys.argv[1:]
    if any("://" in word and "@" in word for word in words):
        return "the same command"
    program = f"python {sys.argv[0]}" if sys.argv[0].endswith(".py") else "tandem"
    return f"the same command: {program} {shlex.join(words)}"
