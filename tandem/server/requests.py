"""Parsing a request into a problem and its options: the strategy behind a model's name, and the request's overrides."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tandem.config import Settings, SolveOptions
from tandem.costs import rates
from tandem.engine import Tandem
from tandem.errors import UsageError
from tandem.ladder import DEFAULT_BUDGETS, Effort, Ladder, format_ladder
from tandem.plan import SolvePlan
from tandem.response_format import ResponseFormat
from tandem.runs.estimate import estimate
from tandem.server.errors import ApiError
from tandem.server.schema import ChatMessage, ChatRequest, CompletionRequest, TandemOptions
from tandem.server.tool_fields import calls_of, check_parameters
from tandem.types import Message, Problem, RawPrompt, TaskKind, guess_task

# Names that a request may use besides the listed ones. Never a strategy that reads a folder: names come from outside.
_OPEN = re.compile(r"fixed:[a-z]+(=\d{1,6})?|budget-forcing(:\d{1,6})?")
MOST_SCORED = 1 << 17  # log-probabilities of prompts in one answer: some 5 MB of JSON
_FIRST = 200  # characters or tokens of a raw prompt
Prompt = str | tuple[int, ...]
_ALONE = {"intern": "intern-only", "mentor": "mentor-only"}
_CAPS = {"none": "none", "minimal": "none", "low": "low", "medium": "medium"}  # larger caps have no effect


@dataclass(frozen=True, slots=True)
class SolveRequest:
    """One choice to be solved: the problem, the request's own options, and its maximal cost (US$)."""

    problem: Problem
    options: SolveOptions
    model: str
    at_most: float


class ModelMenu:
    """The offered models: every strategy over one pair; `aims` are classifiers by aim."""

    def __init__(self, engine: Tandem, aims: Mapping[str, str] | None = None) -> None:
        """`engine` has the server's settings; a request overrides them for itself only."""
        self.engine = engine
        self.aims = dict(aims or {})
        self.created = int(time.time())
        own = engine.plan().strategy_name
        levels = [level.name for level in engine.plan(SolveOptions(strategy="tandem")).ladder if level.is_drafted]
        shipped = ["tandem", *(f"tandem:{name}" for name in levels), *_ALONE, *(f"fixed:{name}" for name in levels)]
        first = next((name for name, strategy in _ALONE.items() if strategy == own), own)
        self.names = list(dict.fromkeys([first, *shipped, "budget-forcing"]))  # that are listed

    def label(self, name: str) -> str:
        """Return a model's metrics label: names are unlimited, labels must not be."""
        base = name.partition(":")[0]
        return name if name in self.names else base if base in {*self.names, "fixed"} else "unknown"

    def describe(self, name: str) -> dict[str, Any]:
        plan, _ = self._strategy(name)
        about = {"strategy": plan.strategy_name, "roles": list(plan.roles)}
        return {"id": name, "object": "model", "created": self.created, "owned_by": "tandem", "tandem": about}

    def ask(self, request: ChatRequest | CompletionRequest, prompt: Prompt | None = None) -> list[SolveRequest]:
        """Return the jobs of a request, one for each choice; `prompt` is one of a completion request.

        Raises ApiError naming the invalid field.
        """
        named, cap = self._strategy(request.model)
        extra = request.tandem or TandemOptions()
        raw: RawPrompt | None = None
        begun = ""
        if isinstance(request, ChatRequest):
            (messages, begun), field = _conversation(request.messages), "messages"
            most = request.max_completion_tokens or request.max_tokens
            if request.reasoning_effort is not None:
                cap = _lower(cap, _CAPS.get(request.reasoning_effort), named)
        else:
            text = prompt if isinstance(prompt, str) else ""
            messages, most, field = (Message(role="user", content=text),), request.max_tokens, "prompt"
            if request.raw is not None:
                raw = RawPrompt(text=prompt or "", echo=bool(request.echo), write=most != 0)
                most = 1 if most == 0 else most
        options = SolveOptions(
            strategy=named.strategy_name,
            effort=extra.effort,
            pace=extra.pace,
            draft_tokens=extra.draft_tokens,
            temperature=request.temperature,
            top_p=request.top_p,
            presence_penalty=request.presence_penalty,
            frequency_penalty=request.frequency_penalty,
            vary=(request.n or 1) > 1 and request.temperature is None,
            seed=self.engine.settings.sampling.seed if request.seed is None else request.seed,
            stop=tuple(text for text in request.stop or () if text) or None,
            mentor_max_tokens=_least(most, self.engine.settings.mentor_max_tokens),
            intern_max_tokens=_least(most, self.engine.settings.intern_max_tokens),
            **self._point(extra),
        )
        try:
            plan = self.engine.plan(options)
        except UsageError as error:
            given = [name for name in ("effort", "pace", "draft_tokens") if getattr(extra, name) is not None]
            raise _bad_option([*given, "aim"][0], str(error)) from None
        tools = request.tool_use if isinstance(request, ChatRequest) else None
        # Words about an answer's form go badly with calls.
        called = tools is not None or messages[-1].role == "tool"
        task = extra.task or ("general" if called else guess_task(messages[-1].content))
        if (ladder := _capped(plan, task, cap)) != plan.for_kind(task).ladder:
            options = replace(options, effort=format_ladder(ladder))
            plan = self.engine.plan(options)
        _check_one_answer(plan, request)
        _check_begun(plan, request.model, begun)
        _check_caps(plan.for_kind(task).ladder, self.engine.settings, request.model)
        choices = request.n or 1
        problem = Problem(
            # Conversations with the same beginning share the same prefix cache.
            id=Problem.from_text(_beginning(messages, raw)).id,
            messages=messages,
            task=task,
            logprobs=request.alternatives,
            raw=raw,
            response_format=_form(request),
            tools=tools,
            begun=begun,
        )
        _check_tools(plan, problem, request.model)
        _check_room(plan, problem, field)
        options, at_most = self._within(options, plan, problem, extra.budget_usd, choices)
        return [
            SolveRequest(problem, _choice(options, number), request.model, at_most / choices)
            for number in range(choices)
        ]

    def _strategy(self, name: str) -> tuple[SolvePlan, str | None]:
        """Return the plan of a model's name, and the last level of its ladder, if named."""
        own = self.engine.plan()
        if name == own.strategy_name:
            return own, None
        base, colon, cap = name.partition(":")
        if base == "tandem" and (not colon or _budget(cap, own) is not None):
            return self.engine.plan(SolveOptions(strategy="tandem")), cap or None
        if name in _ALONE or _OPEN.fullmatch(name):
            strategy = _ALONE.get(name, name)
            usual = (DEFAULT_BUDGETS | dict(own.budgets)).get(cap)
            if base == "fixed" and usual != (here := _budget(cap, own)):  # this server's ladder has its own
                strategy = f"{name}={here}"
            try:
                return self.engine.plan(SolveOptions(strategy=strategy)), None
            except UsageError as error:
                raise _no_model(str(error)) from None
        raise _no_model(f"there is no model '{name}' here; there are {', '.join(self.names)}")

    def _point(self, extra: TandemOptions) -> dict[str, Any]:
        """Return the options for the unit and the aim of a request: a classifier of the server's, or an own point."""
        if extra.aim in self.aims:
            return {"unit": extra.unit, "classifier": self.aims[extra.aim]}
        chosen: dict[str, Any] = {"unit": extra.unit, "aim": extra.aim}
        try:
            self.engine.plan(SolveOptions(**chosen))
        except UsageError as error:
            others = f"; with a classifier of its own there are {', '.join(self.aims)}" if self.aims else ""
            raise _bad_option("aim", f"{error}{others}") from None
        return chosen

    def _within(
        self, options: SolveOptions, plan: SolvePlan, problem: Problem, budget: float | None, choices: int
    ) -> tuple[SolveOptions, float]:
        """Return options with the ladder cut so that its most expensive path fits `budget`, and that path's cost."""
        most = estimate(plan, [problem])["at_most"]["usd"]
        if budget is None:
            return options, (most or 0.0) * choices
        if most is None:
            specs = [plan.model(role).spec for role in plan.roles]
            if all(spec.local for spec in specs):
                return options, 0.0  # nothing is billed by token
            unpriced = ", ".join(
                plan.model(role).spec.name for role in plan.roles if rates(plan.model(role).spec, "usd", role) is None
            )
            raise _bad_option("budget_usd", f"no price is known for {unpriced}, so the budget cannot be checked")
        ladder = plan.for_kind(problem.task).ladder
        while most * choices > budget:
            ladder = ladder[:-1]
            if plan.strategy_name != "tandem" or not ladder:
                reason = f"US$ {budget:g} is not enough: this may cost ${most * choices:.6f}"
                raise _bad_option("budget_usd", reason)
            options = replace(options, effort=format_ladder(ladder))
            most = estimate(self.engine.plan(options), [problem])["at_most"]["usd"] or 0.0
        return options, most * choices


def _capped(plan: SolvePlan, kind: TaskKind, cap: str | None) -> Ladder:
    """Return the ladder for a kind of task up to a level, if the strategy is `tandem`."""
    ladder = plan.for_kind(kind).ladder
    if cap is None or plan.strategy_name != "tandem":
        return ladder
    budget = _budget(cap, plan) or 0
    kept = tuple(e for e in ladder if e.tokens is not None and e.tokens <= budget)
    return kept or (Effort(name="none", tokens=0),)


def _least(asked: int | None, cap: int) -> int | None:
    """Return the cap of an answer: a client may lower the server's own, not lift it."""
    return None if asked is None else min(asked, cap)


def _check_caps(ladder: Ladder, settings: Settings, model: str) -> None:
    """Raise ApiError for an insight that is longer than the server lets its mentor write."""
    most = max((level.tokens or 0 for level in ladder), default=0)
    if ":" in model and (named := re.search(r"=?(\d+)$", model)):
        most = max(most, int(named[1]))
    if most > max(settings.mentor_max_tokens, *DEFAULT_BUDGETS.values()):
        field = "model" if ":" in model else "tandem.effort"
        reason = f"{most:,} mentor tokens are more than this server allows ({settings.mentor_max_tokens:,})"
        raise ApiError(400, reason, param=field)


def _check_one_answer(plan: SolvePlan, request: ChatRequest | CompletionRequest) -> None:
    """Raise ApiError for what needs the answer of one model, from several, or from one that gives none."""
    wanted = request.raw if isinstance(request, CompletionRequest) else None
    field = wanted or ("logprobs" if request.alternatives is not None else None)
    if field and not plan.strategy.is_one_answer:
        what = "token ids in 'prompt' are" if field == "prompt" else f"'{field}' is"
        raise ApiError(400, f"{what} for the models intern and mentor, not for '{request.model}'", param=field)
    if request.alternatives is not None and not all(plan.model(role).spec.logprobs for role in plan.roles):
        raise ApiError(400, f"'logprobs' is not supported: the {request.model} gives none here", param="logprobs")


def check_scored(asked: Sequence[SolveRequest], count: Callable[[str], int]) -> None:
    """Raise ApiError for more log-probabilities of prompts than one answer may hold: it is written at one go."""
    read = [one.problem for one in asked if one.problem.raw and one.problem.raw.echo]
    scored = sum(one.prompt_tokens(count) * (one.logprobs + 1) for one in read if one.logprobs is not None)
    if scored > MOST_SCORED:
        what = f"'logprobs' of these prompts are {scored:,} figures, with the likeliest tokens at each place"
        raise ApiError(400, f"{what}; an answer holds {MOST_SCORED:,}: ask in parts", param="logprobs")


def _beginning(messages: tuple[Message, ...], raw: RawPrompt | None) -> str:
    """Return what tells prompts apart that may share a prefix cache: of a raw one its first words."""
    if raw:
        return f"raw {raw.text[:_FIRST]!r}"
    text = f"{messages[0].text}\n{messages[-1].text}"
    return text if text.strip() else "silence"


def _check_tools(plan: SolvePlan, problem: Problem, model: str) -> None:
    """Raise ApiError for functions that this model's answers cannot call."""
    if problem.tools is None:
        return
    check_parameters(problem.tools)
    if why := plan.strategy.without_tools(plan.mentor.spec):
        raise ApiError(400, f"'tools' are not for the model '{model}': it {why}", param="tools")


def _check_room(plan: SolvePlan, problem: Problem, field: str) -> None:
    """Raise ApiError naming the field for a prompt that leaves no room for an answer."""
    for role in plan.roles:
        model = plan.model(role)
        tokens = problem.prompt_tokens(model.count)
        room = 0 if problem.raw and not problem.raw.write else 1
        if model.spec.context is not None and tokens + room > model.spec.context:
            raise ApiError(
                400,
                f"{field}: this model's maximum context length is {model.spec.context} tokens, and {model.spec.name} "
                f"would get {tokens} tokens",  # OpenAI's words, which clients look for
                param=field,
                code="context_length_exceeded",
            )


def _bad_option(name: str, message: str) -> ApiError:
    return ApiError(400, message, param=f"tandem.{name}")


def _no_model(message: str) -> ApiError:
    return ApiError(404, message, param="model", code="model_not_found")


def _conversation(messages: list[ChatMessage]) -> tuple[tuple[Message, ...], str]:
    """Return a conversation up to its question, and the beginning of the answer, where its last message is that.

    A system message that is the last one is the question: many chat templates want one of the user's.
    """
    *asked, last = _messages(messages)
    begun = last.content if last.role == "assistant" else ""
    if last.role != "assistant":
        asked.append(last)
    if asked[-1].role == "system":
        asked[-1] = asked[-1].model_copy(update={"role": "user"})
    return tuple(asked), begun


def _check_begun(plan: SolvePlan, model: str, begun: str) -> None:
    """Raise ApiError for the beginning of an answer that no model of this strategy goes on from."""
    if not begun:
        return
    able = plan.strategy_name.partition(":")[0] in ("tandem", "fixed", "budget-forcing", *_ALONE.values())
    if not able or ("mentor" in plan.roles and len(plan.roles) > 1 and plan.mentor.spec.insight_mode == "prefix"):
        reason = (
            f"the last of 'messages' is the assistant's, and '{model}' does not go on from it; intern and mentor do"
        )
        raise ApiError(400, reason, param="messages")


def _messages(messages: list[ChatMessage]) -> tuple[Message, ...]:
    return tuple(
        Message(
            role="system" if m.role == "developer" else m.role,
            content=m.content,
            tool_calls=calls_of(m),
            tool_call_id=m.tool_call_id,
        )
        for m in messages
    )


def _form(request: ChatRequest | CompletionRequest) -> ResponseFormat | None:
    """Return the form of the answer. Raises ApiError for a schema that is none, or that cannot be checked in time."""
    if not isinstance(request, ChatRequest) or request.response_format is None:
        return None
    try:
        return request.response_format.format()
    except UsageError as error:
        where = "response_format.json_schema.schema"
        raise ApiError(400, f"{where}: {error}", param=where) from None


def _choice(options: SolveOptions, number: int) -> SolveOptions:
    """Return the options of one of several choices: each has its own seed; without a seed they are drawn freely."""
    return options if options.seed is None or not number else replace(options, seed=(options.seed + number) % (1 << 63))


def _budget(level: str, plan: SolvePlan) -> int | None:
    """Return a level's mentor tokens for this pair; None for an unknown level."""
    own = {e.name: e.tokens for e in plan.ladder if e.tokens is not None}
    return (DEFAULT_BUDGETS | dict(plan.budgets) | own).get(level)


def _lower(one: str | None, other: str | None, plan: SolvePlan) -> str | None:
    """Return the lower of two levels; None is no bound."""
    named = [level for level in (one, other) if level is not None]
    return min(named, key=lambda level: _budget(level, plan) or 0, default=None)
