"""The bench on which candidates are tried: every call is metered and kept, no answer is asked for twice."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from tandem.config import Settings
from tandem.errors import LimitReached, TandemError
from tandem.grading import Sandbox, grade
from tandem.insight import answer_messages
from tandem.ledger import Ledger, Purpose, Role
from tandem.models.base import Model
from tandem.models.call import Call, Recorder
from tandem.runs.budget import Budget
from tandem.runs.work import time_is_over, work_through
from tandem.strategies.blueprint import blueprint_messages
from tandem.strategies.context import Context
from tandem.sufficiency.blueprint_card import Candidate, Text
from tandem.training.blueprints.search import TrialAnswer
from tandem.types import Message, Problem

CALLS = "calls"  # a build's folder of answers
_Item = TypeVar("_Item")
_Given = TypeVar("_Given")
_Found = TypeVar("_Found")


@dataclass(slots=True)
class SearchProgress:
    """Progress of a build: the intern's answers so far and at most, the current phase, and the tokens written."""

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
        self._budget = Budget()
        self.texts: dict[str, Text] = {}  # blueprints by name
        self._outcomes: dict[tuple[str, str], TrialAnswer] = {}
        self._recorder, self._sandbox = recorder, sandbox
        self._concurrency = concurrency
        self._began, self._max_seconds = time.monotonic(), max_seconds
        self._report = report or (lambda progress: None)

    def doing(self, what: str) -> None:
        self.progress.doing = what
        self._report(self.progress)

    async def judge(
        self, candidates: Sequence[Candidate], problems: Sequence[Problem]
    ) -> Mapping[tuple[str, str], TrialAnswer]:
        """Return outcomes by candidate and problem; only those that are not known are asked for."""
        # Problem by problem, so that the candidates share what they know of it in the intern's cache.
        missing = [(c, p) for p in problems for c in candidates if (c.name, p.id) not in self._outcomes]
        texts = {name: text.text for name, text in self.texts.items()}
        asked = [(p, blueprint_messages(p, texts[c.blueprint] if c.blueprint else "", c)) for c, p in missing]
        for (c, p), answer in zip(missing, await self._answers("intern", asked), strict=True):
            self._outcomes[c.name, p.id] = answer
        return self._outcomes

    async def mentor_answers(self, problems: Sequence[Problem]) -> list[TrialAnswer]:
        """Return what the mentor answers alone, as strategy mentor-only asks it."""
        return await self._answers("mentor", [(problem, answer_messages(problem)) for problem in problems])

    async def write(self, requests: Sequence[Problem], max_tokens: int) -> list[Call]:
        async def one(request: Problem) -> Call:
            return await self._call("mentor", "insight", request, request.messages, max_tokens, Ledger())

        return await self._all(requests, one, _same)

    async def _answers(self, role: Role, asked: Sequence[tuple[Problem, tuple[Message, ...]]]) -> list[TrialAnswer]:
        async def one(item: tuple[Problem, tuple[Message, ...]]) -> tuple[Call, Ledger]:
            problem, messages = item
            ledger = Ledger()
            return await self._call(role, "answer", problem, messages, None, ledger), ledger

        async def judge(item: tuple[Problem, tuple[Message, ...]], given: tuple[Call, Ledger]) -> TrialAnswer:
            (problem, _), (call, ledger) = item, given
            right = await grade(problem, call.text, sandbox=self._sandbox)
            if right is None:
                raise TandemError(f"{problem.id} cannot be graded, so nothing can be learned from it")
            if role == "intern":
                self.progress.done += 1
                self._report(self.progress)
            usages = [entry.usage for entry in ledger.entries]
            return TrialAnswer(
                right=right,
                text=call.text,
                prompt_tokens=sum(usage.prompt for usage in usages),
                completion_tokens=sum(usage.completion for usage in usages),
                tflops=ledger.tflops,
                usd=ledger.usd,
            )

        return await self._all(asked, one, judge)

    async def _all(
        self,
        items: Sequence[_Item],
        one: Callable[[_Item], Awaitable[_Given]],
        then: Callable[[_Item, _Given], Awaitable[_Found]],
    ) -> list[_Found]:
        """Return what `then` makes of what `one` gave for each item, in their order.

        After an error, or when the time is up, no further call begins, and those in flight are read to their end, so
        that the recorder has them. Raises the first error, LimitReached for the time.
        """
        found: dict[int, _Found] = {}
        errors: list[TandemError] = []

        async def settle(place: tuple[int, _Item], given: _Given | TandemError) -> None:
            if isinstance(given, TandemError):
                errors.append(given)
            else:
                found[place[0]] = await then(place[1], given)

        stopped = await work_through(
            enumerate(items),
            lambda place: one(place[1]),
            settle,
            concurrency=self._concurrency,
            seconds=None if self._max_seconds is None else self._max_seconds - (time.monotonic() - self._began),
            give_up=1,
            cut=False,
        )
        if errors:
            raise errors[0]
        if stopped:
            raise LimitReached(stopped if self._max_seconds is None else time_is_over(self._max_seconds))
        return [found[place] for place in range(len(items))]

    async def _call(
        self,
        role: Role,
        purpose: Purpose,
        problem: Problem,
        messages: tuple[Message, ...],
        max_tokens: int | None,
        ledger: Ledger,
    ) -> Call:
        models = (self.mentor, self.intern)
        ctx = Context(problem, "blueprint", *models, self.settings, (), recorder=self._recorder, ledger=ledger)
        try:
            return await ctx.call(role, purpose, messages, max_tokens=max_tokens).complete()
        finally:
            self.ledger.entries.extend(ledger.entries)
            for entry in ledger.entries:
                self._budget.charge(entry)
            progress, budget = self.progress, self._budget
            progress.mentor_tokens, progress.intern_tokens = budget.tokens["mentor"], budget.tokens["intern"]
            progress.usd = budget.usd
            self._report(self.progress)


async def _same(_: object, given: _Given) -> _Given:
    return given
