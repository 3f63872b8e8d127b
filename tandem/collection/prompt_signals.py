"""The signals of a prompt pass: the intern reads each row's question and insight once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from tandem.collection.table import rounded
from tandem.errors import CapabilityError
from tandem.insight import trim
from tandem.models.base import Model, Reads
from tandem.sufficiency.prompt_pass import MAX_TOKENS, insight_signals, prompt_text, published_signals
from tandem.sufficiency.rows import Row
from tandem.types import Problem


def prompt_pass(
    problems: Mapping[str, Problem], intern: Model, *, top_logprobs: int = 20
) -> Callable[[Row], Awaitable[dict[str, Any]]]:
    """Return what makes the ``published`` and ``insight`` signals of a row.

    Few passes may run at once: they can exhaust a server's memory. Raises CapabilityError for an intern that cannot
    read a text.
    """
    if not isinstance(intern, Reads):
        raise CapabilityError(f"{intern.spec.name} cannot tell the log-probabilities of a prompt; serve it with vLLM")

    async def make(row: Row) -> dict[str, Any]:
        question, insight = problems[row["problem"]].question, trim(row["insight"])
        reading = await intern.read(prompt_text(question, insight), top_logprobs=top_logprobs, max_tokens=MAX_TOKENS)
        signals = {
            "published": published_signals(reading.stats),
            "insight": insight_signals(reading, question, insight),
        }
        kept = {part: rounded(found) for part, found in signals.items()}
        return {"read_tokens": reading.usage.prompt, "signals": kept}

    return make
