"""A run's cost estimate before its first call: prompts are counted, answers are taken at their caps.

"At most" is the most expensive path through the strategy for every problem. "Likely" weights calls of the usual length
by the share of problems that climbed to each level when the pair's classifier was trained; without one there is none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Literal

from tandem.costs import LABELS, UNITS, Unit, figure, rates
from tandem.insight import answer_messages, mentor_messages
from tandem.ledger import Entry, Ledger, Purpose, Role, Usage
from tandem.models.base import TEMPLATE, within
from tandem.plan import SolvePlan
from tandem.runs.mentor_alone import usual_insight, usual_tokens
from tandem.strategies.base import PlannedCall
from tandem.types import Problem, TaskKind, count_prompt
from tandem.words import counted

if TYPE_CHECKING:
    from rich.table import Table


Counted = Unit | Literal["intern_tokens"]
COUNTED: tuple[Counted, ...] = (*UNITS, "intern_tokens")
_UNTUNED = "unknown until tuned"
_TUNE = "What is likely follows from how far this pair's problems climb: tandem tune measures it."


@dataclass(frozen=True, slots=True)
class _LikelyCall:
    """A call that a share of the problems make; `max_tokens` is its usual length, None where that is not known."""

    share: float
    role: Role
    purpose: Purpose
    written: int | None
    read_tokens: int = 0


def estimate(plan: SolvePlan, problems: Sequence[Problem]) -> dict[str, Any]:
    """Return the plan's unit, and tokens and costs in every unit: at most, and likely (None: not known)."""
    ledger = Ledger()
    sums = {name: _Sum() for name in COUNTED}
    kinds = {problem.task for problem in problems}
    calls = {kind: plan.calls(kind) for kind in kinds}
    likely = {kind: _likely(plan, kind) for kind in kinds}
    for problem in problems:
        read = cache(partial(_prompt, plan, problem))
        for call in calls[problem.task]:
            prompt = read(call.role, call.purpose == "insight") + call.read_tokens
            ledger.entries.append(_entry(plan, call, prompt, call.max_tokens))
        for one in likely[problem.task] or ():
            prompt = read(one.role, one.purpose == "insight") + one.read_tokens
            entry = None if one.written is None else _entry(plan, one, prompt, one.written)
            for name, total in sums.items():
                total.add(one.share, _cost(plan, one.role, entry, name))
    return {
        "problems": len(problems),
        "unit": plan.unit,
        "at_most": {name: _total(ledger, name) for name in sums},
        "likely": None
        if None in likely.values()
        else {name: _rounded(name, total.value) for name, total in sums.items()},
    }


class _Sum:
    """A weighted sum; None where a part is not known."""

    def __init__(self) -> None:
        self.value: float | None = 0.0

    def add(self, share: float, cost: float | None) -> None:
        self.value = None if cost is None or self.value is None else self.value + share * cost


def _rounded(name: Counted, value: float | None) -> float | None:
    return round(value) if value is not None and name in {"mentor_tokens", "intern_tokens"} else value


def _total(ledger: Ledger, name: Counted) -> float | None:
    if name == "intern_tokens":
        return ledger.intern_tokens
    return ledger.mentor_tokens if name == "mentor_tokens" else ledger.cost(name)


def _cost(plan: SolvePlan, role: Role, entry: Entry | None, name: Counted) -> float | None:
    """Return what a likely call adds to a total; what needs its length is not known without it."""
    if (role == "intern" and name == "mentor_tokens") or (role == "mentor" and name == "intern_tokens"):
        return 0.0
    if name == "usd" and plan.model(role).spec.local and rates(plan.model(role).spec, "usd", role) is None:
        return 0.0 if plan.unit == "usd" else None  # own hardware beside a mentor with a price
    return None if entry is None else _total(Ledger(entries=[entry]), name)


def estimate_view(found: Mapping[str, Any], plan: SolvePlan) -> list[Table | str]:
    from rich.table import Table

    most, likely = found["at_most"], found["likely"]
    table = Table(title=f"{plan.strategy_name} over {counted(found['problems'], 'problem')}: what it may cost")
    for heading in ("", "at most", "likely"):
        table.add_column(heading, justify="right" if heading else "left")
    first = sorted(UNITS, key=lambda name: name != found["unit"])
    specs = {role: plan.model(role).spec for role in plan.roles}
    unsized = " and ".join(spec.name for role, spec in specs.items() if rates(spec, "tflops", role) is None)
    lacking = {"usd": "no price (--prices FILE)", "seconds": "no profile", "tflops": f"no size of {unsized}"}
    rows: list[tuple[Counted, Unit, str]] = [(unit, unit, LABELS[unit]) for unit in first]
    for name, unit, label in [*rows, ("intern_tokens", "mentor_tokens", "intern tokens")]:
        why = lacking.get(name, "unknown")
        if most[name] is not None or name in {found["unit"], "usd", "tflops"}:
            top = why if most[name] is None else figure(most[name], unit)
            usual = likely[name] if likely else None
            why = why if most[name] is None else "unknown"  # how long the answers usually are
            table.add_row(label, top, _UNTUNED if likely is None else why if usual is None else figure(usual, unit))
    return [table, *([] if likely else [_TUNE])]


def _prompt(plan: SolvePlan, problem: Problem, role: Role, insight: bool) -> int:
    model = plan.model(role)
    if raw := problem.raw:
        return (2 if raw.echo else 1) * (raw.tokens(model.count) + TEMPLATE)  # it may be read apart from the answer
    if insight:
        return count_prompt(mentor_messages(problem, model.spec.insight_mode), None, model.count) + TEMPLATE
    room = problem.tools.room if problem.tools else 0  # at most: templates and words about functions differ
    return count_prompt(answer_messages(problem), None, model.count) + room + TEMPLATE


def _entry(plan: SolvePlan, call: PlannedCall | _LikelyCall, prompt: int, written: int) -> Entry:
    model = plan.model(call.role)
    usage = Usage(prompt=prompt, completion=within(model.spec, prompt, written), source="bound")
    return Entry.of(model.spec, call.role, call.purpose, usage, seconds=0.0, read_tokens=call.read_tokens)


def _likely(plan: SolvePlan, kind: TaskKind) -> list[_LikelyCall] | None:
    """Return the calls of problems of a kind; None without a classifier for the pair that says how far they climb."""
    card, own = plan.nearest, plan.for_kind(kind)
    if card is None or (card.mentor, card.intern) != (plan.mentor.spec.name, plan.intern.spec.name):
        return None
    usual = {role: usual_tokens(card, plan.model(role).spec, role, kind) for role in ("mentor", "intern")}

    def length(role: Role, cap: int) -> int | None:
        found = usual[role]
        return None if found is None else min(round(found), cap)

    if plan.strategy_name.partition(":")[0] in _STRAIGHT:
        return [
            _LikelyCall(
                1.0,
                c.role,
                c.purpose,
                length(c.role, c.max_tokens) if c.purpose == "answer" else c.max_tokens,
                c.read_tokens,
            )
            for c in plan.calls(kind)
        ]
    if own.point is None or plan.strategy_name != "tandem":
        return None
    found: list[_LikelyCall] = []
    settings, reach, before = plan.settings, 1.0, 0
    for level in own.ladder:
        if level.is_answer:
            rest = length("mentor", settings.mentor_max_tokens)
            if rest is not None and plan.mentor.spec.insight_mode == "prefix":
                rest = max(rest - before, 0)  # the insight is its beginning
            found.append(_LikelyCall(reach, "mentor", "answer", rest))
            break
        tokens = usual_insight(card, level)
        if level.is_drafted and tokens > before:
            found.append(_LikelyCall(reach, "mentor", "insight", tokens - before, before))
        stops = 1.0 if level is own.ladder[-1] else own.point.policy.stop_shares.get(level.name, 0.0)
        answer = length("intern", settings.intern_max_tokens)
        found.append(_LikelyCall(reach * stops, "intern", "answer", answer, tokens))
        reach *= 1.0 - stops
        if level.is_drafted:
            draft = answer if own.draft_tokens is None else min(own.draft_tokens, settings.intern_max_tokens)
            found.append(_LikelyCall(reach, "intern", "probe", draft, tokens))
            before = tokens
    return [call for call in found if call.share > 0]


_STRAIGHT = ("mentor-only", "intern-only", "fixed")  # every problem takes the same path
