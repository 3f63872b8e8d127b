"""One run: a strategy over many problems, each graded and recorded as it ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from tandem.config import SolveOptions
from tandem.costs import Unit
from tandem.engine import Tandem
from tandem.errors import TandemError
from tandem.grading import Sandbox, grade
from tandem.ledger import Ledger
from tandem.models.call import Recorder
from tandem.plan import SolvePlan
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
    verdict: Callable[[SolvePlan, RunStore], Mapping[str, Any] | None] | None = None,
) -> dict[str, Any]:
    """Solve the problems without a good record in the store, and return the summary over all its records.

    A failed problem becomes a record with its error; only a failure to start (a model that cannot serve) or to write
    raises. `options` apply to every problem. A run that is cancelled or stopped by a limit keeps every finished call,
    and its summary says ``stopped``. Without a `sandbox` code answers are not graded, and no strategy runs code to
    choose among its answers; without `grading` nothing is graded. `progress` is called with each new record, `verdict`
    at the end, for what the summary says of the run against the mentor alone.
    """
    plan, limits = tandem.plan(options), limits or Limits()
    done = store.done()
    todo = [p for p in problems if p.id not in done]
    journal = Journal(store.folder, done=done, max_usd=limits.usd, cache=cache)
    stopped: str | None = "interrupted" if todo else None  # until it is known
    ready = False

    async def settle(problem: Problem, result: Solution | TandemError) -> None:
        if journal.fault:  # not this problem's failure: calls can no longer be recorded
            raise journal.fault
        error = None
        if isinstance(result, TandemError):
            error = str(result)
            result = Solution.failed(problem.id, plan.strategy_name, result.ledger or Ledger())
        correct = None
        if grading:
            try:
                correct = await grade(problem, "" if error else result.text, sandbox=sandbox)
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
        store.append(record)
        journal.forget(problem.id)
        if progress:
            progress(record)

    try:
        if todo:
            await tandem.prepare(options)
            ready = True
            await tandem.recall((r for r in store.records() if r["error"] is None), options)
            stopped = await work_through(
                todo,
                partial(tandem.asolve, options=options, recorder=journal, sandbox=sandbox),
                settle,
                concurrency=concurrency,
                seconds=limits.seconds,
            )
    finally:
        # How the classifier matches is known once the models are loaded.
        classifier = plan.classifier_match if ready else _earlier_classifier(store)
        summary = _summarise(store, {p.id for p in problems}, journal, classifier, stopped, plan.unit)
        if verdict:
            summary["verdict"] = verdict(plan, store)
        store.finish(summary)
        journal.close_file()
    return summary


def _earlier_classifier(store: RunStore) -> dict[str, Any] | None:
    try:
        before = store.summary() or {}
    except TandemError:  # a damaged summary, about to be rewritten
        before = {}
    return before.get("classifier")


def _summarise(
    store: RunStore,
    wanted: set[str],
    journal: Journal,
    classifier: dict[str, Any] | None,
    stopped: str | None,
    unit: Unit,
) -> dict[str, Any]:
    figures = Summary()
    recorded: set[tuple[str, str | None]] = set()
    for record in store.records():
        if record["problem"] in wanted:
            figures.add(record)
            recorded.update((e["call"], e["error"]) for e in record["ledger"]["entries"] if e.get("call"))
    outside = journal.outside(recorded)
    return figures.result(classifier, unit) | {
        "stopped": stopped,
        "given_again": journal.again,
        "lost": {
            "calls": len(outside.entries),
            "mentor_tokens": outside.mentor_tokens,
            "intern_tokens": outside.intern_tokens,
            "usd": outside.usd if outside.entries else 0.0,
            "usd_bound": outside.usd_bound if outside.entries else 0.0,
        },
    }
