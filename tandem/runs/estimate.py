"""What a run may cost, before anything is paid: prompts are counted, answers are taken at their caps.

"At most" is the dearest way through the strategy for every problem. "Likely" weighs the mentor's calls with the shares
of problems that went on at each level when the pair's classifier was trained; without one of its own there is none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tandem.engine import Tandem
from tandem.insight import answer_messages, mentor_messages
from tandem.ledger import Entry, Ledger, Role, Usage
from tandem.models.base import TEMPLATE
from tandem.strategies.base import PlannedCall
from tandem.sufficiency.classifier import ClassifierCard
from tandem.types import Problem

if TYPE_CHECKING:
    from rich.table import Table


def estimate(tandem: Tandem, problems: Sequence[Problem]) -> dict[str, Any]:
    """Return tokens, US$ and TFLOPs at most, and likely ones of the mentor (None where nothing is known)."""
    ledger = Ledger()
    shares = _reach(tandem, tandem.card)
    tokens, usd, calls = 0.0, 0.0, tandem.calls
    for problem in problems:
        prompts: dict[tuple[Role, bool], int] = {}
        for call in calls:
            key = call.role, call.purpose == "insight"
            if key not in prompts:
                prompts[key] = _prompt(tandem, problem, *key)
            ledger.entries.append(_entry(tandem, call, prompts[key], call.max_tokens))
            if shares is not None and call.role == "mentor":
                written = _usual(tandem, call)
                likely = _entry(tandem, call, prompts[key], written)
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
        if shares is None
        else {"mentor_tokens": round(tokens), "mentor_usd": usd if tandem.mentor.spec.prices else None},
    }


def estimate_table(found: Mapping[str, Any], tandem: Tandem) -> Table:
    """Return an estimate as a rich table."""
    from rich.table import Table

    most, likely = found["at_most"], found["likely"]
    table = Table(title=f"{tandem.strategy_name} over {found['problems']} problems: what it may cost")
    for heading in ("", "at most", "likely"):
        table.add_column(heading, justify="right" if heading else "left")
    table.add_row(
        "mentor tokens", f"{most['mentor_tokens']:,}", f"{likely['mentor_tokens']:,}" if likely else "unknown"
    )
    table.add_row("intern tokens", f"{most['intern_tokens']:,}", "unknown")
    dollars = likely["mentor_usd"] if likely else None
    table.add_row("US$", _usd(most["usd"]), "unknown" if dollars is None else _usd(dollars))
    table.add_row("TFLOPs", "unknown sizes" if most["tflops"] is None else f"{most['tflops']:,.0f}", "unknown")
    return table


def _usd(amount: float | None) -> str:
    return "no price (--prices FILE)" if amount is None else f"{amount:.2f}"


def _prompt(tandem: Tandem, problem: Problem, role: Role, insight: bool) -> int:
    model = tandem.model(role)
    messages = mentor_messages(problem, model.spec.insight_mode) if insight else answer_messages(problem)
    return sum(model.count(m.content) for m in messages) + TEMPLATE


def _entry(tandem: Tandem, call: PlannedCall, prompt: int, written: int) -> Entry:
    model = tandem.model(call.role)
    usage = Usage(prompt=prompt + call.read_tokens, completion=written, source="bound")
    return Entry.of(model.spec, call.role, call.purpose, usage, seconds=0.0, read_tokens=call.read_tokens)


def _reach(tandem: Tandem, card: ClassifierCard | None) -> dict[str, float] | None:
    """Return the share of problems that come to each level; None without a classifier of the pair's own."""
    if card is None or (card.mentor, card.intern) != (tandem.mentor.spec.name, tandem.intern.spec.name):
        return None
    reached, share = {}, 1.0
    for level in tandem.ladder:
        reached[level.name] = share
        share *= 1.0 - card.policy.stop_shares.get(level.name, 0.0)
    return reached


def _usual(tandem: Tandem, call: PlannedCall) -> int:
    """Return how much the mentor usually writes: its mean answer when the classifier was trained, at most its cap."""
    if call.purpose == "answer" and tandem.card:
        mean = tandem.card.figures.get("anchors", {}).get("mentor-only", {}).get("mentor_tokens")
        return min(round(mean), call.max_tokens) if mean else call.max_tokens
    return call.max_tokens
