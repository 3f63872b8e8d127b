"""Tandem: names become models, a classifier and a strategy. The core is async; the sync face runs it in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from itertools import islice
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError

from tandem.background import drain, wait
from tandem.config import Backend, Pace, Serving, Settings
from tandem.errors import TandemError, UsageError
from tandem.ladder import format_ladder, parse_ladder
from tandem.ledger import Role
from tandem.models.base import Model
from tandem.models.call import Recorder
from tandem.models.load import load_model
from tandem.models.prices import load_prices, set_prices
from tandem.strategies import Context, make_strategy
from tandem.strategies.base import Planned, need_logprobs
from tandem.sufficiency.classifier import Card, find_classifier, load_classifier, nearest_classifier, read_card
from tandem.sufficiency.policy import Policy
from tandem.types import Event, Problem, Sampling, Solution, TaskKind

GENERAL_LADDER = "none,low,medium,high"
Question = str | Problem


class Tandem:
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
        prices: str | Path | None = None,
        request_timeout: float | None = None,
        backend: Backend = "transformers",
        mentor_serving: Serving | None = None,
        intern_serving: Serving | None = None,
    ) -> None:
        """Take names (of the catalog, of a folder, of the hub; or `fake`) or models; raises UsageError for bad ones.

        `effort` is the ladder (``none,low=40,medium,high,answer``); None takes the classifier's own.
        `mentor_endpoint` and `intern_endpoint` are OpenAI-compatible base URLs. `prices` is a file of your own prices
        (see `load_prices`); one that names neither model is an error. `request_timeout` is how many seconds an endpoint
        may send nothing before the request is tried again (600 if None). `backend` is what runs local weights: this
        process (``transformers``), or vLLM replicas that it starts (``vllm``; ``auto``: where vLLM is installed) as
        `mentor_serving` and `intern_serving` say.
        """
        try:
            self.settings = Settings(
                effort=effort,
                pace=pace,
                draft_tokens=draft_tokens,
                sampling=Sampling(temperature=temperature, top_p=top_p, seed=seed),
                mentor_max_tokens=mentor_max_tokens,
                intern_max_tokens=intern_max_tokens,
                classifier=classifier,
            )
        except ValidationError as error:
            first = error.errors()[0]
            raise UsageError(f"{first['loc'][0]}: {first['msg']}, not {first['input']!r}") from None
        self.strategy_name = strategy
        site = None
        if backend != "transformers":
            from tandem.models.vllm.served import Site

            site = Site()
        common = {"timeout": request_timeout, "backend": backend, "site": site}
        self.mentor = _model(mentor, "mentor", mentor_endpoint, mentor_parameters, serving=mentor_serving, **common)
        self.intern = _model(intern, "intern", intern_endpoint, intern_parameters, serving=intern_serving, **common)
        if prices is not None:
            own = load_prices(prices)
            priced = [set_prices(model, own) for model in (self.mentor, self.intern)]
            if not any(priced):
                names = f"{self.mentor.spec.name} nor {self.intern.spec.name}"
                raise UsageError(f"the price file {prices} names neither {names}; it names {', '.join(own)}")
        self.recorder: Recorder | None = None  # writes every call down; a run sets its journal
        self.card: Card | None = None  # the classifier's
        self.mismatch: list[str] = []  # what differs from it
        self._folder = Path()
        self._policy: Policy | None = None
        self._preparing = asyncio.Lock()
        self._prepared = False
        self._used_from_sync = False
        self._configure()
        if site:
            site.wanted = self._strategy.roles

    def _configure(self) -> None:
        """Settle what needs no model: the strategy, the classifier's card, the ladder and the draft."""
        name, pair = self.settings.classifier, (self.mentor.spec.name, self.intern.spec.name)
        own, budgets = parse_ladder(GENERAL_LADDER), {}
        folder = find_classifier(name) if name else nearest_classifier(*pair)
        card = read_card(folder) if folder else None
        if card and (card.mentor, card.intern) == pair:
            own = parse_ladder(card.ladder)
            budgets = {level.name: level.tokens for level in parse_ladder(card.collected_ladder) if level.tokens}
        self._strategy = make_strategy(self.strategy_name, budgets)
        if self._strategy.judges:
            if folder is None:
                raise UsageError("no classifier is shipped with this installation; name one with --classifier PATH")
            self._folder, self.card = folder, card
        self.ladder = parse_ladder(self.settings.effort, budgets) if self.settings.effort is not None else own
        self.draft_tokens = self.settings.draft_tokens or (self.card.draft_tokens if self.card else None)

    async def prepare(self) -> None:
        """Load or reach both models and match the classifier. Raises TandemError if one of them cannot serve."""
        async with self._preparing:
            if self._prepared:
                return
            probes = [self.model(role).probe() for role in self._strategy.roles]
            if self.card and self._policy is None:
                # In a thread: scikit-learn is slow to import, and the models are being loaded meanwhile.
                loading = asyncio.to_thread(load_classifier, self._folder)
                classifier, _ = await asyncio.gather(loading, asyncio.gather(*probes))
                specs = self.mentor.spec, self.intern.spec
                self.mismatch = classifier.differences(
                    *specs, self.settings.sampling, self.ladder, self.settings.top_logprobs
                )
                if self.draft_tokens != self.card.draft_tokens:
                    self.mismatch.append("draft length")
                self._policy = Policy(classifier, self.card.policy, calibrated=not self.mismatch)
            else:
                await asyncio.gather(*probes)
            if self._strategy.judges:
                need_logprobs(self.intern, self.strategy_name)  # here, so that a run fails once and not per problem
            self._prepared = True

    def recall(self, decisions: Iterable[Mapping[str, Any]]) -> None:
        """Take up the decisions of an earlier part of the same run; call it after `prepare`.

        They are read only where they matter: for a policy whose thresholds come from the run itself.
        """
        if self._policy is None or self._policy.calibrated:
            return
        for decision in decisions:
            if decision["sufficiency"] is not None:
                self._policy.recall(decision["level"], decision["sufficiency"])

    def describe(self) -> dict[str, Any]:
        """Return everything that decides what this engine answers, for a run's manifest; no secrets."""
        return {
            "strategy": self.strategy_name,
            "mentor": self.mentor.spec.model_dump(mode="json"),
            "intern": self.intern.spec.model_dump(mode="json"),
            "settings": self.settings.model_dump(mode="json"),
            "ladder": format_ladder(self.ladder),
            "draft_tokens": self.draft_tokens,
            "classifier": self.classifier_match,
        }

    @property
    def classifier_match(self) -> dict[str, Any] | None:
        """The classifier's id and how it matches: ``exact``, or what differs from its card."""
        if self.card is None:
            return None
        match = "exact" if not self.mismatch else f"uncalibrated: another {', '.join(self.mismatch)}"
        return {"id": self.card.id, "match": match}

    @property
    def roles(self) -> tuple[Role, ...]:
        """The models that the strategy calls; the others are not even loaded."""
        return self._strategy.roles

    @property
    def calls(self) -> list[Planned]:
        """The calls of a problem that takes the dearest way."""
        return self._strategy.calls(self.ladder, self.settings, self.draft_tokens)

    def model(self, role: Role) -> Model:
        """Return the model in `role`."""
        return self.mentor if role == "mentor" else self.intern

    async def astream(self, question: Question, *, task: TaskKind | None = None) -> AsyncGenerator[Event, None]:
        """Yield the events of one problem as they happen; the last one is the Solution."""
        problem = self._problem(question, task)
        await self.prepare()
        ctx = Context(
            strategy=self.strategy_name,
            mentor=self.mentor,
            intern=self.intern,
            settings=self.settings,
            ladder=self.ladder,
            policy=self._policy,
            draft_tokens=self.draft_tokens,
            recorder=self.recorder,
        )
        try:
            async with aclosing(self._strategy.run(problem, ctx)) as events:
                async for event in events:
                    yield event
        except TandemError as error:
            error.ledger = ctx.ledger
            raise

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

    def solve(self, question: Question, *, task: TaskKind | None = None) -> Solution:
        """Solve one problem; the sync face of `asolve`."""
        self._used_from_sync = True
        return wait(self.asolve(question, task=task))

    def stream(self, question: Question, *, task: TaskKind | None = None) -> Iterator[Event]:
        """Yield the events of one problem; the sync face of `astream`."""
        self._used_from_sync = True
        return drain(self.astream(question, task=task))

    def solve_many(
        self, questions: Sequence[Question], *, concurrency: int = 16, task: TaskKind | None = None
    ) -> list[Solution | TandemError]:
        """Solve many problems at once; return solutions, or the error of each that failed, in the given order."""
        self._used_from_sync = True
        pairs = list(drain(self.asolve_many(questions, concurrency=concurrency, task=task)))
        return [result for _, result in sorted(pairs, key=lambda pair: pair[0])]

    def _problem(self, question: Question, task: TaskKind | None) -> Problem:
        return question if isinstance(question, Problem) else Problem.from_text(question, task=task)

    async def aclose(self) -> None:
        """Release both models."""
        await asyncio.gather(self.mentor.aclose(), self.intern.aclose())
        self._prepared = False

    def close(self) -> None:
        """Release both models, if they were used from sync code."""
        if self._used_from_sync:
            wait(self.aclose())
            self._used_from_sync = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


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
