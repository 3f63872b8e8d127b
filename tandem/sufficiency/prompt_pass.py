"""Signals of one pass over the question and the insight: the published ones (arXiv 2604.23623) and the surprises.

The pass reads ``Question: …\\nHint: …\\nAnswer:`` without a chat template, its first 1024 tokens. The published code
takes entropies from whole distributions; ours come from the top k and are approximate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tandem.costs import Rates
from tandem.models.base import Reading
from tandem.models.logprobs import TokenStat

MAX_TOKENS = 1024
_SHAPES = ("mean", "std", "max", "min", "slope", "rising", "falling", "first_quarter", "last_quarter", "trend_change")
PUBLISHED = (
    "perplexity",
    "log_perplexity",
    *(f"entropy_{shape}" for shape in _SHAPES),
    *(f"logprob_{shape}" for shape in _SHAPES),
    "tokens",
)
INSIGHT = ("insight_surprise", "insight_entropy", "insight_least_likely", "question_surprise", "question_entropy")
_LABELS = 8  # tokens of the three labels
_QUESTION, _HINT, _ANSWER = "Question: ", "\nHint: ", "\nAnswer:"


def prompt_text(question: str, insight: str) -> str:
    return f"{_QUESTION}{question}{_HINT + insight if insight else ''}{_ANSWER}"


def pass_cost(intern: Rates, row: Mapping[str, Any]) -> float:
    """Return what the pass over a collected row's question and insight costs: an uncached prefill and one token."""
    tokens = row["question_tokens"] + row["insight_tokens"] + _LABELS
    return intern.cost(min(tokens, MAX_TOKENS), 0, 1, discarded=True)


def published_signals(stats: Sequence[TokenStat]) -> dict[str, float]:
    """Return 23 of the 25 published features; level index and level tokens are the row's own.

    Over the pass's tokens: perplexity and its logarithm; of entropy and of log-probability each mean, deviation,
    extremes, slope of the least-squares line, shares of steps that rise and fall, means of the first and the last
    quarter, and their difference; and the number of tokens.
    """
    if not stats:
        return dict.fromkeys(PUBLISHED, 0.0)
    table = np.asarray(stats, dtype=np.float64)
    loss = -float(table[:, 0].mean())
    values = [math.exp(min(loss, 700.0)), loss, *_shape(table[:, 1]), *_shape(table[:, 0]), float(len(table))]
    return {name: float(value) for name, value in zip(PUBLISHED, values, strict=True)}


def _shape(x: np.ndarray) -> list[float]:
    place = np.arange(len(x)) - (len(x) - 1) / 2
    steps = np.diff(x) if len(x) > 1 else np.zeros(1)
    quarter = max(len(x) // 4, 1)
    first, last = x[:quarter].mean(), x[-quarter:].mean()
    slope = float(place @ x) / max(float(place @ place), 1.0)
    extremes = [x.mean(), x.std(), x.max(), x.min()]
    return [*extremes, slope, (steps > 0).mean(), (steps < 0).mean(), first, last, last - first]


def insight_signals(reading: Reading, question: str, insight: str) -> dict[str, float]:
    """Return how surprising question and insight are to the intern, in nats a token (zeros for what is not there).

    The insight's mean and least likely token, and both texts' mean entropies, from the same pass. Where the tokens
    of either begin is found by their text, to within a token.
    """
    ends = np.cumsum([len(piece) for piece in reading.pieces])[1:]  # the first token has no statistics
    table = np.asarray(reading.stats, dtype=np.float64).reshape(-1, 4)
    border = len(_QUESTION) + len(question)
    asked = (ends > len(_QUESTION)) & (ends <= border)
    of_insight_only = (ends > border + len(_HINT)) & (ends <= border + len(_HINT) + len(insight))
    none = np.zeros((1, 4))
    of_question = table[asked] if asked.any() else none
    of_insight = table[of_insight_only] if of_insight_only.any() else none
    values = (
        -of_insight[:, 0].mean(),
        of_insight[:, 1].mean(),
        of_insight[:, 0].min(),
        -of_question[:, 0].mean(),
        of_question[:, 1].mean(),
    )
    return {name: float(value) for name, value in zip(INSIGHT, values, strict=True)}
