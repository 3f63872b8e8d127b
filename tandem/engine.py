"""Tandem: names become models, a classifier and a strategy. The core is async; the sync face runs it in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from copy import copy
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError

from tandem.config import Backend, Pace, Serving, Settings
from tandem.errors import TandemError, UsageError
from tandem.grading import Sandbox
from tandem.ladder import Ladder, format_ladder
from tandem.ledger import Ledger, Role
from tandem.method import Method, Shelf
from tandem.models.base import Model
from tandem.models.call import Recorder
from tandem.models.load import load_model
from tandem.models.prices import load_prices, set_prices
from tandem.spec import InsightMode
from tandem.strategies import STRATEGIES, Context
from tandem.strategies.base import PlannedCall
from tandem.strategies.context import need_logprobs
from tandem.sufficiency.classifier import ClassifierCard
from tandem.sync import Question, SyncFace
from tandem.types import Event, Problem, Solution, TaskKind


class Tandem(SyncFace):
    """A mentor, an intern and a strategy, ready to solve problems.

    Nothing is loaded and no key is read before the first problem (or `prepare`). Close it, or use it as a (sync or
    async) context manager, to release the models.

    Example::

        tandem = Tandem(mentor="qwen2.5-coder-1.5b", intern="qwen2.5-coder-0.5b")
        print(tandem.solve("What is 17*23?"))
    """

    def __init__(
        self,
        mentor: str | Model,
        intern: str | Model,
        *,
        strategy: str = "tandem",
        effort: str | None = None,
        pace: Pace = "auto",
        draft_tokens: int | None = None,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int | None = None,
        mentor_max_tokens: int = 4096,
        intern_max_tokens: int = 4096,
        classifier: str | None = None,
        mentor_endpoint: str | None = None,
        intern_endpoint: str | None = None,
        mentor_parameters: float | None = None,
        intern_parameters: float | None = None,
        insight_mode: InsightMode | None = None,
        prices: str | Path | None = None,
        request_timeout: float | None = None,
        backend: Backend = "transformers",
        mentor_serving: Serving | None = None,
        intern_serving: Serving | None = None,
    ) -> None:
        """Take names (of the catalog, of a folder, of the hub; or `fake`) or models; raises UsageError for bad ones.

        `effort` is the ladder (``none,low=40,medium,high,answer``); None takes the classifier's own.
        `mentor_endpoint` and `intern_endpoint` are OpenAI-compatible base URLs. `insight_mode` is what the mentor
        writes for the intern: notes in four sections (``gpra``), or the beginning of its own answer (``prefix``); None
        takes what the catalog says of it. `prices` is a file of your own prices
        (see `load_prices`); one that names neither model is an error. `request_timeout` is how many seconds an endpoint
        may send nothing before the request is tried again (600 if None). `backend` is what runs local weights: this
        process (``transformers``), or vLLM replicas that it starts (``vllm``; ``auto``: where vLLM is installed) as
        `mentor_serving` and `intern_serving` say.
        """
        self.settings = _settings(
            effort=effort,
            pace=pace,
            draft_tokens=draft_tokens,
            sampling={"temperature": temperature, "top_p": top_p, "seed": seed},
            mentor_max_tokens=mentor_max_tokens,
            intern_max_tokens=intern_max_tokens,
            classifier=classifier,
        )
        placement = None
        if backend != "transformers":
            from tandem.models.vllm.served import Placement

            placement = Placement()
        common = {"timeout": request_timeout, "backend": backend, "placement": placement}
        self.mentor = _model(mentor, "mentor", mentor_endpoint, mentor_parameters, serving=mentor_serving, **common)
        if insight_mode is not None:
            self.mentor.spec = self.mentor.spec.model_copy(update={"insight_mode": insight_mode})
        self.intern = _model(intern, "intern", intern_endpoint, intern_parameters, serving=intern_serving, **common)
        if prices is not None:
            own = load_prices(prices)
            priced = [set_prices(model, own) for model in (self.mentor, self.intern)]
            if not any(priced):
                names = f"{self.mentor.spec.name} nor {self.intern.spec.name}"
                raise UsageError(f"the price file {prices} names neither {names}; it names {', '.join(own)}")
        self.recorder: Recorder | None = None  # writes every call down; a run sets its journal
        self.sandbox: Sandbox | None = None  # where a strategy may run the code of samples; a run sets its own
        self._method = Method(strategy, self.settings, self.mentor, self.intern, Shelf())
        self._shared = _Shared()
        self._prepared = False
        self._placement = placement
        self.want()

    def want(self, *roles: Role) -> None:
        """Make room, where vLLM replicas are started, for models that only variants will call; before `prepare`."""
        if self._placement:
            self._placement.wanted = {*self.roles, *roles}

    def variant(self, *, strategy: str | None = None, **changes: Any) -> Tandem:
        """Return an engine over the same models, with another strategy or other fields of `Settings`.

        Both keep their own settings, so that requests with different wishes run side by side; what is known of the
        models and of classifiers is shared, and closing one closes the models of both. Raises UsageError as the
        constructor does.
        """
        other = copy(self)
        other.settings = _settings(**{**self.settings.model_dump(), **changes})
        other._method = self._method.variant(strategy or self.strategy_name, other.settings)
        other._prepared = other._used_from_sync = False
        return other

    async def prepare(self) -> None:
        """Load or reach both models and match the classifier. Raises TandemError if one of them cannot serve."""
        if self._prepared:
            return
        method, shared = self._method, self._shared
        async with shared.preparing:
            missing = [role for role in self.roles if role not in shared.probed]
            probes = [self.model(role).probe() for role in missing]
            await asyncio.gather(method.load(), asyncio.gather(*probes))
            shared.probed.update(missing)
        await method.match()
        if method.strategy.needs_classifier:
            need_logprobs(self.intern, self.strategy_name)  # here, so that a run fails once and not per problem
        method.strategy.check(self.mentor, self.intern)
        self._prepared = True

    def recall(self, decisions: Iterable[Mapping[str, Any]]) -> None:
        """Take up the decisions of an earlier part of the same run; call it after `prepare`."""
        self._method.recall(decisions)

    @property
    def strategy_name(self) -> str:
        """The strategy as it was named."""
        return self._method.name

    @property
    def card(self) -> ClassifierCard | None:
        """The classifier's card, where the strategy needs a classifier."""
        return self._method.card

    @property
    def mismatch(self) -> list[str]:
        """What differs between the classifier's card and this use of it; known after `prepare`."""
        return self._method.mismatch

    @property
    def ladder(self) -> Ladder:
        """The levels that a problem may visit."""
        return self._method.ladder

    @property
    def budgets(self) -> dict[str, int]:
        """Mentor tokens of this pair's levels, where they are not the usual ones."""
        return self._method.budgets

    @property
    def draft_tokens(self) -> int | None:
        """Tokens of a draft; None: the whole answer, or no classifier that says."""
        return self._method.draft_tokens

    def describe(self) -> dict[str, Any]:
        """Return everything that decides what this engine answers, for a run's manifest; no secrets."""
        strategy = self._method.strategy
        way = strategy.adaptation(self.mentor.spec)
        described = {
            "strategy": self.strategy_name,
            "mentor": self.mentor.spec.model_dump(mode="json"),
            "intern": self.intern.spec.model_dump(mode="json"),
            "settings": self.settings.model_dump(mode="json"),
            "ladder": format_ladder(self.ladder),
            "draft_tokens": self.draft_tokens,
            "classifier": self.classifier_match,
            "predictor": self._method.learned,
        }
        return described | ({"way": way} if way else {})  # older manifests of the usual way have no such field

    def saw(self, problem_id: str) -> bool:
        """Whether the classifier or predictor that decides was fitted on this problem."""
        return self._method.saw(problem_id)

    @property
    def classifier_match(self) -> dict[str, Any] | None:
        """The classifier's id and how it matches: ``exact``, or what differs from its card."""
        if self.card is None:
            return None
        match = "exact" if not self.mismatch else f"uncalibrated: another {', '.join(self.mismatch)}"
        return {"id": self.card.id, "match": match}

    @property
    def offline(self) -> dict[str, Any] | None:
        """What the strategy cost before any problem, where it says so."""
        return self._method.strategy.offline()

    @property
    def roles(self) -> tuple[Role, ...]:
        """The models that the strategy calls; the others are not even loaded."""
        return self._method.strategy.roles

    @property
    def calls(self) -> list[PlannedCall]:
        """The calls of the most expensive path of one problem."""
        return self._method.strategy.calls(self.ladder, self.settings, self.draft_tokens)

    def model(self, role: Role) -> Model:
        """Return the model in `role`."""
        return self.mentor if role == "mentor" else self.intern

    async def astream(
        self, question: Question, *, task: TaskKind | None = None, ledger: Ledger | None = None
    ) -> AsyncGenerator[Event, None]:
        """Yield the events of one problem as they happen; the last one is the Solution.

        `ledger`, where given, takes up what is paid, and has it all even where the iteration is broken off.
        """
        problem = self._problem(question, task)
        await self.prepare()
        ctx = Context(
            problem=problem,
            strategy=self.strategy_name,
            mentor=self.mentor,
            intern=self.intern,
            settings=self.settings,
            ladder=self.ladder,
            policy=self._method.policy,
            draft_tokens=self.draft_tokens,
            recorder=self.recorder,
            sandbox=self.sandbox,
            ledger=Ledger() if ledger is None else ledger,
        )
        try:
            event: Event | None = None
            async with aclosing(self._method.strategy.run(ctx)) as events:
                async for event in events:
                    yield event
            if not isinstance(event, Solution):
                raise TandemError(f"strategy '{self.strategy_name}' ended without a solution")
        except TandemError as error:
            error.ledger = ctx.ledger
            raise
        except Exception as error:
            package = STRATEGIES.package(self.strategy_name.partition(":")[0])
            if package is None:
                raise
            name = f"strategy '{self.strategy_name}' of {package}"
            said = " ".join(str(error).split())
            failure = TandemError(f"{name} failed: {type(error).__name__}: {said}")
            failure.ledger = ctx.ledger
            raise failure from error

    async def asolve(self, question: Question, *, task: TaskKind | None = None) -> Solution:
        """Solve one problem. Raises TandemError (or a subclass) on failure."""
        solution: Event | None = None
        async with aclosing(self.astream(question, task=task)) as events:
            async for event in events:
                solution = event
        if not isinstance(solution, Solution):
            raise TandemError(f"strategy '{self.strategy_name}' ended without a solution")
        return solution

    async def asolve_many(
        self, questions: Iterable[Question], *, concurrency: int = 16, task: TaskKind | None = None
    ) -> AsyncGenerator[tuple[int, Solution | TandemError], None]:
        """Yield (position, solution or error) as each problem ends; at most `concurrency` run at once.

        `questions` may be without end: each is drawn when there is room for it.
        """
        await self.prepare()

        async def one(index: int, question: Question) -> tuple[int, Solution | TandemError]:
            try:
                return index, await self.asolve(question, task=task)
            except TandemError as error:
                return index, error
            except Exception as error:  # a fault of ours in one problem must not end a night's run
                return index, TandemError(f"unexpected {type(error).__name__}: {error}")

        queue = enumerate(questions)  # drawn as there is room: whoever gives them may stop giving
        running: set[asyncio.Task[tuple[int, Solution | TandemError]]] = set()
        try:
            while True:
                for index, question in islice(queue, concurrency - len(running)):
                    running.add(asyncio.create_task(one(index, question)))
                if not running:
                    return
                ended, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for finished in ended:
                    yield finished.result()
        finally:
            await _cancel(running)

    def _problem(self, question: Question, task: TaskKind | None) -> Problem:
        return question if isinstance(question, Problem) else Problem.from_text(question, task=task)

    async def aclose(self) -> None:
        """Release both models."""
        await asyncio.gather(self.mentor.aclose(), self.intern.aclose())
        self._shared.probed.clear()
        self._prepared = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


@dataclass(slots=True)
class _Shared:
    """What engines over the same models share: who was probed, and the lock for doing so."""

    preparing: asyncio.Lock = field(default_factory=asyncio.Lock)
    probed: set[Role] = field(default_factory=set)


def _settings(**fields: Any) -> Settings:
    try:
        return Settings(**fields)
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"{first['loc'][-1]}: {first['msg']}, not {first['input']!r}") from None


def _model(model: str | Model, role: Role, endpoint: str | None, parameters: float | None, **options: Any) -> Model:
    if isinstance(model, str):
        return load_model(model, role=role, endpoint=endpoint, parameters=parameters, **options)
    if endpoint or parameters:
        raise UsageError(f"the {role} is a model already; an endpoint or a size goes with a name")
    return model


async def _cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def solve(question: Question, *, mentor: str, intern: str, **options: Any) -> Solution:
    """Solve one problem and release the models again; `options` are those of `Tandem`."""
    with Tandem(mentor, intern, **options) as tandem:
        return tandem.solve(question)
