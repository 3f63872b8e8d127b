"""Do two drafts of one question say the same? Signals of a second draft, sampled beside the greedy one.

Agreement of whole samples is the usual training-free sign that an answer holds (self-consistency, arXiv 2203.11171).
Here two drafts are cut at the same length, so that it is as cheap as a draft.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any

from tandem.models.logprobs import TokenStat
from tandem.spec import ModelSpec
from tandem.sufficiency.signals import NUMBER, draft_signals

AGREEMENT = (
    "agreement_prefix",
    "agreement_words",
    "agreement_numbers",
    "agreement_answer",
    "second_log_perplexity",
    "second_least_likely",
    "second_length",
)
_WORD = re.compile(r"\w+|[^\w\s]")
_OF_SECOND = ("log_perplexity", "least_likely", "length")


def agreement_signals(
    first: str, second: str, stats: Sequence[TokenStat], *, ended: bool, same_answer: bool | None = None
) -> dict[str, float]:
    """Return how far two drafts agree, and how sure the intern was of the second, whose statistics `stats` are.

    ``agreement_prefix``: share of the longer draft's words up to the first that differs. ``agreement_words`` and
    ``agreement_numbers``: twice the shared ones over all (Dice, with repetitions; 1 where neither has one).
    ``agreement_answer``: 1 or 0 where both give an answer that can be compared (`same_answer`), else 0.5. The
    second's log-perplexity, least likely token and log(1 + tokens) are as in `signals`.
    """
    words, others = _WORD.findall(first), _WORD.findall(second)
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(words, others, strict=False)))
    of_second = draft_signals(stats, ended=ended, names=_OF_SECOND)
    return {
        "agreement_prefix": shared / max(len(words), len(others), 1),
        "agreement_words": _dice(words, others),
        "agreement_numbers": _dice(NUMBER.findall(first), NUMBER.findall(second)),
        "agreement_answer": 0.5 if same_answer is None else float(same_answer),
        **{f"second_{name}": value for name, value in of_second.items()},
    }


def second_tflops(intern: ModelSpec, row: Mapping[str, Any], draft: str) -> float:
    """Return what the second draft of a collected row costs: its tokens alone, as both read the prompt once."""
    written = round(math.expm1(row["signals"]["agreement"][draft]["second_length"]))
    return intern.tflops(row["prompt_tokens"], row["prompt_tokens"], written) or 0.0


def _dice(one: Sequence[str], other: Sequence[str]) -> float:
    total = len(one) + len(other)
    return 2 * (Counter(one) & Counter(other)).total() / total if total else 1.0
