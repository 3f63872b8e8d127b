"""A run's cost estimate before its first call: prompts are counted, answers are taken at their caps.

"At most" is the most expensive path through the strategy for every problem. "Likely" weights the mentor's calls by
the share of problems that climbed past each level when the pair's classifier was trained; without one there is none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tandem.costs import rates
from tandem.insight import answer_messages, mentor_messages
from tandem.ledger import Entry, Ledger, Role, Usage
from tandem.models.base import TEMPLATE, within
from tandem.plan import KINDS, SolvePlan
from tandem.strategies.base import PlannedCall
from tandem.types import Problem, TaskKind

if TYPE_CHECKING:
    from rich.table import Table


def estimate(plan: SolvePlan, problems: Sequence[Problem]) -> dict[str, Any]:
    """Return maximal tokens, US$ and TFLOPs, and the mentor's likely ones (None if unknown)."""
    ledger = Ledger()
    reach = {kind: _reach(plan, kind) for kind in KINDS}
    calls = {kind: plan.calls(kind) for kind in {problem.task for problem in problems}}
    tokens, usd = 0.0, 0.0
    for problem in problems:
        shares = reach[problem.task]
        prompts: dict[tuple[Role, bool], int] = {}
        for call in calls[problem.task]:
            key = call.role, call.purpose == "insight"
            if key not in prompts:
                prompts[key] = _prompt(plan, problem, *key)
            ledger.entries.append(_entry(plan, call, prompts[key], call.max_tokens))
            if shares is not None and call.role == "mentor":
                written = within(plan.mentor.spec, prompts[key] + call.read_tokens, _usual(plan, call))
                likely = _entry(plan, call, prompts[key], written)
                tokens += shares.get(call.level, 1.0) * written
                usd += shares.get(call.level, 1.0) * (likely.usd or 0.0)
    return {
        "problems": len(problems),
        "at_most": {
            "mentor_tokens": ledger.mentor_tokens,
            "intern_tokens": ledger.intern_tokens,
            "usd": ledger.usd,
            "tflops": ledger.tflops,
        },
        "likely": None
        if reach[KINDS[0]] is None
        else {"mentor_tokens": round(tokens), "mentor_usd": usd if rates(plan.mentor.spec, "usd", "mentor") else None},
    }


def estimate_table(found: Mapping[str, Any], plan: SolvePlan) -> Table:
    from rich.table import Table

    most, likely = found["at_most"], found["likely"]
    table = Table(title=f"{plan.strategy_name} over {found['problems']} problems: what it may cost")
    for heading in ("", "at most", "likely"):
        table.add_column(heading, justify="right" if heading else "left")
    table.add_row(
        "mentor tokens", f"{most['mentor_tokens']:,}", f"{likely['mentor_tokens']:,}" if likely else "unknown"
    )
    table.add_row("intern tokens", f"{most['intern_tokens']:,}", "unknown")
    dollars = likely["mentor_usd"] if likely else None
    table.add_row("US$", _usd(most["usd"]), "unknown" if dollars is None else _usd(dollars))
    specs = {role: plan.model(role).spec for role in plan.roles}
    unsized = [spec.name for role, spec in specs.items() if rates(spec, "tflops", role) is None]
    tflops = f"no size of {' and '.join(unsized)}" if most["tflops"] is None else f"{most['tflops']:,.0f}"
    table.add_row("TFLOPs", tflops, "unknown")
    return table


def _usd(amount: float | None) -> str:
    return "no price (--prices FILE)" if amount is None else f"{amount:.2f}"


def _prompt(plan: SolvePlan, problem: Problem, role: Role, insight: bool) -> int:
    model = plan.model(role)
    messages = mentor_messages(problem, model.spec.insight_mode) if insight else answer_messages(problem)
    return sum(model.count(m.content) for m in messages) + TEMPLATE


def _entry(plan: SolvePlan, call: PlannedCall, prompt: int, written: int) -> Entry:
    model = plan.model(call.role)
    read = prompt + call.read_tokens
    usage = Usage(prompt=read, completion=within(model.spec, read, written), source="bound")
    return Entry.of(model.spec, call.role, call.purpose, usage, seconds=0.0, read_tokens=call.read_tokens)


def _reach(plan: SolvePlan, kind: TaskKind) -> dict[str, float] | None:
    """Return the share of problems of a kind that reach each level; None without a classifier for the pair."""
    card, own = plan.card, plan.for_kind(kind)
    if (
        card is None
        or own.point is None
        or (card.mentor, card.intern) != (plan.mentor.spec.name, plan.intern.spec.name)
    ):
        return None
    reached, share = {}, 1.0
    for level in own.ladder:
        reached[level.name] = share
        share *= 1.0 - own.point.policy.stop_shares.get(level.name, 0.0)
    return reached


def _usual(plan: SolvePlan, call: PlannedCall) -> int:
    """Return the mentor's usual answer length: its mean when the classifier was trained, at most the cap."""
    if call.purpose == "answer" and plan.card:
        mean = plan.card.figures.get("anchors", {}).get("mentor-only", {}).get("mentor_tokens")
        return min(round(mean), call.max_tokens) if mean else call.max_tokens
    return call.max_tokens
