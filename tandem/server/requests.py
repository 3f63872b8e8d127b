"""From a request to a problem and an engine: which strategy a model's name means, and what a request may change."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tandem.engine import Tandem
from tandem.errors import UsageError
from tandem.ladder import DEFAULT_BUDGETS, Effort, Ladder, format_ladder
from tandem.runs.estimate import estimate
from tandem.server.errors import ApiError
from tandem.server.schema import ChatMessage, ChatRequest, CompletionRequest, TandemOptions
from tandem.types import Message, Problem, Sampling, guess_task

# What a request may name beside the menu. Never a strategy that reads a folder: the name comes from outside.
_OPEN = re.compile(r"fixed:[a-z]+(=\d{1,6})?|budget-forcing(:\d{1,6})?")
_ALONE = {"intern": "intern-only", "mentor": "mentor-only"}
_CAPS = {"none": "none", "minimal": "none", "low": "low", "medium": "medium"}  # what lies above caps nothing
_MOST_ENGINES = 256


@dataclass(frozen=True, slots=True)
class SolveRequest:
    """One choice to be solved: the problem, the engine with the request's settings, and what it costs at most (US$)."""

    problem: Problem
    engine: Tandem
    model: str
    at_most: float


class ModelMenu:
    """The models on offer: every strategy over one pair; `aims` are classifiers by the aim that each is for."""

    def __init__(self, engine: Tandem, aims: Mapping[str, str] | None = None) -> None:
        """`engine` has the server's own settings, which requests change for themselves only."""
        self.engine = engine
        self.aims = dict(aims or {})
        self.created = int(time.time())
        self._variants: dict[tuple[Any, ...], Tandem] = {}

    def names(self) -> list[str]:
        """Return the models that are listed; the server's own strategy comes first."""
        own = self.engine.strategy_name
        levels = [level.name for level in self._tandem().ladder if level.is_drafted]
        shipped = ["tandem", *(f"tandem:{name}" for name in levels), *_ALONE, *(f"fixed:{name}" for name in levels)]
        return list(dict.fromkeys([next((n for n, s in _ALONE.items() if s == own), own), *shipped, "budget-forcing"]))

    def label(self, name: str) -> str:
        """Return what a model is counted as: names have no end, labels do."""
        return name if name in self.names() else name.partition(":")[0]

    def describe(self, name: str) -> dict[str, Any]:
        """Return a model as /v1/models has it."""
        engine, _ = self._strategy(name)
        about = {"strategy": engine.strategy_name, "roles": list(engine.roles)}
        return {"id": name, "object": "model", "created": self.created, "owned_by": "tandem", "tandem": about}

    def ask(self, request: ChatRequest | CompletionRequest, prompt: str | None = None) -> list[SolveRequest]:
        """Return what a request asks for, one for each choice; `prompt` is one text of a completion request.

        Raises ApiError naming the field that is at fault.
        """
        engine, cap = self._strategy(request.model)
        options = request.tandem or TandemOptions()
        if isinstance(request, ChatRequest):
            messages, most, field = _messages(request.messages), request.most_tokens, "messages"
            if request.reasoning_effort is not None:
                cap = _lower(cap, _CAPS.get(request.reasoning_effort), engine)
        else:
            messages, most, field = (Message(role="user", content=prompt or ""),), request.max_tokens, "prompt"
        engine = self._with_options(engine, options)
        engine = self._capped(engine, cap)
        if most is not None:
            engine = self._variant(engine, mentor_max_tokens=most, intern_max_tokens=most)
        sampling = _sampling(request, engine.settings.sampling)
        if sampling.temperature != engine.settings.sampling.temperature:
            engine = self._variant(engine, sampling=sampling.model_copy(update={"seed": None, "stop": ()}).model_dump())
        problem = Problem(
            id=_id(messages),
            messages=messages,
            task=options.task or guess_task(messages[-1].content),
            sampling=sampling,
        )
        self._check_room(engine, problem, field)
        engine, at_most = self._within(engine, problem, options.budget_usd, request.n or 1)
        return [
            SolveRequest(_choice(problem, number), engine, request.model, at_most / (request.n or 1))
            for number in range(request.n or 1)
        ]

    def _tandem(self) -> Tandem:
        return self.engine if self.engine.strategy_name == "tandem" else self._variant(self.engine, strategy="tandem")

    def _strategy(self, name: str) -> tuple[Tandem, str | None]:
        """Return the engine of a model's name, and the level that its ladder ends at, if it says one."""
        if name == self.engine.strategy_name:
            return self.engine, None
        base, colon, cap = name.partition(":")
        if base == "tandem" and (not colon or _budget(cap, self.engine) is not None):
            return self._tandem(), cap or None
        if name in _ALONE or _OPEN.fullmatch(name):
            strategy = _ALONE.get(name, name)
            usual = (DEFAULT_BUDGETS | self.engine.budgets).get(cap)
            if base == "fixed" and usual != (here := _budget(cap, self.engine)):  # this server's ladder has its own
                strategy = f"{name}={here}"
            try:
                return self._variant(self.engine, strategy=strategy), None
            except UsageError as error:
                raise _no_model(str(error)) from None
        raise _no_model(f"there is no model '{name}' here; there are {', '.join(self.names())}")

    def _variant(self, engine: Tandem, **changes: Any) -> Tandem:
        """Return a variant, kept for the next request that wants the same."""
        key = (engine.strategy_name, engine.settings.model_dump_json(), repr(sorted(changes.items())))
        if key not in self._variants:
            if len(self._variants) >= _MOST_ENGINES:  # settings come from outside: their number has no end
                self._variants.pop(next(iter(self._variants)))
            self._variants[key] = engine.variant(**changes)
        return self._variants[key]

    def _with_options(self, engine: Tandem, options: TandemOptions) -> Tandem:
        changes: dict[str, Any] = {
            name: value for name in ("effort", "pace", "draft_tokens") if (value := getattr(options, name)) is not None
        }
        if options.aim is not None:
            if options.aim not in self.aims:
                known = ", ".join(self.aims) or "none; start the server with --aim AIM=CLASSIFIER"
                raise ApiError(
                    400,
                    f"there is no classifier for the aim '{options.aim}' here; there are {known}",
                    param="tandem.aim",
                )
            changes["classifier"] = self.aims[options.aim]
        if not changes:
            return engine
        try:
            return self._variant(engine, **changes)
        except UsageError as error:
            field = "tandem.effort" if "effort" in changes else f"tandem.{next(iter(changes))}"
            raise ApiError(400, str(error), param=field) from None

    def _capped(self, engine: Tandem, cap: str | None) -> Tandem:
        """Return an engine whose ladder ends at a level, if it visits any above."""
        if cap is None or not engine.ladder or engine.strategy_name != "tandem":
            return engine
        budget = _budget(cap, engine) or 0
        kept = tuple(e for e in engine.ladder if e.tokens is not None and e.tokens <= budget)
        kept = kept or (Effort(name="none", tokens=0),)
        return engine if kept == engine.ladder else self._variant(engine, effort=format_ladder(kept))

    def _within(self, engine: Tandem, problem: Problem, budget: float | None, choices: int) -> tuple[Tandem, float]:
        """Return an engine whose ladder is cut so that its dearest way is within `budget`, and what that way costs."""
        most = estimate(engine, [problem])["at_most"]["usd"]
        if budget is None:
            return engine, (most or 0.0) * choices
        if most is None:
            unpriced = [engine.model(r).spec.name for r in engine.roles if engine.model(r).spec.prices is None]
            if all(engine.model(role).spec.local for role in engine.roles):
                return engine, 0.0  # nothing is billed by the token
            raise ApiError(
                400, f"no price is known for {', '.join(unpriced)}, so no budget can be kept", param="tandem.budget_usd"
            )
        ladder: Ladder = engine.ladder
        while most * choices > budget:
            ladder = ladder[:-1]
            if engine.strategy_name != "tandem" or not ladder:
                raise ApiError(
                    400,
                    f"US$ {budget:g} are not enough: this may cost ${most * choices:.6f}",
                    param="tandem.budget_usd",
                )
            engine = self._variant(engine, effort=format_ladder(ladder))
            most = estimate(engine, [problem])["at_most"]["usd"] or 0.0
        return engine, most * choices

    def _check_room(self, engine: Tandem, problem: Problem, field: str) -> None:
        """Raise ApiError naming the field for a prompt that leaves no room for an answer."""
        for role in engine.roles:
            model = engine.model(role)
            tokens = sum(model.count(message.content) for message in problem.messages)
            if model.spec.context is not None and tokens >= model.spec.context:
                raise ApiError(
                    400,
                    f"{field}: {tokens} tokens, and {model.spec.context} fit into {model.spec.name}",
                    param=field,
                    code="context_length_exceeded",
                )


def _no_model(message: str) -> ApiError:
    return ApiError(404, message, param="model", code="model_not_found")


def _messages(messages: list[ChatMessage]) -> tuple[Message, ...]:
    return tuple(Message(role="system" if m.role == "developer" else m.role, content=m.content) for m in messages)


def _sampling(request: ChatRequest | CompletionRequest, own: Sampling) -> Sampling:
    asked = {"temperature": request.temperature, "top_p": request.top_p, "seed": request.seed}
    kept = {name: value for name, value in asked.items() if value is not None}
    return own.model_copy(update=kept | {"stop": request.stops or own.stop})


def _choice(problem: Problem, number: int) -> Problem:
    """Return a problem as one of several choices: another seed is another answer; without one it is drawn freely."""
    if not number or problem.sampling is None or problem.sampling.seed is None:
        return problem
    seed = (problem.sampling.seed + number) % (1 << 63)
    return problem.model_copy(update={"sampling": problem.sampling.model_copy(update={"seed": seed})})


def _id(messages: tuple[Message, ...]) -> str:
    """Return the problem's id: equal conversations meet the same cache, wherever they begin alike."""
    return Problem.from_text(messages[0].content + "\n" + messages[-1].content).id


def _budget(level: str, engine: Tandem) -> int | None:
    """Return a level's mentor tokens for this pair; None for a level that there is not."""
    own = {e.name: e.tokens for e in engine.ladder if e.tokens is not None}
    return (DEFAULT_BUDGETS | engine.budgets | own).get(level)


def _lower(one: str | None, other: str | None, engine: Tandem) -> str | None:
    """Return the lower of two levels; None is no bound."""
    named = [level for level in (one, other) if level is not None]
    return min(named, key=lambda level: _budget(level, engine) or 0, default=None)
