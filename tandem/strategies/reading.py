"""One metered reading of a given text: one ledger entry, also where it fails or is broken off."""

from __future__ import annotations

import time
from collections.abc import Sequence

from tandem.errors import CapabilityError, EndpointError, UsageError
from tandem.ledger import Entry, Purpose, Role, Usage
from tandem.models.base import Reading, Reads
from tandem.strategies.context import Context

_SPECIAL = 2  # tokens that a tokenizer may add


async def read(
    ctx: Context,
    role: Role,
    text: str | Sequence[int],
    purpose: Purpose,
    *,
    top_logprobs: int,
    max_tokens: int | None = None,
    alternatives: int | None = None,
    read_tokens: int = 0,
) -> Reading:
    """Read a text with the model in `role`; the arguments are those of `Reads.read` and `Context.call`.

    Raises CapabilityError where the model gives no log-probabilities of a text.
    """
    model = ctx.model(role)
    if not isinstance(model, Reads):
        raise CapabilityError(f"{model.spec.name} gives no log-probabilities of a prompt here; serve it with vLLM")
    began = time.monotonic()
    bound = len(text.encode() if isinstance(text, str) else text) + _SPECIAL
    usage = Usage(source="bound", prompt_bound=min(bound, max_tokens or bound), completion_bound=1)
    error: str | None = "broken off"
    try:
        reading = await model.read(text, top_logprobs=top_logprobs, max_tokens=max_tokens, alternatives=alternatives)
        usage, error = reading.usage, None
        return reading
    except EndpointError as failure:
        usage, error = failure.usage or usage, str(failure)
        raise
    except UsageError as failure:  # it was not sent, or refused before any work
        usage, error = Usage(), str(failure)
        raise
    finally:
        seconds = time.monotonic() - began
        entry = Entry.of(model.spec, role, purpose, usage, seconds=seconds, read_tokens=read_tokens, error=error)
        ctx.ledger.entries.append(entry)
