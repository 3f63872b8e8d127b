"""The bench on which candidates are tried: every call is metered and kept, no answer is asked for twice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from tandem.config import Settings
from tandem.errors import LimitReached, TandemError
from tandem.grading import Sandbox, grade
from tandem.insight import answer_messages
from tandem.ledger import Ledger, Purpose, Role
from tandem.models.base import Model
from tandem.models.call import Call, Recorder
from tandem.strategies.blueprint import blueprint_messages
from tandem.strategies.context import Context
from tandem.sufficiency.blueprint_card import Candidate, Text
from tandem.training.blueprints.search import TrialAnswer
from tandem.types import Message, Problem

CALLS = "calls"  # a build's folder of answers
_T = TypeVar("_T")


@dataclass(slots=True)
class SearchProgress:
    """How far a build is: intern's answers done of those that it takes at most, what goes on, tokens written now."""

    done: int = 0
    total: int = 0
    doing: str = ""
    mentor_tokens: int = 0
    intern_tokens: int = 0
    usd: float | None = None


class Bench:
    """Both models, at most `concurrency` calls at once, none begun after `max_seconds`.

    `recorder` keeps whole answers, so that a build which was stopped asks for none of them again; `ledger` charges
    them all the same.
    """

    def __init__(
        self,
        mentor: Model,
        intern: Model,
        settings: Settings,
        *,
        recorder: Recorder | None = None,
        sandbox: Sandbox | None = None,
        concurrency: int = 16,
        max_seconds: float | None = None,
        report: Callable[[SearchProgress], None] | None = None,
    ) -> None:
        self.mentor, self.intern, self.settings = mentor, intern, settings
        self.ledger, self.progress = Ledger(), SearchProgress()
        self.texts: dict[str, Text] = {}  # blueprints by name
        self._outcomes: dict[tuple[str, str], TrialAnswer] = {}
        self._recorder, self._sandbox = recorder, sandbox
        self._room = asyncio.Semaphore(concurrency)
        self._deadline = None if max_seconds is None else time.monotonic() + max_seconds
        self._report = report or (lambda progress: None)
        self._failed = False

    def doing(self, what: str) -> None:
        """Say what goes on now."""
        self.progress.doing = what
        self._report(self.progress)

    async def judge(
        self, candidates: Sequence[Candidate], problems: Sequence[Problem]
    ) -> Mapping[tuple[str, str], TrialAnswer]:
        """Return outcomes by candidate and problem; only those that are not known are asked for."""
        # Problem by problem, so that the candidates share what they know of it in the intern's cache.
        missing = [(c, p) for p in problems for c in candidates if (c.name, p.id) not in self._outcomes]
        await self.all([self._answer(c, p) for c, p in missing])
        return self._outcomes

    async def mentor_answer(self, problem: Problem) -> TrialAnswer:
        """Return what the mentor answers alone, as strategy mentor-only asks it."""
        return await self._judged("mentor", problem, answer_messages(problem))

    async def write(self, name: str, problem: Problem, max_tokens: int) -> Call:
        """Return the ended call in which the mentor wrote a blueprint."""
        return await self._call("mentor", "insight", problem, problem.messages, max_tokens, Ledger())

    async def all(self, jobs: Sequence[Coroutine[Any, Any, _T]]) -> list[_T]:
        """Carry out jobs side by side. The first error stops those that wait; those in flight are read to their end."""
        ended = await asyncio.gather(*jobs, return_exceptions=True)
        errors = [one for one in ended if isinstance(one, BaseException)]
        for error in sorted(errors, key=lambda one: isinstance(one, LimitReached)):
            raise error
        return [one for one in ended if not isinstance(one, BaseException)]

    async def _answer(self, candidate: Candidate, problem: Problem) -> None:
        text = self.texts[candidate.blueprint].text if candidate.blueprint else ""
        messages = blueprint_messages(problem, text, candidate)
        self._outcomes[candidate.name, problem.id] = await self._judged("intern", problem, messages)
        self.progress.done += 1
        self._report(self.progress)

    async def _judged(self, role: Role, problem: Problem, messages: tuple[Message, ...]) -> TrialAnswer:
        ledger = Ledger()
        call = await self._call(role, "answer", problem, messages, None, ledger)
        right = await grade(problem, call.text, sandbox=self._sandbox)
        if right is None:
            raise TandemError(f"{problem.id} cannot be judged, so nothing can be learned from it")
        usages = [entry.usage for entry in ledger.entries]
        return TrialAnswer(
            right=right,
            text=call.text,
            prompt_tokens=sum(usage.prompt for usage in usages),
            completion_tokens=sum(usage.completion for usage in usages),
            tflops=ledger.tflops,
            usd=ledger.usd,
        )

    async def _call(
        self,
        role: Role,
        purpose: Purpose,
        problem: Problem,
        messages: tuple[Message, ...],
        max_tokens: int | None,
        ledger: Ledger,
    ) -> Call:
        async with self._room:
            if self._failed:
                raise LimitReached("another call failed")
            if self._deadline is not None and time.monotonic() > self._deadline:
                raise LimitReached("the time is up")
            ctx = Context(problem, "blueprint", self.mentor, self.intern, self.settings, (), recorder=self._recorder)
            ctx.ledger = ledger
            try:
                return await ctx.call(role, purpose, messages, max_tokens=max_tokens).complete()
            except TandemError:
                self._failed = True
                raise
            finally:
                self._book(ledger)

    def _book(self, ledger: Ledger) -> None:
        self.ledger.entries.extend(ledger.entries)
        for entry in ledger.entries:
            if not entry.paid:
                continue
            if entry.role == "mentor":
                self.progress.mentor_tokens += entry.usage.completion
            else:
                self.progress.intern_tokens += entry.usage.completion
            if entry.usd is not None:
                self.progress.usd = (self.progress.usd or 0.0) + entry.usd
        self._report(self.progress)
