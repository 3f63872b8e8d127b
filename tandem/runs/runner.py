"""One run: a strategy over many problems, each graded and recorded as it ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from tandem.config import SolveOptions
from tandem.engine import Tandem
from tandem.errors import TandemError
from tandem.grading import Sandbox, grade
from tandem.ledger import Ledger
from tandem.models.call import Recorder
from tandem.runs.journal import Journal
from tandem.runs.store import RunStore
from tandem.runs.summary import Summary
from tandem.runs.work import Limits, work_through
from tandem.types import Problem, Solution

Progress = Callable[[dict[str, Any]], None]


async def run(
    tandem: Tandem,
    problems: Sequence[Problem],
    store: RunStore,
    *,
    options: SolveOptions | None = None,
    concurrency: int = 16,
    limits: Limits | None = None,
    sandbox: Sandbox | None = None,
    grading: bool = True,
    cache: Recorder | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Solve the problems without a good record in the store, and return the summary over all its records.

    A failed problem becomes a record with its error; only a failure to start (a model that cannot serve) or to write
    raises. `options` apply to every problem. A run that is cancelled or stopped by a limit keeps every finished call,
    and its summary says ``stopped``. Without a `sandbox` code answers are not graded, and no strategy runs code to
    choose among its answers; without `grading` nothing is graded. `progress` is called with each new record.
    """
    one = _Run(tandem, options, problems, store, limits or Limits(), sandbox, grading, progress)
    return await one.all(concurrency, cache)


class _Run:
    def __init__(
        self,
        tandem: Tandem,
        options: SolveOptions | None,
        problems: Sequence[Problem],
        store: RunStore,
        limits: Limits,
        sandbox: Sandbox | None,
        grading: bool,
        progress: Progress | None,
    ) -> None:
        self._tandem, self._options, self._plan = tandem, options, tandem.plan(options)
        self._problems, self._store, self._limits = problems, store, limits
        self._sandbox, self._grading, self._progress = sandbox, grading, progress
        self._stopped: str | None = None
        self._ready = False

    async def all(self, concurrency: int, cache: Recorder | None) -> dict[str, Any]:
        done = self._store.done()
        todo = [p for p in self._problems if p.id not in done]
        journal = Journal(self._store.folder, done=done, max_usd=self._limits.usd, cache=cache)
        self._stopped = "interrupted"  # until it is known
        try:
            if todo:
                await self._tandem.prepare(self._options)
                self._ready = True
                seen = (d for r in self._store.records() if r["error"] is None for d in r["trace"])
                await self._tandem.recall(seen, self._options)
                self._stopped = await work_through(
                    todo,
                    partial(self._tandem.asolve, options=self._options, recorder=journal, sandbox=self._sandbox),
                    lambda problem, result: self._settle(problem, result, journal),
                    concurrency=concurrency,
                    seconds=self._limits.seconds,
                )
            else:
                self._stopped = None
        finally:
            summary = self._summarise(journal)
            journal.close_file()
        return summary

    async def _settle(self, problem: Problem, result: Solution | TandemError, journal: Journal) -> None:
        if journal.fault:  # not this problem's failure: calls can no longer be recorded
            raise journal.fault
        error = None
        if isinstance(result, TandemError):
            error = str(result)
            ledger = result.ledger or Ledger()
            result = Solution.failed(problem.id, self._plan.strategy_name, ledger)
        correct = None
        if self._grading:
            try:
                correct = await grade(problem, "" if error else result.text, sandbox=self._sandbox)
            except TandemError as fault:  # a grader that fails on one problem must not end a long run
                correct, error = False, f"not graded: {fault}"
        record = {
            "problem": problem.id,
            "task": problem.task,
            "grader": problem.grader,
            "correct": correct,
            "reference": problem.reference,
            "error": error,
            **result.model_dump(mode="json", exclude={"problem_id"}),
            "metadata": dict(problem.metadata),
        }
        self._store.append(record)
        journal.forget(problem.id)
        if self._progress:
            self._progress(record)

    def _classifier(self) -> dict[str, Any] | None:
        """Return how the classifier matches, known once the models are loaded; else the value of an earlier part."""
        if self._ready:
            return self._plan.classifier_match
        try:
            before = self._store.summary() or {}
        except TandemError:  # a damaged summary, about to be rewritten
            before = {}
        return before.get("classifier")

    def _summarise(self, journal: Journal) -> dict[str, Any]:
        """Return and write the summary: of the problems' last records, and of costs outside them."""
        wanted = {p.id for p in self._problems}
        figures = Summary()
        recorded: set[tuple[str, str | None]] = set()
        for record in self._store.records():
            if record["problem"] in wanted:
                figures.add(record)
                recorded.update((e["call"], e["error"]) for e in record["ledger"]["entries"] if e.get("call"))
        outside = journal.outside(recorded)
        summary = figures.result(self._classifier()) | {
            "stopped": self._stopped,
            "given_again": journal.again,
            "lost": {
                "calls": len(outside.entries),
                "mentor_tokens": outside.mentor_tokens,
                "intern_tokens": outside.intern_tokens,
                "usd": outside.usd if outside.entries else 0.0,
                "usd_bound": outside.usd_bound if outside.entries else 0.0,
            },
        }
        self._store.finish(summary)
        return summary
