"""Signals: a few floats from the intern's draft that show whether it is heading for a right answer.

Every candidate that was ever evaluated has its definition here; NAMES are those that help, by the table of
`tandem signals` (training/ablation.py).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from tandem.models.logprobs import TokenStat

SIGNAL_VERSION = "3"
NAMES = (
    *("log_perplexity", "entropy_mean", "entropy_std", "entropy_max", "entropy_trend", "entropy_gap"),
    *("least_likely", "least_likely_5", "margin_mean", "margin_low", "settling", "length", "ended"),
)
QUESTION = ("log_question_tokens",)
QUESTION_CANDIDATES = (*QUESTION, "question_numbers", "question_sentences", "question_symbols")
# The question's once more, and a one, where nothing else is known; zeros beside a draft.
ALONE = ("alone", *(f"alone_{name}" for name in QUESTION_CANDIDATES))
_EDGE = 20  # tokens at either end for the trend, as in arXiv 2604.23623
_SURE = 3.0  # nats of margin from which a token is no choice at all
_FORK = 0.5  # nats of margin below which two continuations are open


class _Draft:
    __slots__ = ("count", "ended", "entropy", "gap", "logprob", "margin", "ranked")

    def __init__(self, stats: Sequence[TokenStat] | np.ndarray, ended: bool) -> None:
        self.logprob, self.entropy, self.gap, self.margin = np.asarray(stats, dtype=np.float64).T
        self.count, self.ended = len(self.logprob), ended
        self.ranked = np.sort(self.logprob)


def _first(x: np.ndarray, parts: int) -> float:
    return float(x[: max(len(x) // parts, 1)].mean())


def _last(x: np.ndarray, parts: int) -> float:
    return float(x[-max(len(x) // parts, 1) :].mean())


def _quantile(ranked: np.ndarray, share: float) -> float:
    """The value at `share` of the length of a sorted array, between neighbours by straight line."""
    place = share * (len(ranked) - 1)
    below = int(place)
    above = min(below + 1, len(ranked) - 1)
    return float(ranked[below] + (ranked[above] - ranked[below]) * (place - below))


# In nats unless stated otherwise.
_DEFINITIONS: dict[str, Callable[[_Draft], float]] = {
    # minus the mean log-probability; the perplexity is its exponential
    "log_perplexity": lambda d: -d.logprob.mean(),
    # of the tokens' entropies; trend: mean of the last 20 tokens minus the first 20; gap: mean estimator gap
    "entropy_mean": lambda d: d.entropy.mean(),
    "entropy_std": lambda d: d.entropy.std(),
    "entropy_max": lambda d: d.entropy.max(),
    "entropy_trend": lambda d: d.entropy[-_EDGE:].mean() - d.entropy[:_EDGE].mean(),
    "entropy_gap": lambda d: d.gap.mean(),
    # log-probability of the least likely token, and mean of the five least likely
    "least_likely": lambda d: d.ranked[0],
    "least_likely_5": lambda d: d.ranked[:5].mean(),
    # distance between the two best tokens: mean, and 10 % quantile
    "margin_mean": lambda d: d.margin.mean(),
    "margin_low": lambda d: _quantile(np.sort(d.margin), 0.1),
    # log-likelihood a token of the last third less that of the first: does it settle?
    "settling": lambda d: _last(d.logprob, 3) - _first(d.logprob, 3),
    # log(1 + tokens), and whether the answer ended within the draft (0 or 1)
    "length": lambda d: math.log1p(d.count),
    "ended": lambda d: float(d.ended),
    # ---- candidates from here on ----
    "least_likely_3": lambda d: d.ranked[:3].mean(),
    "least_likely_10": lambda d: d.ranked[:10].mean(),
    # where the least likely token stands, 0 to 1
    "least_likely_at": lambda d: float(d.logprob.argmin()) / d.count,
    # log-probability of the whole draft, and its tokens' deviation
    "total": lambda d: d.logprob.sum(),
    "logprob_std": lambda d: d.logprob.std(),
    "logprob_first_quarter": lambda d: _first(d.logprob, 4),
    "logprob_last_quarter": lambda d: _last(d.logprob, 4),
    # share of tokens that were no choice; share, and log(1 + number), of those where two continuations were open
    "commitment": lambda d: float((d.margin > _SURE).mean()),
    "forks": lambda d: float((d.margin < _FORK).mean()),
    "forks_log_count": lambda d: math.log1p(int((d.margin < _FORK).sum())),
    "margin_least": lambda d: d.margin.min(),
    "entropy_median": lambda d: _quantile(np.sort(d.entropy), 0.5),
    "entropy_high": lambda d: _quantile(np.sort(d.entropy), 0.9),
    "entropy_top_5": lambda d: np.sort(d.entropy)[-5:].mean(),
    "entropy_first": lambda d: d.entropy[0],
    "entropy_first_quarter": lambda d: _first(d.entropy, 4),
    "entropy_last_quarter": lambda d: _last(d.entropy, 4),
}
CANDIDATES = tuple(_DEFINITIONS)
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_SENTENCE = re.compile(r"[.?!](?:\s|$)")
_SYMBOL = re.compile(r"[\\^_{}=<>$\[\]()*/+]")


def question_signals(tokens: int) -> dict[str, float]:
    """Return the signals of the question alone: ``log_question_tokens``, log(1 + its length in the intern's tokens)."""
    return {"log_question_tokens": math.log1p(tokens)}


def question_candidates(question: str) -> dict[str, float]:
    """Return the other signals of a question's text: log(1 + n) of its numbers, its sentences and its symbols."""
    counts = (len(pattern.findall(question)) for pattern in (NUMBER, _SENTENCE, _SYMBOL))
    return dict(zip(QUESTION_CANDIDATES[1:], map(math.log1p, counts), strict=True))


def classifier_inputs(
    draft: Mapping[str, float], question: Mapping[str, float], *, alone: bool = False
) -> dict[str, float]:
    """Return what the classifier reads at a level: the draft's signals and the question's, or the question's alone."""
    if alone:
        return (
            dict.fromkeys(NAMES, 0.0)
            | dict(question)
            | {"alone": 1.0}
            | {f"alone_{name}": value for name, value in question.items()}
        )
    return dict.fromkeys(ALONE, 0.0) | dict(question) | dict(draft)


def draft_signals(
    stats: Sequence[TokenStat] | np.ndarray, *, ended: bool, names: Iterable[str] = NAMES
) -> dict[str, float]:
    """Return the signals `names` of a draft; `ended`: the draft is the whole answer. CANDIDATES are all there are.

    `stats` has a row of four for each token. An empty draft gives zeros, apart from `ended`.
    """
    if not len(stats):
        return dict.fromkeys(names, 0.0) | ({"ended": float(ended)} if "ended" in names else {})
    draft = _Draft(stats, ended)
    return {name: float(_DEFINITIONS[name](draft)) for name in names}


def change_signals(now: Mapping[str, float], before: Mapping[str, float] | None) -> dict[str, float]:
    """Return how a draft's signals differ from those at the level before it; zeros where there is none."""
    return {f"change_{name}": value - before[name] if before else 0.0 for name, value in now.items()}
