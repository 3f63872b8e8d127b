"""Log-probabilities of a given text from a server that gives those of the prompt (vLLM, its `prompt_logprobs`).

Such a pass goes round vLLM's prefix cache and needs memory for the scores of every position: few at a time.
"""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from tandem.errors import CapabilityError
from tandem.models.base import Reading
from tandem.models.logprobs import token_stat
from tandem.models.openai.errors import Backoff, Failure
from tandem.models.openai.token_ids import REFUSED
from tandem.models.openai.transport import Endpoint
from tandem.models.openai.usage import reported_usage
from tandem.spec import ModelSpec


async def read_text(endpoint: Endpoint, spec: ModelSpec, text: str, top_logprobs: int, backoff: Backoff) -> Reading:
    """Raises CapabilityError if the endpoint gives no log-probabilities of prompts, the last Failure if it fails."""
    body = {
        "model": endpoint.origin.model,
        "prompt": text,
        "stream": False,
        "max_tokens": 1,
        "temperature": 0.0,
        "prompt_logprobs": top_logprobs,
        "return_token_ids": True,
    }
    try:
        answer = json.loads(await endpoint.fetch(partial(endpoint.completion, body), backoff, REFUSED))
        return _reading(text, answer, top_logprobs, spec.vocabulary)
    except Failure as failure:
        if failure.status in REFUSED:
            raise _none(endpoint, failure) from None
        raise
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        raise _none(endpoint, "no `prompt_logprobs` in its answer") from None


def _none(endpoint: Endpoint, why: object) -> CapabilityError:
    return CapabilityError(
        f"{endpoint.origin.where} gives no log-probabilities of a prompt ({why}); "
        "the published signals and the insight's own surprise need them, as vLLM gives them"
    )


def _reading(text: str, answer: dict[str, Any], top: int, vocabulary: int | None) -> Reading:
    choice = answer["choices"][0]
    ids, given = choice["prompt_token_ids"], choice["prompt_logprobs"]
    pieces, stats = [], []
    for token, entries in zip(ids[1:], given[1:], strict=True):
        own = entries[str(token)]
        best = [entry["logprob"] for entry in entries.values() if entry["rank"] <= top]
        pieces.append(own["decoded_token"] or "")
        stats.append(token_stat(own["logprob"], best, vocabulary))
    first = text[: max(len(text) - sum(map(len, pieces)), 0)]  # for this one the server gives none
    return Reading([first, *pieces], stats, reported_usage(answer["usage"]))
