"""Collecting in one process: many problems concurrently, each row saved as it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tandem.collection.plan import CollectionPlan
from tandem.collection.problem import ProblemWork, Tools
from tandem.collection.rows import Folder, shard_file
from tandem.collection.texts import Texts
from tandem.errors import CapabilityError, TandemError
from tandem.grading import Sandbox
from tandem.models.base import Model
from tandem.runs.journal import Journal
from tandem.runs.work import work_through
from tandem.spec import Continuation
from tandem.types import Problem

_HOPELESS = 20  # consecutive failures that suggest a general cause: a server is down, a key is wrong


@dataclass(slots=True)
class CollectionProgress:
    """Progress of this part of a collection: problems ended and failed, rows added, tokens written, US$."""

    ended: int = 0
    failed: int = 0
    rows: int = 0
    mentor_tokens: int = 0
    intern_tokens: int = 0
    usd: float | None = None
    stopped: str | None = None

    @classmethod
    def total(cls, parts: Iterable[CollectionProgress]) -> CollectionProgress:
        whole = cls()
        for part in parts:
            for name in ("ended", "failed", "rows", "mentor_tokens", "intern_tokens"):
                setattr(whole, name, getattr(whole, name) + getattr(part, name))
            if part.usd is not None:
                whole.usd = (whole.usd or 0.0) + part.usd
            whole.stopped = whole.stopped or part.stopped
        return whole


class Collector:
    def __init__(
        self,
        mentor: Model,
        intern: Model,
        plan: CollectionPlan,
        out: Path,
        *,
        shard: int | None = None,
        max_usd: float | None = None,
        sandbox: Sandbox | None = None,
    ) -> None:
        """The models must be probed. Code is graded in the `sandbox`; without one a problem with tests is an error.

        `shard` is this worker's number, None for a single one; `max_usd` is what it may still spend in the worst case.
        Raises CapabilityError for models that cannot do what the plan requires. The caller handles manifest and lock.
        """
        _need(mentor, intern, plan)
        self.folder = Folder(out, shard)
        self.progress = CollectionProgress()
        self._texts = Texts(out, shard)
        self._journal = Journal(out, name=shard_file(out, "calls", shard).name)
        if max_usd is not None:
            self._journal.budget.limit = self._journal.budget.spent + max_usd
        self._tools = Tools(mentor, intern, plan, self.folder, self._texts, self._journal, sandbox)
        self._before = len(self.folder)

    async def collect(
        self,
        problems: Sequence[Problem],
        *,
        concurrency: int = 32,
        max_seconds: float | None = None,
        report: Callable[[CollectionProgress], None] | None = None,
    ) -> CollectionProgress:
        """Collect the missing rows; `report` is called as problems end. Failed problems are in errors.jsonl.

        Stops at `max_seconds`, at the budget's end, or after too many consecutive failures; `stopped` says why. Raises
        TandemError if nothing can be written any more.
        """
        state = self.progress

        async def settle(problem: Problem, result: TandemError | None) -> None:
            state.ended += 1
            if result is not None:
                self.folder.fail(problem.id, str(result))
                state.failed += 1
            if report:
                report(self.figures())

        try:
            state.stopped = await work_through(
                problems,
                lambda problem: ProblemWork(self._tools, problem).carry_out(),
                settle,
                concurrency=concurrency,
                seconds=max_seconds,
                give_up=_HOPELESS,
            )
        finally:
            self.figures()
            for file in (self.folder, self._texts):
                file.close()
            self._journal.close_file()
        return state

    def figures(self) -> CollectionProgress:
        state, spent = self.progress, self._journal.budget
        state.rows = len(self.folder) - self._before
        state.mentor_tokens, state.intern_tokens = spent.tokens["mentor"], spent.tokens["intern"]
        state.usd = spent.usd
        return state


def _need(mentor: Model, intern: Model, plan: CollectionPlan) -> None:
    """Raise CapabilityError if the intern exposes no log-probabilities, or cannot continue the mentor's text."""
    spec = intern.spec
    asked = len(plan.ladder) > sum(level.is_answer for level in plan.ladder) or plan.hints
    if asked and not spec.logprobs:
        raise CapabilityError(f"{spec.name} exposes no log-probabilities, which the signals are made of")
    continued = plan.hints or (mentor.spec.insight_mode == "prefix" and plan.insight_levels)
    if continued and spec.continuation is not Continuation.NATIVE:
        raise CapabilityError(
            f"{spec.name} cannot continue the mentor's text, which {'hints' if plan.hints else 'prefixes'} need"
        )
