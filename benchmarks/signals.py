"""How long the signals of a draft and the classifier's decision take, on one core.

    OMP_NUM_THREADS=1 python benchmarks/signals.py

Prints medians and 99 % quantiles in microseconds, for drafts of 16 to 768 tokens: the standing signals, every
candidate, and the decision (sufficiency and verdict) of the shipped classifiers.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from tandem.errors import TandemError
from tandem.ladder import parse_ladder
from tandem.models.logprobs import TokenStat
from tandem.sufficiency.classifier import available, load_classifier
from tandem.sufficiency.policy import Policy
from tandem.sufficiency.prompt_pass import PUBLISHED, published_signals
from tandem.sufficiency.signals import (
    CANDIDATES,
    NAMES,
    classifier_inputs,
    draft_signals,
    question_candidates,
    question_signals,
)

_ROUNDS = 2000


def stats(tokens: int) -> list[TokenStat]:
    """Return made-up statistics of a draft."""
    rng = np.random.default_rng(0)
    columns = (-rng.exponential(0.2, tokens), rng.exponential(0.4, tokens), rng.random(tokens) / 9, rng.random(tokens))
    return [TokenStat(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def measure(what: str, call: Callable[[], object]) -> None:
    """Print how long `call` takes."""
    for _ in range(50):
        call()
    taken = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        call()
        taken.append(1e6 * (time.perf_counter() - began))
    print(f"{what:<48} median {np.median(taken):7.1f} us   99 % {np.quantile(taken, 0.99):7.1f} us")


def main() -> None:
    """Measure signals and decisions."""
    for tokens in (16, 64, 256, 768):
        draft = stats(tokens)
        measure(f"{len(NAMES)} signals, {tokens} tokens", lambda draft=draft: draft_signals(draft, ended=False))
    draft = stats(64)
    measure(f"all {len(CANDIDATES)} candidates, 64 tokens", lambda: draft_signals(draft, ended=False, names=CANDIDATES))
    text = stats(400)
    measure(f"{len(PUBLISHED)} published signals, 400 tokens", lambda: published_signals(text))
    question = question_signals(80) | question_candidates("What is 3 + 4, and half of it?")
    signals = classifier_inputs(draft_signals(draft, ended=False), question)
    for name in available():
        try:
            policy = Policy((classifier := load_classifier(name)), classifier.card.policy)
        except TandemError as error:
            print(error)
            continue
        ladder = parse_ladder(classifier.card.ladder)
        measure(f"decision of {name}", lambda p=policy, e=ladder: p.decide(e[0], signals, 0, e[1:]))


if __name__ == "__main__":
    main()
