"""The hint on a pair that no classifier was fitted on: the command that tunes it, and what that costs."""

from __future__ import annotations

from tandem.costs import rates
from tandem.plan import SolvePlan
from tandem.spec import ModelSpec

PROBLEMS = 200  # that usually do
_PROMPT = 300  # tokens of a typical question with its instructions


def collection_price(mentor: ModelSpec, insight_tokens: int, answer_tokens: int, problems: int = PROBLEMS) -> str:
    """Return, as text, the maximal cost of the mentor's two generations per problem."""
    tokens = problems * (insight_tokens + answer_tokens)
    usd, tflops = rates(mentor, "usd", "mentor"), rates(mentor, "tflops", "mentor")
    if usd is not None:
        price = usd.cost(2 * problems * _PROMPT, 0, tokens)
        return f"at most about US$ {price:.2f} for the mentor's {tokens:,} tokens"
    each = sum(tflops.cost(_PROMPT, 0, written) for written in (insight_tokens, answer_tokens)) if tflops else 0.0
    work = f", {problems * each:,.0f} TFLOPs" if tflops else ""
    return f"at most {tokens:,} tokens of the mentor{work}" + (
        "; it runs here" if mentor.local else "; no price is known"
    )


def calibration_hint(plan: SolvePlan, command: str) -> str:
    """Return the advice for a set-up that the classifier was not fitted on: the command that tunes it."""
    budget = max((level.tokens or 0 for level in plan.ladder), default=0)
    price = collection_price(plan.mentor.spec, budget, plan.settings.mentor_max_tokens)
    return (
        f"The classifier was not fitted on this set-up ({', '.join(plan.mismatch)} differ), so sufficiency is "
        f"uncalibrated. Tune the pair on your own problems ({PROBLEMS} of them: {price}):\n{command}"
    )
