"""The policy: from sufficiency and level to `stop`, `go on` or `answer`.

It stops when sufficiency reaches the level's threshold, or when no later level's expected gain is worth lambda times
its expected cost, so that a hopeless problem does not climb the whole ladder.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from tandem.ladder import ANSWER, Effort
from tandem.types import Action, Decision

_NOTHING: Mapping[str, float] = {}
PLACES = 12  # decimals of a net gain: a difference below is rounding


class Upgrade(BaseModel):
    """What going on to a later level brings: the probability of a right answer there, and what it costs.

    The probability is sigmoid(offset + slope * logit(p) + weights . x) for sufficiency p and signals x of the draft
    now; `cost` is what going there adds on average, as a share of what the mentor alone costs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    offset: float
    slope: float
    cost: float
    weights: dict[str, float] = {}  # by signal

    def p_correct(self, sufficiency: float, signals: Mapping[str, float] = _NOTHING) -> float:
        read = math.fsum(weight * signals[name] for name, weight in self.weights.items())
        odds = self.offset + self.slope * logit(sufficiency) + read
        return (1 + math.tanh(odds / 2)) / 2  # never overflows


Upgrades = Mapping[str, Mapping[str, Upgrade]]  # by level and later level


class PolicyCard(BaseModel):
    """What `tandem train` found: thresholds by level, lambda, and the upgrades from each level to each later one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    thresholds: dict[str, float]
    # lambda: points of accuracy that one mentor-only cost is worth; cards of format 3 and before call it `price`
    cost_weight: float = Field(0.0, validation_alias=AliasChoices("cost_weight", "price"))
    upgrades: dict[str, dict[str, Upgrade]] = Field({}, validation_alias=AliasChoices("upgrades", "gains"))
    stop_shares: dict[str, float] = {}  # of the problems seen at a level, how many stopped there

    def threshold(self, level: str) -> float:
        """Return a level's threshold; one that the card does not know has the median of the others."""
        if level in self.thresholds or not self.thresholds:
            return self.thresholds.get(level, 0.5)
        return float(np.median(list(self.thresholds.values())))


class SufficiencyModel(Protocol):
    id: str

    def sufficiency(self, level: Effort, signals: Mapping[str, float], insight_tokens: int) -> float: ...


class Policy:
    """Decides level by level. One object serves a whole run, or its problems of a kind where `kind` names one.

    For a pair that the classifier was not fitted on (`calibrated` false) the thresholds are quantiles of this
    run's own first sufficiencies, so that as many problems stop at each level as the card has it; until `warm_up`
    are seen at a level, the card's thresholds hold.
    """

    def __init__(
        self,
        classifier: SufficiencyModel,
        card: PolicyCard,
        *,
        calibrated: bool = True,
        warm_up: int = 16,
        kind: str = "all",
    ) -> None:
        """`kind` is the kind of tasks that the operating point was chosen on."""
        self.classifier = classifier
        self.card = card
        self.calibrated = calibrated
        self.kind = kind
        self._warm_up = warm_up
        self._seen: dict[str, list[float]] = {}

    def threshold(self, level: Effort) -> float:
        seen = self._seen.get(level.name, [])
        if self.calibrated or len(seen) < self._warm_up:
            return self.card.threshold(level.name)
        share = self.card.stop_shares.get(level.name, 0.5)
        return float(np.quantile(seen, 1 - share))

    def recall(self, level: str, sufficiency: float) -> None:
        """Count a sufficiency of earlier in this run, so that a resumed run keeps its thresholds."""
        seen = self._seen.setdefault(level, [])
        if not self.calibrated and len(seen) < self._warm_up:
            seen.append(sufficiency)

    def decide(
        self, level: Effort, signals: Mapping[str, float], insight_tokens: int, later: Sequence[Effort]
    ) -> Decision:
        """Return the decision on one draft; `later` are the levels that may still be visited (none: it stops)."""
        p = self.classifier.sufficiency(level, signals, insight_tokens)
        threshold = self.threshold(level)
        action, reason = self.verdict(level, p, later, threshold, signals)
        self.recall(level.name, p)
        return Decision(
            level=level.name,
            action=action,
            sufficiency=p,
            threshold=threshold,
            calibrated=self.calibrated,
            reason=reason,
            insight_tokens=insight_tokens,
            signals=dict(signals),
            kind=self.kind,
        )

    def verdict(
        self,
        level: Effort,
        p: float,
        later: Sequence[Effort],
        threshold: float | None = None,
        signals: Mapping[str, float] = _NOTHING,
    ) -> tuple[Action, str]:
        """Return the action at a level for sufficiency `p`, and why; `threshold` where it is known already.

        `signals` are those of the draft, which upgrades may read.
        """
        if not later:
            return "stop", "no later level"
        if p >= (self.threshold(level) if threshold is None else threshold):
            return "stop", "sufficient"
        upgrades = self.card.upgrades.get(level.name, {}) if self.calibrated else {}
        fitted = [(upgrade, effort.name) for effort in later if (upgrade := upgrades.get(effort.name))]
        if fitted:
            net_gain, best = max(
                (round(upgrade.p_correct(p, signals) - p - self.card.cost_weight * upgrade.cost, PLACES), name)
                for upgrade, name in fitted
            )
            if net_gain <= 0:
                return "stop", "no later level is worth its cost"
            if best == ANSWER:
                return "answer", "the mentor's own answer is worth most"
        elif all(e.is_answer for e in later):
            return "answer", "insufficient"
        return "go_on", "insufficient"


def logit(p: float) -> float:
    """Return the log-odds of a probability, clamped to 1e-4 from either end: the scale on which upgrades are fitted."""
    p = min(max(p, 1e-4), 1 - 1e-4)
    return math.log(p / (1 - p))
