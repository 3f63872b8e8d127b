"""Log-probabilities of a given text from a server that gives those of the prompt (vLLM, its `prompt_logprobs`).

Such a pass goes round vLLM's prefix cache and needs memory for the scores of every position: few at a time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from tandem.errors import CapabilityError
from tandem.models.base import Reading
from tandem.models.logprobs import FLOOR, token_stat
from tandem.models.openai.errors import Backoff, Failure
from tandem.models.openai.stream import scored_tokens
from tandem.models.openai.token_ids import REFUSED, text_of_ids
from tandem.models.openai.transport import Endpoint
from tandem.models.openai.usage import reported_usage
from tandem.spec import ModelSpec
from tandem.types import ScoredToken


async def read_text(
    endpoint: Endpoint,
    spec: ModelSpec,
    text: str | Sequence[int],
    top_logprobs: int,
    backoff: Backoff,
    alternatives: int | None = None,
) -> Reading:
    """Raises CapabilityError if the endpoint gives no log-probabilities of prompts, the last Failure if it fails."""
    top = max(top_logprobs, 1)
    body = {
        "model": endpoint.origin.model,
        "prompt": text if isinstance(text, str) else list(text),
        "stream": False,
        "max_tokens": 1,
        "temperature": 0.0,
        "prompt_logprobs": top,
        "return_token_ids": True,
    }
    if alternatives is not None:
        body["logprobs"] = top
    try:
        answer = json.loads(await endpoint.fetch(partial(endpoint.completion, body), backoff, REFUSED))
        whole = text if isinstance(text, str) else await text_of_ids(endpoint, text)
        return _reading(whole, answer, top, spec.vocabulary, alternatives)
    except Failure as failure:
        if failure.status in REFUSED and not failure.overflow:
            raise _none(endpoint, failure) from None
        raise
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        raise _none(endpoint, "no `prompt_logprobs` in its answer") from None


def _none(endpoint: Endpoint, why: object) -> CapabilityError:
    return CapabilityError(
        f"{endpoint.origin.where} gives no log-probabilities of a prompt ({why}); "
        "the published signals and the insight's own surprise need them, as vLLM gives them"
    )


def _reading(text: str, answer: dict[str, Any], top: int, vocabulary: int | None, alternatives: int | None) -> Reading:
    choice = answer["choices"][0]
    ids, given = choice["prompt_token_ids"], choice["prompt_logprobs"]
    pieces, stats, scored = [], [], []
    for token, entries in zip(ids[1:], given[1:], strict=True):
        own = entries[str(token)]
        best = [entry["logprob"] for entry in entries.values() if entry["rank"] <= top]
        pieces.append(own["decoded_token"] or "")
        stats.append(token_stat(own["logprob"], best, vocabulary))
        if alternatives is not None:
            others = sorted((e for e in entries.values() if e["rank"] <= alternatives), key=lambda e: int(e["rank"]))
            scored.append(_scored(own, tuple(_scored(other) for other in others)))
    first = text[: max(len(text) - sum(map(len, pieces)), 0)]  # for this one the server gives none
    usage = reported_usage(answer["usage"])
    if alternatives is None:
        return Reading([first, *pieces], stats, usage)
    following = next(iter(scored_tokens(choice["logprobs"])), None)
    if following is not None:
        following = following._replace(top=following.top[:alternatives])
    tokens = [ScoredToken(first, None), *scored]
    return Reading([first, *pieces], stats, usage, text, tokens, following, ended=choice["finish_reason"] == "stop")


def _scored(entry: Mapping[str, Any], top: tuple[ScoredToken, ...] = ()) -> ScoredToken:
    return ScoredToken(entry["decoded_token"] or "", max(float(entry["logprob"]), FLOOR), top)
