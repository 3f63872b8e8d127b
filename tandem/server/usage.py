"""The cost of a solution as OpenAI's `usage`, with the figures by role in a field of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tandem.costs import Unit
from tandem.engine import Tandem
from tandem.ledger import Ledger, Role, sum_known
from tandem.plan import SolvePlan
from tandem.runs.mentor_alone import answer_alone
from tandem.server.requests import SolveRequest
from tandem.thinking import split_thinking
from tandem.types import Solution

_COSTS: dict[str, Unit] = {"usd": "usd", "device_seconds": "seconds", "tflops": "tflops"}


def usage(solutions: Sequence[Solution], asked: Sequence[SolveRequest], engine: Tandem, choices: int) -> dict[str, Any]:
    """Return the usage of one request, which may have several prompts, each with this many choices.

    Prompt: the user's messages, once for all choices. Completion: the answers and the insights; the insights and what
    was thought are reasoning tokens. Other costs (probes, repeated prompts, an insight before the mentor's own answer)
    are under `tandem`.
    """
    ledger = sum((s.ledger for s in solutions), Ledger())
    prompt = sum(one.problem.prompt_tokens(engine.intern.count) for one in asked[::choices])
    answer = ledger.tokens(purpose="answer")
    insight = ledger.tokens("mentor", "insight")
    answers = ledger.select(purpose="answer")
    plans = [engine.plan(one.options) for one in asked]
    thought = sum(_thought(s, engine) for s, one in zip(solutions, asked, strict=True) if one.problem.raw is None)
    alone = [answer_alone(*each) for each in zip(plans, (one.problem for one in asked), solutions, strict=True)]
    return {
        "prompt_tokens": prompt,
        "completion_tokens": answer + insight,
        "total_tokens": prompt + answer + insight,
        "prompt_tokens_details": {
            # Of the prompt, which counts once here: an answer of two requests reads it twice.
            "cached_tokens": min(prompt, sum(entry.usage.cached for entry in answers)),
            "cache_write_tokens": min(prompt, sum(entry.usage.cache_write for entry in answers)),
        },
        "completion_tokens_details": {"reasoning_tokens": insight + thought},
        "tandem": {
            "mentor": _role(ledger, "mentor", "insight"),
            "intern": _role(ledger, "intern", "probe"),
            "unit": plans[0].unit,
            "usd": _usd(ledger, plans[0]),
            "device_seconds": ledger.device_seconds,
            "tflops": ledger.tflops,
            "tflops_published": ledger.tflops_published,
            "seconds": round(sum(s.seconds for s in solutions), 3),
            "mentor_alone": {
                "tokens": sum(one.usage.completion for one in alone),
                **{
                    name: sum_known(one.cost(engine.mentor.spec, unit) for one in alone)
                    for name, unit in _COSTS.items()
                },
                "basis": ", ".join(dict.fromkeys(one.basis for one in alone)),
                "bound": any(one.bound for one in alone),
                "estimate": True,
            },
        },
    }


def _usd(ledger: Ledger, plan: SolvePlan) -> float | None:
    """Return the bill in US$; an intern on own hardware costs none where the mentor has a price."""
    free = ledger.usd is None and plan.unit == "usd" and all(entry.local for entry in ledger)
    return 0.0 if free else ledger.usd


def _thought(solution: Solution, engine: Tandem) -> int:
    """Return the tokens of an answer that were thought: as reported, else as the model counts them."""
    answers = solution.ledger.select(purpose="answer")
    reported = sum(entry.usage.reasoning for entry in answers)
    thinking = solution.thinking
    if reported or not thinking or solution.answered_by is None:
        return reported
    if solution.text.startswith(solution.insight):  # it went on from the insight, which is counted already
        thinking = thinking.removeprefix(split_thinking(solution.insight)[0])
    return min(
        engine.model(solution.answered_by).count(thinking.strip()), sum(entry.usage.completion for entry in answers)
    )


def _role(ledger: Ledger, role: Role, other: Any) -> dict[str, Any]:
    own = Ledger(entries=ledger.select(role))
    return {
        "prompt": sum(e.usage.prompt for e in own),
        "cached": sum(e.usage.cached for e in own),
        "completion": own.tokens(),
        other: own.tokens(purpose=other),
        "answer": own.tokens(purpose="answer"),
        "usd": own.usd,
        "device_seconds": own.device_seconds,
        "tflops": own.tflops,
    }
