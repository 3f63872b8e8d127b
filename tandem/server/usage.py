"""The cost of a solution as OpenAI's `usage`, with the figures by role in a field of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tandem.costs import rates
from tandem.engine import Tandem
from tandem.ledger import Ledger, Role, sum_known
from tandem.models.base import TEMPLATE
from tandem.server.requests import SolveRequest
from tandem.types import Solution


def usage(solutions: Sequence[Solution], asked: Sequence[SolveRequest], engine: Tandem, choices: int) -> dict[str, Any]:
    """Return the usage of one request, which may have several prompts, each with this many choices.

    Prompt: the user's messages, once for all choices. Completion: the answers, and the insights as reasoning tokens.
    Other costs (probes, repeated prompts, an insight before the mentor's own answer) are under `tandem`.
    """
    mentor = engine.mentor
    ledger = sum((s.ledger for s in solutions), Ledger())
    prompt = sum(engine.intern.count(message.content) for one in asked[::choices] for message in one.problem.messages)
    answer = ledger.tokens(purpose="answer")
    insight = ledger.tokens("mentor", "insight")
    # Answers of the same lengths by the mentor alone; its answers may be longer.
    usd, tflops = rates(mentor.spec, "usd", "mentor"), rates(mentor.spec, "tflops", "mentor")
    alone = [mentor.count(solution.text) for solution in solutions]
    read = sum(mentor.count(message.content) for message in asked[0].problem.messages) + TEMPLATE
    return {
        "prompt_tokens": prompt,
        "completion_tokens": answer + insight,
        "total_tokens": prompt + answer + insight,
        "completion_tokens_details": {"reasoning_tokens": insight},
        "tandem": {
            "mentor": _role(ledger, "mentor", "insight"),
            "intern": _role(ledger, "intern", "probe"),
            "usd": ledger.usd,
            "tflops": ledger.tflops,
            "tflops_published": ledger.tflops_published,
            "seconds": round(sum(s.seconds for s in solutions), 3),
            "mentor_alone": {
                "tokens": sum(alone),
                "usd": sum_known(usd.cost(read, 0, tokens) if usd else None for tokens in alone),
                "tflops": sum_known(tflops.cost(read, 0, tokens) if tflops else None for tokens in alone),
                "estimate": True,
            },
        },
    }


def _role(ledger: Ledger, role: Role, other: Any) -> dict[str, Any]:
    own = Ledger(entries=ledger.select(role))
    return {
        "prompt": sum(e.usage.prompt for e in own),
        "cached": sum(e.usage.cached for e in own),
        "completion": own.tokens(),
        other: own.tokens(purpose=other),
        "answer": own.tokens(purpose="answer"),
        "usd": own.usd,
        "tflops": own.tflops,
    }
