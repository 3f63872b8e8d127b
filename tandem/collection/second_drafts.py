"""A second draft of each row, sampled, and how far it agrees with the first."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from tandem.collection.agreement import agreement_signals
from tandem.collection.table import DRAFT_LENGTHS, WHOLE, rounded
from tandem.insight import intern_view, trim
from tandem.ledger import Ledger
from tandem.models.base import Model, Request
from tandem.models.call import Call
from tandem.spec import InsightMode
from tandem.strategies.best_of import same_answer
from tandem.sufficiency.rows import Row
from tandem.types import Problem, Sampling

TEMPERATURE = 0.7  # as self-consistency samples (arXiv 2203.11171)
_TOP = 2  # of the second only the chosen tokens count; more would cost the server more than they tell


def second_draft(
    problems: Mapping[str, Problem], intern: Model, mode: InsightMode, *, max_tokens: int
) -> Callable[[Row], Awaitable[dict[str, Any]]]:
    """Return what samples a second answer to a row's prompt and makes its ``agreement`` signals at every length.

    `mode` and `max_tokens` are those of the collection. The line keeps the answer, which is private.
    """

    async def make(row: Row) -> dict[str, Any]:
        problem, insight = problems[row["problem"]], trim(row["insight"])
        messages, prefix = intern_view(problem, insight, mode)
        request = Request(
            messages=messages,
            purpose="probe",
            max_tokens=max_tokens,
            sampling=Sampling(temperature=TEMPERATURE),
            prefix=prefix,
            top_logprobs=_TOP,
            affinity=problem.id,
        )
        call = await Call(intern, request, "intern", Ledger(), read_tokens=row["insight_tokens"]).complete()
        begun = prefix or ""
        first, agreed = row["text"].removeprefix(begun), same_answer(problem, row["text"], begun + call.text)
        found = {
            str(n): agreement_signals(
                intern.cut(first, n), intern.cut(call.text, n), call.stats[:n], ended=call.tokens <= n
            )
            for n in DRAFT_LENGTHS
        }
        found[WHOLE] = agreement_signals(first, call.text, call.stats, ended=True, same_answer=agreed)
        signals = {"agreement": {length: rounded(own) for length, own in found.items()}}
        return {"completion_tokens": call.tokens, "text": call.text, "signals": signals}

    return make
