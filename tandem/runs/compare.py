"""The runs of a comparison: several strategies at once over the same models, whose calls they share."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tandem.config import SolveOptions
from tandem.engine import Tandem
from tandem.errors import CapabilityError, LimitReached, UsageError
from tandem.grading import Sandbox
from tandem.models.shared import SharedCalls
from tandem.runs.leakage import refuse_seen
from tandem.runs.manifest import describe_run
from tandem.runs.runner import Progress, run
from tandem.runs.store import RunStore
from tandem.runs.strategy_list import folders_of
from tandem.runs.work import Limits, work_through
from tandem.spec import Continuation
from tandem.storage.files import write_whole
from tandem.types import Problem

SHARED, PROBLEMS = "shared", "problems.jsonl"
# Shows one strategy's run: its name, its store and how many problems there are; gives what to call at each record.
Show = Callable[[str, RunStore, int], AbstractContextManager[Progress]]


@dataclass(frozen=True, slots=True)
class Comparison:
    """What all runs of a comparison have in common."""

    folder: Path
    data: Mapping[str, Any]
    problems: Sequence[Problem]
    endpoints: Mapping[str, str | None]
    concurrency: int = 16  # problems at once, in each run
    at_once: int = 4  # runs
    limits: Limits = field(default_factory=Limits)
    sandbox: Sandbox | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """One strategy of a comparison: where its run lies; `reason` says why there is none."""

    name: str
    folder: str
    reason: str | None = None
    offline: Mapping[str, Any] | None = None


async def carry_out(engine: Tandem, names: Sequence[str], job: Comparison, show: Show) -> list[Part]:
    """Run every strategy that this pair can run, and return them all with why some were left out.

    `engine` is over both models. What was done before is not done again. A limit ends
    the comparison: no further run begins. Raises TandemError where a model cannot serve at all.
    """
    await engine.prepare()
    work = _Work(engine, job, show, folders_of(names))
    write_problems(job.folder, job.problems)
    # One at a time can keep within a sum.
    await work_through(names, work.run, concurrency=job.at_once if job.limits.usd is None else 1)
    return [work.parts[name] for name in names if name in work.parts]


class _Work:
    """The runs, which share calls, money and time."""

    def __init__(self, engine: Tandem, job: Comparison, show: Show, folders: Mapping[str, str]) -> None:
        self._engine, self._job, self._show, self._folders = engine, job, show, folders
        self._shared = SharedCalls(job.folder / SHARED)
        self._ends = None if job.limits.seconds is None else time.monotonic() + job.limits.seconds
        self._usd = job.limits.usd
        self.parts: dict[str, Part] = {}

    async def run(self, name: str) -> None:
        """Run one strategy. Raises LimitReached where a limit ended its run: no further one begins."""
        job, folder = self._job, self._folders[name]
        try:
            options = _options(self._engine, name)
            plan = self._engine.plan(options)
            await self._engine.prepare(options)
        except (UsageError, CapabilityError) as error:
            self.parts[name] = Part(name, folder, reason=str(error))
            return
        manifest = describe_run(plan, job.data, job.problems, job.endpoints)
        path = job.folder / folder
        store = RunStore.reopen(path, manifest) if (path / "run.json").is_file() else RunStore.create(path, manifest)
        with store, self._show(name, store, len(job.problems)) as progress:
            summary = await run(
                self._engine,
                job.problems,
                store,
                options=options,
                concurrency=job.concurrency,
                limits=self._limits(),
                sandbox=job.sandbox,
                cache=self._shared,
                progress=progress,
            )
        if self._usd is not None:
            self._usd -= (summary["usd_paid"] or 0.0) + (summary["lost"]["usd_bound"] or 0.0)
        self.parts[name] = Part(name, folder, offline=plan.offline)
        if summary["stopped"]:
            raise LimitReached(summary["stopped"])

    def _limits(self) -> Limits:
        seconds = None if self._ends is None else max(self._ends - time.monotonic(), 0.0)
        return Limits(None if self._usd is None else max(self._usd, 1e-9), seconds)


def _options(engine: Tandem, name: str) -> SolveOptions:
    """Return the options of one strategy. What is shared comes at once: an eager mentor would overshoot every time."""
    pace = engine.settings.pace
    if pace == "auto":
        pace = "eager" if engine.mentor.spec.continuation in (None, Continuation.NONE) else "thrifty"
    return SolveOptions(strategy=name, pace=pace, intern_logprobs=True)


def write_problems(folder: Path, problems: Sequence[Problem]) -> None:
    """Write the questions beside the runs, for the report; the folder is the user's own, and private."""
    lines = (json.dumps({"problem": p.id, "question": p.question}, ensure_ascii=False) + "\n" for p in problems)
    write_whole(folder / PROBLEMS, "".join(lines))


def check_unseen(engine: Tandem, names: Sequence[str], problems: Sequence[Problem]) -> None:
    """Raise UsageError for problems that a strategy's classifier or predictor was fitted on."""
    for name in names:
        try:
            plan = engine.plan(SolveOptions(strategy=name))
        except UsageError:
            continue  # it is skipped when its turn comes, with the reason
        refuse_seen(f"'{name}'", plan.saw, problems)
