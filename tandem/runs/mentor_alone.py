"""What the mentor alone would have cost, estimated from what it writes: never from the intern's text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tandem.costs import UNITS, Unit, rates
from tandem.insight import answer_messages
from tandem.ladder import Effort
from tandem.ledger import Ledger, Role, Usage
from tandem.models.base import TEMPLATE
from tandem.plan import SolvePlan
from tandem.spec import InsightMode, ModelSpec
from tandem.sufficiency.classifier import ClassifierCard
from tandem.types import Problem, Solution, TaskKind, count_prompt

_ENOUGH = 5  # of the mentor's own answers stand for the others
_AS_TRAINED = "its mean answer of {:,.0f} tokens when the classifier was trained"
_AT_THE_CAP = "every answer at the cap of {:,} tokens"
# What the mentor writes here as an answer is not what it would write alone.
_OTHERWISE = ("budget-forcing", "shepherding", "delegate")


@dataclass(frozen=True, slots=True)
class MentorAlone:
    """The mentor alone over the problems of a run in which it did not answer all of them itself.

    `cost` has, by unit, a value for each of `ids`: nan stands for the mean of the problems that it answered itself, and
    None for a unit without rates. `basis` says in words where the figures come from. With `bound` they are the most
    that it could have cost, which nothing can be compared with. `accuracy` is that on `problems` other problems.
    """

    ids: list[str]
    cost: Mapping[str, np.ndarray | None]
    basis: str
    bound: bool = False
    accuracy: float | None = None
    problems: int = 0


def mentor_alone(
    records: Iterable[Mapping[str, Any]], mentor: ModelSpec, *, card: ClassifierCard | None, cap: int
) -> MentorAlone:
    """Estimate the mentor alone on the problems of a run's records.

    Where it answered, its answer counts as it was; elsewhere its mean answer when the classifier of this pair was
    trained, else its mean answer in this run, else an answer of `cap` tokens, which is a bound.
    """
    ids: list[str] = []
    usages: list[Usage | None] = []
    prompts: list[int] = []
    usual: list[float | None] = []
    for record in records:
        ledger = Ledger.model_validate(record["ledger"])
        ids.append(record["problem"])
        usages.append(own_answer(record.get("strategy", ""), record["answered_by"], ledger, mentor.insight_mode))
        prompts.append(min((e.usage.prompt for e in ledger if e.usage.prompt), default=0))
        usual.append(usual_tokens(card, mentor, kind=record.get("task")))
    own, bound = sum(usage is not None for usage in usages), False
    known = [tokens for tokens, usage in zip(usual, usages, strict=True) if tokens is not None and usage is None]
    if own == len(ids):
        basis = "its own answers in this run"
    elif known:
        basis = _AS_TRAINED.format(sum(known) / len(known))
        basis = f"its own {own:,} answer{'s' if own > 1 else ''} in this run and, elsewhere, {basis}" if own else basis
    elif own >= _ENOUGH:
        basis = f"its own {own:,} answers in this run, which may be to the harder problems"
    else:
        basis, usual, bound = _AT_THE_CAP.format(cap), [float(cap)] * len(ids), True
    cost: dict[str, np.ndarray | None] = {}
    for unit in UNITS:
        each = rates(mentor, unit, "mentor")
        if each is None:
            cost[unit] = None
            continue
        cost[unit] = np.asarray(
            [
                each.cost(usage.prompt, usage.cached, usage.completion)
                if usage is not None
                else float("nan")
                if tokens is None
                else each.cost(prompt, 0, round(tokens))
                for usage, prompt, tokens in zip(usages, prompts, usual, strict=True)
            ]
        )
    found = None if card is None or card.mentor != mentor.name else _anchor(card).get("accuracy")
    problems = sum(card.data.get("problems", {}).values()) if card and found is not None else 0
    return MentorAlone(ids, cost, basis, bound, found, problems)


@dataclass(frozen=True, slots=True)
class AnswerAlone:
    """The mentor's answer to one problem, had it been asked alone; with `bound` the longest that it could be."""

    usage: Usage
    basis: str
    bound: bool = False

    def cost(self, mentor: ModelSpec, unit: Unit) -> float | None:
        each = rates(mentor, unit, "mentor")
        return None if each is None else each.cost(self.usage.prompt, self.usage.cached, self.usage.completion)


def answer_alone(plan: SolvePlan, problem: Problem, solution: Solution) -> AnswerAlone:
    """Estimate the mentor's answer to one problem as `mentor_alone` does for many."""
    mentor = plan.mentor.spec
    own = own_answer(solution.strategy, solution.answered_by, solution.ledger, mentor.insight_mode)
    if own is not None:
        return AnswerAlone(own, "its own answer")
    if problem.raw:
        written = solution.ledger.tokens(purpose="answer")
        read = sum(entry.usage.prompt for entry in solution.ledger)
        return AnswerAlone(Usage(prompt=read, completion=written), "the same tokens, read and written by it")
    prompt = TEMPLATE + count_prompt(answer_messages(problem), problem.tools, plan.mentor.count)
    usual, cap = usual_tokens(plan.nearest, mentor, kind=problem.task), plan.settings.mentor_max_tokens
    if usual is None:
        return AnswerAlone(Usage(prompt=prompt, completion=cap), _AT_THE_CAP.format(cap), bound=True)
    return AnswerAlone(Usage(prompt=prompt, completion=round(usual)), _AS_TRAINED.format(usual))


def own_answer(strategy: str, answered_by: str | None, ledger: Ledger, mode: InsightMode) -> Usage | None:
    """Return the tokens of the mentor's own whole answer in a solution; None where it gave none.

    Where an insight is the beginning of its answer, both are parts of it.
    """
    if answered_by != "mentor" or strategy.partition(":")[0] in _OTHERWISE:
        return None
    ended = [e for e in ledger.select("mentor") if e.error is None and e.purpose in ("answer", "insight")]
    parts = [e for e in ended if mode == "prefix" or e.purpose == "answer"]
    if not parts or (mode != "prefix" and len(parts) > 1):
        return None
    first = parts[0].usage
    written = sum(e.usage.completion for e in parts)
    return Usage(prompt=first.prompt, cached=first.cached, completion=written, source="counted")


def usual_tokens(
    card: ClassifierCard | None, model: ModelSpec, role: Role = "mentor", kind: TaskKind | None = None
) -> float | None:
    """Return the mean tokens of a model's answer alone, to problems of a kind where there were enough.

    As they were when the classifier of this model was trained; None where that is not known.
    """
    if card is None or (card.mentor if role == "mentor" else card.intern) != model.name:
        return None
    known = card.figures.get("usual_tokens", {})
    found: float | None = known.get(kind, known.get("all", {})).get(role)
    return found if found is not None or role == "intern" else _anchor(card).get("mentor_tokens")


def usual_insight(card: ClassifierCard, level: Effort) -> int:
    """Return the mean tokens of an insight that is cut at a level: the mentor may end before it."""
    tokens = level.tokens or 0
    mean = card.figures.get("anchors", {}).get(f"fixed:{level.name}", {}).get("mentor_tokens")
    return tokens if mean is None else min(round(mean), tokens)


def _anchor(card: ClassifierCard) -> Mapping[str, Any]:
    found: Mapping[str, Any] = card.figures.get("anchors", {}).get("mentor-only", {})
    return found
