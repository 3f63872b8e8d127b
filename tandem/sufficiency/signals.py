"""Signals: a few floats from the intern's draft that tell whether it is on its way to a right answer."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tandem.models.logprobs import TokenStat

SIGNAL_VERSION = "1"
NAMES = (
    "log_perplexity",
    "entropy_mean",
    "entropy_std",
    "entropy_max",
    "entropy_trend",
    "entropy_gap",
    "least_likely",
    "least_likely_5",
    "margin_mean",
    "margin_low",
    "length",
    "ended",
)
_EDGE = 20  # tokens at either end for the trend, as in arXiv 2604.23623


def question_signals(tokens: int) -> dict[str, float]:
    """Return what the question alone tells: ``log_question_tokens``, log(1 + its length in the intern's tokens)."""
    return {"log_question_tokens": math.log1p(tokens)}


def draft_signals(stats: Sequence[TokenStat], *, ended: bool) -> dict[str, float]:
    """Return the signals of a draft (natural logarithms, nats); `ended`: the draft is the whole answer.

    log_perplexity
        minus the mean log-probability; the perplexity is its exponential
    entropy_mean, entropy_std, entropy_max, entropy_trend, entropy_gap
        of the tokens' entropies; trend = mean of the last 20 tokens minus the first 20; gap = mean estimator gap
    least_likely, least_likely_5
        log-probability of the least likely token, and the mean of the five least likely
    margin_mean, margin_low
        log-probability distance between the two best tokens: mean, and 10 % quantile
    length, ended
        log(1 + tokens), and whether the answer ended within the draft

    An empty draft gives zeros, apart from `ended`.
    """
    if not stats:
        return dict.fromkeys(NAMES, 0.0) | {"ended": float(ended)}
    table = np.asarray(stats, dtype=np.float64)
    logprob, entropy, gap, margin = table.T
    count = len(table)
    least = np.partition(logprob, min(4, count - 1))[:5]
    values = (
        -logprob.mean(),
        entropy.mean(),
        entropy.std(),
        entropy.max(),
        entropy[-_EDGE:].mean() - entropy[:_EDGE].mean(),
        gap.mean(),
        logprob.min(),
        least.mean(),
        margin.mean(),
        float(np.quantile(margin, 0.1)),
        math.log1p(count),
        float(ended),
    )
    return {name: float(value) for name, value in zip(NAMES, values, strict=True)}
