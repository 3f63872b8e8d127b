"""One part of a collection, from the folder's lock to the table: by this process, or by workers."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tandem.collection.added_signals import join_added
from tandem.collection.collector import CollectionProgress, Collector
from tandem.collection.holdout import check_apart
from tandem.collection.manifest import describe_collection, open_manifest, read_manifest
from tandem.collection.plan import CollectionPlan, Key, estimate
from tandem.collection.reuse import reuse, without_insight
from tandem.collection.rows import Folder, export, export_parquet, files, public, spent
from tandem.collection.texts import Texts
from tandem.collection.workers import ModelAt, WorkerJob, collect_parallel, shares
from tandem.engine import Tandem
from tandem.errors import MissingPackageError, UsageError
from tandem.grading import Sandbox
from tandem.ladder import ANSWER
from tandem.ledger import Role
from tandem.models.base import Model
from tandem.runs.cut import CutAnswers, cut_warnings
from tandem.runs.work import Limits
from tandem.storage.jsonl import JsonlWriter
from tandem.storage.lock import FolderLock
from tandem.sufficiency.rows import BUDGET
from tandem.types import Problem

_ORPHANS = 10.0  # seconds for the workers of a killed collection to end


@dataclass(slots=True)
class CollectionJob:
    engine: Tandem
    plan: CollectionPlan
    problems: Sequence[Problem]
    datasets: list[dict[str, Any]]
    out: Path
    sandbox: Sandbox | None = None
    concurrency: int = 32
    workers: int | None = None  # None: this process alone
    limits: Limits = field(default_factory=Limits)
    timeout: float | None = None  # seconds of silence allowed from an endpoint
    endpoints: dict[Role, str | None] = field(default_factory=dict)
    reuse: Path | None = None  # another collection, to reuse rows from
    held: Sequence[Problem] = ()  # left out, for evaluation
    progress: CollectionProgress = field(default_factory=CollectionProgress)

    def estimate(self) -> dict[str, Any]:
        """Return the missing rows and their maximal cost, without calling a model."""
        folder, known = Folder(self.out, write=False), Texts.known(self.out)
        others: set[Key] = set()
        if self.reuse is not None:
            others = set(filter(without_insight, Folder(self.reuse, write=False).keys()))
            known |= {name for name in Texts.known(self.reuse) if name[1] == "answer"}
        return estimate(
            self.plan,
            self.engine.mentor,
            self.engine.intern,
            self.problems,
            lambda key: key in folder or key in others,
            lambda problem, source: (problem, source) in known,
        )

    @contextmanager
    def locked(self) -> Iterator[FolderLock]:
        """Hold the folder, which must be there, alone.

        Raises UsageError if another process does, or if a problem would be both collected and held out; TandemError
        for a folder that this version cannot read.
        """
        read_manifest(self.out)  # a folder that this version cannot read is not changed
        lock = _lock(self.out)
        try:
            for kind in ("rows", "texts", "calls"):  # torn last lines are removed before workers read them
                for path in files(self.out, kind):
                    JsonlWriter(path).close()
            collected = {key.problem for key in Folder(self.out, write=False).keys()}  # noqa: SIM118
            check_apart(self.out, collected, self.problems, self.held)
            yield lock
        finally:
            lock.release()

    def missing(self) -> list[Problem]:
        folder = Folder(self.out, write=False)
        return [p for p in self.problems if any(key not in folder for key in self.plan.keys(p.id))]

    def is_new(self) -> bool:
        return read_manifest(self.out) is None

    async def run(
        self, todo: list[Problem], lock: FolderLock, report: Callable[[CollectionProgress], None]
    ) -> CollectionProgress:
        """Collect; the models must be ready, and `lock` is the folder's.

        Raises UsageError if the folder (or the one to reuse) is of another collection, TandemError if nothing can be
        written any more; failed problems are in errors.jsonl.
        """

        def update(progress: CollectionProgress) -> None:
            self.progress = progress
            report(progress)

        usd = self.limits.usd
        left = None if usd is None else usd - spent(self.out)
        if left is not None and left <= 0:
            self.progress.stopped = f"--max-usd {usd:g} is spent"
        elif self.workers:
            jobs = self._shares(todo, self.workers, left)
            self.progress = await collect_parallel(jobs, lock, update)
        else:
            engine = self.engine
            models = engine.mentor, engine.intern
            collector = Collector(*models, self.plan, self.out, max_usd=left, sandbox=self.sandbox)
            self.progress = collector.progress
            seconds = self.limits.seconds
            await collector.collect(todo, concurrency=self.concurrency, max_seconds=seconds, report=update)
        return self.progress

    def begin(self, todo: list[Problem]) -> int:
        """Write or resume the manifest, and reuse rows of another collection; return the number of reused rows.

        The models must be ready. Raises UsageError as `open_manifest` and `reuse` do.
        """
        manifest = describe_collection(self.plan, self.engine.mentor, self.engine.intern)
        held = {"holdout": sorted(problem.id for problem in self.held)} if self.held else {}
        manifest = open_manifest(self.out, manifest | {"datasets": self.datasets} | held)
        if self.reuse is None:
            return 0
        wanted = {key for problem in todo for key in self.plan.keys(problem.id)}
        return reuse(self.reuse, self.out, manifest, wanted)

    def cut_warnings(self) -> list[str]:
        """Return a line for each role of whose collected answers more than 5 % were cut."""
        found = CutAnswers()
        for row in Folder(self.out, write=False).rows():
            if not row["level"].startswith(BUDGET):  # those are cut on purpose
                found.add("mentor" if row["level"] == ANSWER else "intern", bool(row.get("truncated")))
        caps: dict[Role, int] = {"mentor": self.plan.answer_cap, "intern": self.plan.max_tokens}
        return cut_warnings(found, caps, self.engine.models())

    def write_tables(self, table: Path) -> dict[str, Any]:
        """Write the table, also as Parquet if pyarrow is installed, and return the summary."""
        joined = join_added(map(public, Folder(self.out, write=False).rows()), self.out)
        rows, tables = export(joined, table), [str(table)]
        with suppress(MissingPackageError):
            parquet = table.with_name(table.name.removesuffix(".gz").removesuffix(".jsonl") + ".parquet")
            export_parquet(joined, parquet)
            tables.append(str(parquet))
        return {
            "folder": str(self.out),
            "tables": tables,
            "problems": len(self.problems),
            "problems_left": len(self.missing()),
            "rows_in_table": rows,
        }

    def _shares(self, todo: list[Problem], workers: int, left: float | None) -> list[WorkerJob]:
        mentor, intern = self._at("mentor"), self._at("intern")
        parts = shares(todo, workers)
        busy = sum(bool(part) for part in parts) or 1
        return [
            WorkerJob(
                mentor=mentor,
                intern=intern,
                plan=self.plan,
                out=self.out,
                shard=number,
                problems=tuple(part),
                concurrency=-(-self.concurrency // busy),
                max_seconds=self.limits.seconds,
                max_usd=None if left is None else left / busy,
                sandbox=self.sandbox.kind if self.sandbox else None,
            )
            for number, part in enumerate(parts)
        ]

    def _at(self, role: Role) -> ModelAt:
        """Return a model's address for the workers: replicas running here, or the given endpoint."""
        model: Model = self.engine.model(role)
        urls: list[str] = getattr(model, "urls", [])
        endpoint = ",".join(urls) or self.endpoints.get(role)
        key = getattr(model, "api_key_env", None)
        found = {name: getattr(model.spec, name) for name in ("token_ids", "thinks", "opens_thinking")}
        return ModelAt(spec=model.spec, found=found, endpoint=endpoint, timeout=self.timeout, api_key_env=key)


def _lock(out: Path) -> FolderLock:
    """Take the folder's lock; workers of a killed collection get a moment to end."""
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
        holder = json.loads((out / "run.lock").read_text())
        return not Path(f"/proc/{holder['pid']}").exists() and Path("/proc/self").exists()
    except (OSError, ValueError, KeyError, TypeError):
        return False
