"""How one problem is solved: an engine's settings and a call's options, resolved to strategy, ladder, classifier."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tandem.config import Settings
from tandem.costs import Unit, default_unit
from tandem.ladder import Ladder, format_ladder
from tandem.ledger import Role
from tandem.models.base import Model
from tandem.strategies import PlannedCall, Strategy, fault_of_package
from tandem.strategies.context import need_logprobs
from tandem.sufficiency.classifier import ClassifierCard


@dataclass(frozen=True, slots=True)
class SolvePlan:
    """Everything that decides how a problem is solved, known without loading a model."""

    strategy_name: str  # as given by the user, argument included
    strategy: Strategy
    settings: Settings
    mentor: Model
    intern: Model
    ladder: Ladder  # the levels that a problem may visit
    budgets: Mapping[str, int]  # mentor tokens of this pair's levels, if they differ from the defaults
    draft_tokens: int | None  # None: the whole answer, or no classifier sets it
    classifier: Path | None = None  # its folder, if the strategy needs one
    card: ClassifierCard | None = None
    predictor: str | None = None  # its id, if the strategy has one

    def model(self, role: Role) -> Model:
        return self.mentor if role == "mentor" else self.intern

    @property
    def roles(self) -> tuple[Role, ...]:
        """The models that the strategy calls; other models are not loaded."""
        return self.strategy.roles

    @property
    def unit(self) -> Unit:
        """What its cost is counted in."""
        return default_unit(self.mentor.spec, self.intern.spec)

    @property
    def calls(self) -> list[PlannedCall]:
        """The calls of a problem that takes the most expensive path."""
        try:
            return self.strategy.calls(self.ladder, self.settings, self.draft_tokens)
        except Exception as error:
            raise fault_of_package(self.strategy_name, error) from error

    @property
    def mismatch(self) -> list[str]:
        """The differences between the classifier's card and this use of it; empty: it is calibrated."""
        if self.card is None:
            return []
        settings, specs = self.settings, (self.mentor.spec, self.intern.spec)
        found = self.card.differences(*specs, settings.sampling_of("intern"), self.ladder, settings.top_logprobs)
        return found if self.draft_tokens == self.card.draft_tokens else [*found, "draft length"]

    @property
    def classifier_match(self) -> dict[str, Any] | None:
        """The classifier's id and how it matches: ``exact``, or what differs from its card."""
        if self.card is None:
            return None
        mismatch = self.mismatch
        match = f"uncalibrated: another {', '.join(mismatch)}" if mismatch else "exact"
        return {"id": self.card.id, "match": match}

    def saw(self, problem_id: str) -> bool:
        """Whether the classifier or predictor that decides was fitted on this problem."""
        return self.strategy.saw(problem_id) or (self.card is not None and self.card.saw(problem_id))

    def check(self) -> list[str]:
        """Return `mismatch` for two models that can be used like this; both must be probed.

        Raises CapabilityError or ClassifierMismatchError if they cannot.
        """
        if self.card:
            self.card.check(self.intern.spec, self.ladder)
        if self.strategy.needs_classifier:
            need_logprobs(self.intern, self.strategy_name)
        self.strategy.check(self.mentor, self.intern)
        return self.mismatch

    def describe(self) -> dict[str, Any]:
        """Return everything that decides the answers, for a run's manifest; no secrets."""
        adaptation = self.strategy.adaptation(self.mentor.spec)
        described = {
            "strategy": self.strategy_name,
            "mentor": self.mentor.spec.model_dump(mode="json"),
            "intern": self.intern.spec.model_dump(mode="json"),
            "settings": self.settings.describe(),
            "ladder": format_ladder(self.ladder),
            "draft_tokens": self.draft_tokens,
            "classifier": self.classifier_match,
            "predictor": self.predictor,
        }
        return described | ({"way": adaptation} if adaptation else {})
