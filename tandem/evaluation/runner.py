"""One run: a strategy over many problems, each graded and written down as it ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Any

from tandem.engine import Tandem
from tandem.errors import TandemError
from tandem.evaluation.statistics import summarise
from tandem.evaluation.store import RunStore
from tandem.grading import grade
from tandem.ledger import Ledger
from tandem.types import Problem, Solution

Progress = Callable[[dict[str, Any]], None]


async def run(
    tandem: Tandem,
    problems: Sequence[Problem],
    store: RunStore,
    *,
    concurrency: int = 16,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Solve what the store has no good record of, and return the summary over all its records.

    One failed problem is a record with its error; only a failure to start (a model that cannot serve) raises.
    `progress` is called with each new record.
    """
    before = [r for r in store.records() if r["error"] is None]
    done = {r["problem"] for r in before}
    todo = [p for p in problems if p.id not in done]
    try:
        if todo:
            await tandem.prepare()
            tandem.recall(decision for record in before for decision in record["trace"])
            results = tandem.asolve_many(todo, concurrency=concurrency)
            async with aclosing(results):
                async for index, result in results:
                    record = await _record(todo[index], result, tandem.strategy_name)
                    store.append(record)
                    if progress:
                        progress(record)
    finally:
        wanted = {p.id for p in problems}
        records = [r for r in store.records() if r["problem"] in wanted]
        summary = summarise(records, tandem.classifier_match)
        store.finish(summary)
    return summary


async def _record(problem: Problem, result: Solution | TandemError, strategy: str) -> dict[str, Any]:
    error = None
    if isinstance(result, TandemError):
        error = str(result)
        result = Solution.failed(problem.id, strategy, result.ledger or Ledger())
    correct = None
    if problem.reference is not None:
        correct = error is None and await grade(problem, result.text)
    return {
        "problem": problem.id,
        "correct": correct,
        "reference": problem.reference,
        "error": error,
        **result.model_dump(mode="json", exclude={"problem_id"}),
        "metadata": dict(problem.metadata),
    }
