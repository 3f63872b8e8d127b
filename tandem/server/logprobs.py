"""Log-probabilities in OpenAI's two forms: a list of objects for a chat, parallel lists for a text."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from tandem.types import ScoredToken


def chat_logprobs(tokens: Sequence[ScoredToken] | None) -> dict[str, Any] | None:
    """Return the `logprobs` of a chat's choice; None where they were not asked for."""
    if tokens is None:
        return None
    content = [_object(token) | {"top_logprobs": [_object(other) for other in token.top]} for token in tokens]
    return {"content": content, "refusal": None}


def _object(token: ScoredToken) -> dict[str, Any]:
    raw = token.text.encode() if token.raw is None else token.raw
    return {"token": token.text, "logprob": token.logprob, "bytes": list(raw)}


def text_logprobs(tokens: Sequence[ScoredToken] | None, at: int = 0) -> dict[str, Any] | None:
    """Return the `logprobs` of a text's choice; the first token is at character `at`.

    The token itself is among the likeliest, also where it is not one of them; of two that read the same the likelier
    counts. The first token of a text has no log-probability.
    """
    if tokens is None:
        return None
    texts = [token.text for token in tokens]
    known = [None if token.logprob is None else token for token in tokens]
    return {
        "tokens": texts,
        "token_logprobs": [token and token.logprob for token in known],
        "top_logprobs": [token and _by_text(token) for token in known],
        "text_offset": list(accumulate((len(text) for text in texts[:-1]), initial=at)) if texts else [],
    }


def _by_text(token: ScoredToken) -> dict[str, float | None]:
    likeliest: dict[str, float | None] = {}
    for one in (*token.top, token):
        likeliest.setdefault(one.text, one.logprob)
    return likeliest
