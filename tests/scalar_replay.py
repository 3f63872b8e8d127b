"""The oracle of the batch replay: `Policy.verdict`, one problem and one level after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tandem.ladder import Ladder
from tandem.sufficiency.policy import Policy
from tandem.training.replay import Outcome, Step


def replay(
    steps: Sequence[Step],
    policy: Policy,
    p: Mapping[str, float],
    signals: Mapping[str, Mapping[str, float]] | None = None,
) -> Outcome:
    """Return what the policy makes of a walk; `p` is the sufficiency at each level, `signals` those of its draft."""
    for step in steps:
        if step.level.is_answer:
            return step.stop
        action, _ = policy.verdict(
            step.level, p[step.level.name], step.later, signals=(signals or {}).get(step.level.name, {})
        )
        if action == "stop":
            return step.stop
        if action == "answer" and step.answer is not None:
            return step.answer
    raise ValueError("the ladder has no level that completes")


def mean_of(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """Return accuracy, mean TFLOPs and mean mentor tokens."""
    return {
        "accuracy": float(np.mean([o.correct for o in outcomes])),
        "tflops": float(np.mean([o.tflops for o in outcomes])),
        "published": float(np.mean([o.published for o in outcomes])),
        "mentor_tokens": float(np.mean([o.mentor_tokens for o in outcomes])),
    }


def level_shares(outcomes: Sequence[Outcome], ladder: Ladder) -> dict[str, float]:
    """Return the share of problems that ended at each level."""
    return {level.name: sum(o.level == level.name for o in outcomes) / max(len(outcomes), 1) for level in ladder}
