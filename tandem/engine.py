"""Tandem: resolves names to models, classifier and strategy. The core is async; the sync API runs it in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import cache, lru_cache
from inspect import signature
from itertools import islice
from pathlib import Path
from typing import Any, Never, Self, Unpack

from tandem.config import Backend, CallSettings, Pace, Serving, Settings, SolveOptions
from tandem.costs import default_unit
from tandem.display import brief, facts_html, progress_bar
from tandem.errors import TandemError, UsageError, nearest
from tandem.grading import Sandbox
from tandem.ladder import format_ladder, parse_ladder
from tandem.ledger import Ledger, Role
from tandem.models.base import Model
from tandem.models.call import Recorder
from tandem.models.default_pair import default_pair
from tandem.models.load import load_model
from tandem.models.prices import price
from tandem.models.profiles import AssumedLoad, set_profile
from tandem.plan import SolvePlan
from tandem.spec import InsightMode
from tandem.strategies import Context, fault_of_package, make_strategy
from tandem.strategies.base import Strategy
from tandem.strategies.continued import continued
from tandem.strategies.formed import formed
from tandem.strategies.thoughts import apart
from tandem.strategies.tool_calls import calls_apart
from tandem.sufficiency.classifier import (
    Classifier,
    ClassifierCard,
    find_classifier,
    load_classifier,
    nearest_classifier,
    read_card,
)
from tandem.sufficiency.points import ChosenPoints, Kind, OperatingPoint
from tandem.sufficiency.policy import Policy
from tandem.sync import drain, wait
from tandem.types import Event, Problem, Question, Solution, TaskKind

GENERAL_LADDER = "none,low,medium,high"


class Tandem:
    """A mentor, an intern and a strategy, ready to solve problems.

    Nothing is loaded and no key is read before the first problem (or `prepare`). Close it, or use it as a (sync or
    async) context manager, to release the models. `solve`, `stream` and `solve_many` are for sync code, notebooks
    included; `asolve`, `astream` and `asolve_many` are the same in async code.

    A question is a text, a `Problem`, or the messages of a conversation as OpenAI's clients have them. Keyword
    arguments after it are settings of this one call: the fields of `SolveOptions`.

    Examples:
        >>> from tandem import Tandem
        >>> with Tandem(mentor="fake", intern="fake") as tandem:
        ...     solution = tandem.solve("What is 17*23?", effort="none,low", temperature=0.6)
        >>> solution.answered_by
        'intern'
    """

    _used_from_sync = False

    def __init__(
        self,
        mentor: str | Model | None = None,
        intern: str | Model | None = None,
        *,
        strategy: str = "tandem",
        effort: str | None = None,
        pace: Pace = "auto",
        draft_tokens: int | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        mentor_max_tokens: int | None = None,
        intern_max_tokens: int | None = None,
        classifier: str | None = None,
        unit: str | None = None,
        aim: str | None = None,
        mentor_endpoint: str | None = None,
        intern_endpoint: str | None = None,
        mentor_parameters: float | None = None,
        intern_parameters: float | None = None,
        insight_mode: InsightMode | None = None,
        prices: str | Path | None = None,
        batch_prices: bool = False,
        usd_per_device_hour: float | None = None,
        mentor_profile: str | None = None,
        intern_profile: str | None = None,
        assume_load: AssumedLoad | None = None,
        concurrency: int | None = None,
        request_timeout: float | None = None,
        backend: Backend = "transformers",
        mentor_serving: Serving | None = None,
        intern_serving: Serving | None = None,
        **unknown: Never,
    ) -> None:
        """Take models or their names (catalog, folder, hub, or `fake`); raises UsageError for bad ones.

        Without both models they are the default pair, with its endpoints and sizes: that of the user's config file
        (~/.config/tandem/config.yaml), else the demo pair.

        `effort` is the ladder (``none,low=40,medium,high,answer``); None takes the classifier's own. `unit` (``usd``,
        ``seconds``, ``tflops``, …) and `aim` (``accuracy``, ``cost:0.8``, …) choose among its operating points; None
        takes the unit that the pair is paid in, if the classifier has points in it, and the aim it was trained for. Of
        `temperature`, `top_p` and the caps on answers, None is for each model what its makers advise (see
        `Settings.for_pair`).
        `mentor_endpoint` and `intern_endpoint` are OpenAI-compatible base URLs. `insight_mode` is what the mentor
        writes for the intern: notes in four sections (``gpra``), or the beginning of its own answer (``prefix``); None
        takes the catalog's entry. `prices` is a file of your own prices (see `load_prices`); one that names neither
        model is an error. `batch_prices` counts calls at the vendors' batch prices, for endpoints that are used through
        a batch tier. A model without a price per token has the speed profile that was measured where it runs
        (`tandem profile`), at the load nearest to `concurrency` problems at once, unless `mentor_profile` or
        `intern_profile` names one (a file or an id); `assume_load` stands in where there is none. With
        `usd_per_device_hour` such a model costs US$ too. `request_timeout` is how many seconds an endpoint may send
        nothing before the request is tried again (600 if None). `backend` is what runs local weights: this process
        (``transformers``), or vLLM replicas that it starts (``vllm``; ``auto``: where vLLM is installed) by
        `mentor_serving` and `intern_serving`.
        """
        for name in unknown:
            raise nearest("argument of Tandem", name, (n for n in signature(Tandem).parameters if n != "unknown"))
        if mentor is None and intern is None:
            pair = default_pair()
            mentor, intern = pair.mentor, pair.intern
            mentor_endpoint = mentor_endpoint or pair.mentor_endpoint
            intern_endpoint = intern_endpoint or pair.intern_endpoint
            mentor_parameters = mentor_parameters or pair.mentor_parameters
            intern_parameters = intern_parameters or pair.intern_parameters
        placement = None
        if backend != "transformers":
            from tandem.models.vllm.served import Placement

            placement = Placement()
        common = {"timeout": request_timeout, "backend": backend, "placement": placement}
        common["several"] = concurrency != 1
        self.mentor = _model(mentor, "mentor", mentor_endpoint, mentor_parameters, serving=mentor_serving, **common)
        if insight_mode is not None:
            self.mentor.spec = self.mentor.spec.model_copy(update={"insight_mode": insight_mode})
        self.intern = _model(intern, "intern", intern_endpoint, intern_parameters, serving=intern_serving, **common)
        self.settings = Settings.for_pair(
            self.mentor.spec,
            self.intern.spec,
            effort=effort,
            pace=pace,
            draft_tokens=draft_tokens,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
            mentor_max_tokens=mentor_max_tokens,
            intern_max_tokens=intern_max_tokens,
            classifier=classifier,
            unit=unit,
            aim=aim,
        )
        price((self.mentor, self.intern), prices, batch=batch_prices)
        for its, named in ((self.mentor, mentor_profile), (self.intern, intern_profile)):
            set_profile(
                its,
                named,
                concurrency=concurrency,
                assume=assume_load,
                usd_per_device_hour=usd_per_device_hour,
            )
        self._placement = placement
        # Slow-to-load files are cached by name. An uncalibrated policy learns from the problems it sees, so there is
        # one for each use. Strategies and uses are named by requests, without limit, so these two caches are bounded.
        self._fitted = cache(self._find_classifier)
        self._bound = lru_cache(256)(self._bind_strategy)
        self._classifiers: dict[Path, Classifier] = {}
        self._policies: Callable[..., Policy] = lru_cache(256)(_policy)
        self._preparing = asyncio.Lock()
        self._probed: set[Role] = set()
        self._plan = self._resolve(strategy, self.settings)
        self.want()

    def want(self, *roles: Role) -> None:
        """Reserve room on vLLM replicas for models that only other strategies call; to be called before `prepare`."""
        if self._placement:
            self._placement.wanted = {*self._plan.roles, *roles}

    def plan(self, options: SolveOptions | None = None, **settings: Unpack[CallSettings]) -> SolvePlan:
        """Return how a problem is solved with these options; no model is loaded. Raises UsageError for bad ones."""
        options = _with(options, settings)
        if options is None:
            return self._plan
        return self._resolve(options.strategy or self._plan.strategy_name, self.settings.changed(options))

    def _resolve(self, name: str, settings: Settings) -> SolvePlan:
        folder, card, budgets, ours = self._fitted(settings.classifier)
        strategy, predictor = self._bound(name, tuple(budgets.items()))
        if card is None and strategy.needs_classifier:
            raise UsageError("no classifier is shipped with this installation; name one with --classifier PATH")
        given = parse_ladder(settings.effort, budgets) if settings.effort is not None else None
        return SolvePlan(
            strategy_name=name,
            strategy=strategy,
            settings=settings,
            mentor=self.mentor,
            intern=self.intern,
            given=given if given or ours else parse_ladder(GENERAL_LADDER),
            budgets=budgets,
            points=self._points(card, settings, ours=ours) if card else None,
            classifier=folder if strategy.needs_classifier else None,
            card=card if strategy.needs_classifier else None,
            predictor=predictor,
            nearest=card,
        )

    def _points(self, card: ClassifierCard, settings: Settings, *, ours: bool) -> ChosenPoints:
        """Return the operating points that decide; of another pair's card its own, in whatever unit and for any aim."""
        if not ours:
            if settings.aim is not None:
                raise UsageError(
                    f"classifier '{card.id}' was trained for another pair and has no operating point for your aim "
                    f"'{settings.aim}'; leave the aim out, or train a classifier for this pair (tandem tune)"
                )
            return ChosenPoints(card.unit, card.aim, card.own)
        usual = default_unit(self.mentor.spec, self.intern.spec)
        return card.choose(settings.unit or (usual if usual in card.points else None), settings.aim)

    def _bind_strategy(self, name: str, budgets: tuple[tuple[str, int], ...]) -> tuple[Strategy, str | None]:
        strategy = make_strategy(name, dict(budgets))
        return strategy, strategy.bind(self.mentor.spec.name, self.intern.spec.name)

    def _find_classifier(self, name: str | None) -> tuple[Path | None, ClassifierCard | None, Mapping[str, int], bool]:
        """Return a classifier's folder, its card, the budgets to use, and whether it was trained for this pair."""
        pair = self.mentor.spec.name, self.intern.spec.name
        folder = find_classifier(name) if name else nearest_classifier(*pair)
        card = read_card(folder) if folder else None
        if card is None or (card.mentor, card.intern) != pair:
            return folder, card, {}, False
        collected = parse_ladder(card.collected_ladder)
        return folder, card, {e.name: e.tokens for e in collected if e.tokens}, True

    async def prepare(self, options: SolveOptions | None = None) -> None:
        """Load or connect the models that a call with these options needs. Raises TandemError if one cannot serve."""
        await self._ready(self.plan(options))

    async def _ready(self, plan: SolvePlan) -> None:
        """Load or connect the models of a plan, and check that it can be used."""

        def missing() -> set[Role]:
            return set(plan.roles) - self._probed

        async def load(folder: Path | None) -> None:  # in a thread: scikit-learn is slow to import
            if folder is not None and folder not in self._classifiers:
                self._classifiers[folder] = await asyncio.to_thread(load_classifier, folder)

        if missing() or not (plan.classifier is None or plan.classifier in self._classifiers):
            async with self._preparing:
                roles = missing()
                await asyncio.gather(load(plan.classifier), *(self.model(role).probe() for role in roles))
                self._probed |= roles
        plan.check()

    def _policy(self, plan: SolvePlan, kind: TaskKind) -> Policy | None:
        """Return the policy that decides problems of a kind, once the plan is ready; None where no classifier does."""
        if plan.classifier is None:
            return None
        own = plan.for_kind(kind)
        assert own.point is not None and plan.points is not None
        use = (plan.strategy_name, plan.points.unit, plan.points.aim, own.chosen_on, own.ladder, own.draft_tokens)
        sampled = plan.settings.sampling_of("intern").temperature
        return self._policies(
            self._classifiers[plan.classifier], _Use((*use, sampled), own.chosen_on, not own.mismatch, own.point)
        )

    async def recall(self, records: Iterable[Mapping[str, Any]], options: SolveOptions | None = None) -> None:
        """Restore the policies from the records of an earlier part of the same run; prepares as `prepare` does."""
        plan = self.plan(options)
        await self._ready(plan)
        for record in records:
            policy = self._policy(plan, record.get("task") or "general")
            if policy is None or policy.calibrated:
                continue  # only thresholds that come from the run itself depend on what was seen
            for decision in record["trace"]:
                if decision["sufficiency"] is not None:
                    policy.recall(decision["level"], decision["sufficiency"])

    def model(self, role: Role) -> Model:
        """Return the model in `role`."""
        return self.mentor if role == "mentor" else self.intern

    def models(self) -> list[tuple[Role, Model]]:
        """Return both models with their roles."""
        return [("mentor", self.mentor), ("intern", self.intern)]

    async def astream(
        self,
        question: Question,
        *,
        task: TaskKind | None = None,
        options: SolveOptions | None = None,
        ledger: Ledger | None = None,
        recorder: Recorder | None = None,
        sandbox: Sandbox | None = None,
        **settings: Unpack[CallSettings],
    ) -> AsyncGenerator[Event, None]:
        """Yield the events of one problem as they happen; the last one is the Solution.

        `task` is the kind of a question that is no Problem (None: guessed). `settings` are this call's own, and so are
        those of `options`, over which they go. `ledger`, if given, gets an entry for every call, even if the iteration
        is stopped early; `recorder` records every call; `sandbox` is where a strategy may run the code of its samples.

        Raises UsageError for a question, a setting or a model that cannot be used, EndpointError, MissingKeyError or
        another TandemError where a call fails; its `ledger` has what was spent before.
        """
        problem = Problem.of(question, task=task)
        plan = self.plan(_with(options, settings))
        plan.check_problem(problem)
        await self._ready(plan)
        own = plan.for_kind(problem.task)
        ctx = Context(
            problem=problem,
            strategy=plan.strategy_name,
            mentor=self.mentor,
            intern=self.intern,
            settings=plan.settings,
            ladder=own.ladder,
            policy=self._policy(plan, problem.task),
            draft_tokens=own.draft_tokens,
            recorder=recorder,
            sandbox=sandbox,
            ledger=Ledger() if ledger is None else ledger,
        )
        try:
            event: Event | None = None
            source = apart(plan.strategy.run(ctx), ctx)
            if problem.begun:
                source = continued(source, ctx)
            if problem.response_format:
                source = formed(source, problem)
            if problem.tools:
                source = calls_apart(source, problem.tools)
            async with aclosing(ctx), aclosing(source) as events:
                async for event in events:
                    yield event
            if not isinstance(event, Solution):
                raise TandemError(f"strategy '{plan.strategy_name}' ended without a solution")
        except TandemError as error:
            error.ledger = ctx.ledger
            raise
        except Exception as error:
            failure = fault_of_package(plan.strategy_name, error)
            if isinstance(failure, TandemError):
                failure.ledger = ctx.ledger
            raise failure from error

    async def asolve(
        self,
        question: Question,
        *,
        task: TaskKind | None = None,
        options: SolveOptions | None = None,
        recorder: Recorder | None = None,
        sandbox: Sandbox | None = None,
        **settings: Unpack[CallSettings],
    ) -> Solution:
        """Solve one problem; arguments and errors are those of `astream`.

        Examples:
            >>> import asyncio
            >>> from tandem import Tandem
            >>> async def main():
            ...     async with Tandem(mentor="fake", intern="fake") as tandem:
            ...         return await tandem.asolve("What is 17*23?", effort="none")
            >>> asyncio.run(main()).level
            'none'
        """
        last: Event | None = None
        stream = self.astream(question, task=task, options=options, recorder=recorder, sandbox=sandbox, **settings)
        async with aclosing(stream) as events:
            async for event in events:
                last = event
        assert isinstance(last, Solution)
        return last

    async def asolve_many(
        self,
        questions: Iterable[Question],
        *,
        concurrency: int = 16,
        task: TaskKind | None = None,
        options: SolveOptions | None = None,
        **settings: Unpack[CallSettings],
    ) -> AsyncGenerator[tuple[int, Solution | TandemError], None]:
        """Yield (position, solution or error) as each problem ends; at most `concurrency` run at once.

        `questions` may be infinite: each is drawn when a slot is free. An error of one problem is yielded in its place;
        bad settings and a model that cannot serve raise before the first.
        """
        questions = _several(questions)
        if not isinstance(concurrency, int) or concurrency < 1:
            raise UsageError(f"concurrency is how many problems run at once, at least 1, not {concurrency!r}")
        options = _with(options, settings)
        await self.prepare(options)

        async def one(index: int, question: Question) -> tuple[int, Solution | TandemError]:
            try:
                return index, await self.asolve(question, task=task, options=options)
            except TandemError as error:
                return index, error
            except Exception as error:  # a bug in one problem must not end a long run
                return index, TandemError(f"unexpected {type(error).__name__}: {error}")

        queue = enumerate(questions)  # drawn when a slot is free: the source may raise
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
            for task_left in running:
                task_left.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def aclose(self) -> None:
        """Release both models."""
        await asyncio.gather(self.mentor.aclose(), self.intern.aclose())
        self._probed.clear()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    # The same for sync code, run on the process's event loop in a thread.

    def solve(
        self,
        question: Question,
        *,
        task: TaskKind | None = None,
        options: SolveOptions | None = None,
        **settings: Unpack[CallSettings],
    ) -> Solution:
        """Solve one problem; the sync version of `asolve`.

        Examples:
            >>> from tandem import Tandem
            >>> tandem = Tandem(mentor="fake", intern="fake")
            >>> tandem.solve([{"role": "user", "content": "What is 17*23?"}], strategy="intern-only")
            Solution(answer='23', answered_by='intern', level='none', ...)
        """
        self._used_from_sync = True
        return wait(self.asolve(question, task=task, options=options, **settings))

    def stream(
        self,
        question: Question,
        *,
        task: TaskKind | None = None,
        options: SolveOptions | None = None,
        **settings: Unpack[CallSettings],
    ) -> Iterator[Event]:
        """Yield the events of one problem; the sync version of `astream`.

        Examples:
            >>> from tandem import Tandem
            >>> from tandem.types import AnswerDelta
            >>> events = Tandem(mentor="fake", intern="fake").stream("What is 17*23?")
            >>> "".join(event.text for event in events if isinstance(event, AnswerDelta))
            'Taking the numbers in turn , the answer is ...'
        """
        self._used_from_sync = True
        return drain(self.astream(question, task=task, options=options, **settings))

    def solve_many(
        self,
        questions: Iterable[Question],
        *,
        concurrency: int = 16,
        task: TaskKind | None = None,
        options: SolveOptions | None = None,
        progress: bool | None = None,
        **settings: Unpack[CallSettings],
    ) -> list[Solution | TandemError]:
        """Solve many problems concurrently; return solutions, or the error of each that failed, in the given order.

        `progress` shows a bar; None: in a terminal or a notebook. Raises what `asolve_many` raises.

        Examples:
            >>> from tandem import Tandem
            >>> tandem = Tandem(mentor="fake", intern="fake")
            >>> [result.answer for result in tandem.solve_many(["What is 1+1?", "What is 2+3?"])]
            ['1', '3']
        """
        self._used_from_sync = True
        asked = list(_several(questions))
        found: dict[int, Solution | TandemError] = {}
        pairs = drain(self.asolve_many(asked, concurrency=concurrency, task=task, options=options, **settings))
        with progress_bar("solving", len(asked), progress) as show:
            for place, result in pairs:
                found[place] = result
                show(len(found))
        return [found[place] for place in range(len(asked))]

    def close(self) -> None:
        """Release both models, if they were used from sync code."""
        if self._used_from_sync:
            wait(self.aclose())
            self._used_from_sync = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return brief("Tandem", **self._facts())

    def _repr_html_(self) -> str:
        """Return what a notebook shows: both models, the strategy and what decides."""
        return facts_html("Tandem", self._facts().items())

    def _facts(self) -> dict[str, str | None]:
        plan = self._plan
        return {
            "mentor": self.mentor.spec.name,
            "intern": self.intern.spec.name,
            "strategy": plan.strategy_name,
            "ladder": format_ladder(plan.given) if plan.given else None,
            "classifier": plan.card.id if plan.card else None,
            "unit": plan.unit,
        }


@dataclass(frozen=True, slots=True)
class _Use:
    """One use of a classifier, which has a policy of its own; equal `key` means the same point."""

    key: tuple[object, ...]
    kind: Kind
    calibrated: bool
    point: OperatingPoint = field(compare=False)  # it has dicts, which have no hash


def _policy(classifier: Classifier, use: _Use) -> Policy:
    point = use.point
    return Policy(classifier.of(point.model), point.policy, calibrated=use.calibrated, kind=use.kind)


def _model(
    model: str | Model | None, role: Role, endpoint: str | None, parameters: float | None, **options: Any
) -> Model:
    if isinstance(model, str):
        return load_model(model, role=role, endpoint=endpoint, parameters=parameters, **options)
    if model is None:
        raise UsageError(f"the {role} is missing: name both models, or neither for the default pair")
    if not isinstance(model, Model):
        raise UsageError(f"the {role} is a model's name or a Model, not {type(model).__name__}")
    if endpoint or parameters:
        raise UsageError(f"the {role} is a model already; an endpoint or a size goes with a name")
    return model


def _with(options: SolveOptions | None, settings: CallSettings) -> SolveOptions | None:
    if not isinstance(options, SolveOptions | None):
        raise UsageError(
            f"options are SolveOptions, not {type(options).__name__}; or give them as keyword arguments, as in "
            'solve(question, effort="none,low")'
        )
    return (options or SolveOptions()).changed(settings) if settings else options


def _several(questions: Iterable[Question]) -> Iterable[Question]:
    """Return what can be iterated for questions. Raises UsageError for what is one question, or none."""
    if isinstance(questions, str | bytes | Mapping | Problem) or not isinstance(questions, Iterable):
        raise UsageError(
            f"questions are a list of texts, Problems or conversations, not {type(questions).__name__}; solve takes one"
        )
    return questions


def solve(
    question: Question, *, mentor: str | Model | None = None, intern: str | Model | None = None, **options: Any
) -> Solution:
    """Solve one problem and release the models again; `options` are those of `Tandem`.

    Examples:
        >>> from tandem import solve
        >>> solve("What is 17*23?", mentor="fake", intern="fake", strategy="mentor-only").answered_by
        'mentor'
    """
    with Tandem(mentor, intern, **options) as tandem:
        return tandem.solve(question)


async def asolve(
    question: Question, *, mentor: str | Model | None = None, intern: str | Model | None = None, **options: Any
) -> Solution:
    """Solve one problem and release the models again; the async version of `solve`."""
    async with Tandem(mentor, intern, **options) as tandem:
        return await tandem.asolve(question)
