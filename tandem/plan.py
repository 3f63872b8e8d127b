"""How one problem is solved: an engine's settings and a call's options, resolved to strategy, ladder, classifier."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args

from tandem.config import Settings
from tandem.costs import Unit, default_unit, known_units
from tandem.errors import UsageError
from tandem.ladder import Ladder, format_ladder, parse_ladder
from tandem.ledger import Role
from tandem.models.base import Model
from tandem.strategies import PlannedCall, Strategy, fault_of_package
from tandem.strategies.context import need_logprobs
from tandem.sufficiency.classifier import ClassifierCard
from tandem.sufficiency.points import ALL, ChosenPoints, Kind, OperatingPoint
from tandem.types import Problem, TaskKind

_parsed = lru_cache(1024)(parse_ladder)  # a point's has every budget
KINDS: tuple[TaskKind, ...] = get_args(TaskKind)


@dataclass(frozen=True, slots=True)
class KindPlan:
    """How problems of one kind are solved."""

    ladder: Ladder  # the levels that such a problem may visit
    draft_tokens: int | None  # None: the whole answer, or no classifier sets it
    point: OperatingPoint | None = None  # what the classifier decides by, if the strategy needs one
    chosen_on: Kind = ALL  # the kind of the problems that the point was chosen on
    mismatch: tuple[str, ...] = ()  # the differences between the card and this use of it; none: it is calibrated


@dataclass(frozen=True, slots=True)
class SolvePlan:
    """Everything that decides how a problem is solved, known without loading a model."""

    strategy_name: str  # as given by the user, argument included
    strategy: Strategy
    settings: Settings
    mentor: Model
    intern: Model
    given: Ladder | None  # one ladder for problems of every kind; None: that of the point of their kind
    budgets: Mapping[str, int]  # mentor tokens of this pair's levels, if they differ from the defaults
    points: ChosenPoints | None = None  # of the nearest classifier, also where the strategy needs none
    classifier: Path | None = None  # its folder, if the strategy needs one
    card: ClassifierCard | None = None
    predictor: str | None = None  # its id, if the strategy has one
    nearest: ClassifierCard | None = None  # the card of the nearest classifier, also where the strategy needs none

    def model(self, role: Role) -> Model:
        return self.mentor if role == "mentor" else self.intern

    @property
    def roles(self) -> tuple[Role, ...]:
        """The models that the strategy calls; other models are not loaded."""
        return self.strategy.roles

    def for_kind(self, kind: TaskKind) -> KindPlan:
        """Return how a problem of a kind is solved: its ladder, and where a classifier decides, by which point."""
        ladder = self._ladder(kind)
        if self.card is None or self.points is None:
            return KindPlan(ladder, self.settings.draft_tokens)
        point, settings = self.points.of(kind), self.settings
        draft = settings.draft_tokens or point.draft_tokens
        specs = self.mentor.spec, self.intern.spec
        differ = self.card.differences(*specs, settings.sampling_of("intern"), ladder, settings.top_logprobs, point)
        mismatch = differ if draft == point.draft_tokens else [*differ, "draft length"]
        return KindPlan(ladder, draft, point, self.points.decided_by(kind), tuple(mismatch))

    def _ladder(self, kind: TaskKind) -> Ladder:
        if self.given is not None or self.points is None:
            return self.given or ()
        return _parsed(self.points.of(kind).ladder)

    @property
    def unit(self) -> Unit:
        """What its cost is counted in: the unit asked for, if it is known for both models, else their usual one."""
        specs = self.mentor.spec, self.intern.spec
        asked = self.settings.unit
        return asked if asked in known_units(*specs) else default_unit(*specs)

    @property
    def kinds(self) -> Mapping[TaskKind, KindPlan]:
        """How problems of each kind are solved."""
        return {kind: self.for_kind(kind) for kind in KINDS}

    @property
    def ladder(self) -> Ladder:
        """The levels that a problem of any kind may visit."""
        if self.given is not None:
            return self.given
        levels = {level.name: level for kind in KINDS for level in self._ladder(kind)}
        return tuple(sorted(levels.values(), key=lambda e: (not e.is_question, e.is_answer, e.tokens)))

    def calls(self, kind: TaskKind) -> list[PlannedCall]:
        """The calls of a problem of a kind that takes the most expensive path."""
        own = self.for_kind(kind)
        try:
            return self.strategy.calls(own.ladder, self.settings, own.draft_tokens)
        except Exception as error:
            raise fault_of_package(self.strategy_name, error) from error

    @property
    def mismatch(self) -> list[str]:
        """The differences between the classifier's card and its use for any kind; empty: it is calibrated."""
        return list(dict.fromkeys(what for own in self.kinds.values() for what in own.mismatch))

    @property
    def classifier_match(self) -> dict[str, Any] | None:
        """The classifier's id and how it matches (``exact``, or what differs from its card), and its points if any."""
        if self.card is None:
            return None
        kinds = {kind: own.mismatch for kind, own in self.kinds.items()}
        where = [kind for kind, differ in kinds.items() if differ]
        only = "" if len(where) == len(kinds) else f" for {', '.join(where)}"
        match = f"uncalibrated{only}: another {', '.join(self.mismatch)}" if where else "exact"
        return {"id": self.card.id, "match": match} | self._choice()

    def _choice(self) -> dict[str, Any]:
        """The unit and aim of the points that decide; nothing where the card has one point only."""
        if self.card is None or self.points is None or not self.points.by_kind:
            return {}
        return {"unit": self.points.unit, "aim": self.points.aim}

    def saw(self, problem_id: str) -> bool:
        """Whether the classifier or predictor that decides was fitted on this problem."""
        return self.strategy.saw(problem_id) or (self.card is not None and self.card.saw(problem_id))

    def check_problem(self, problem: Problem) -> None:
        """Raise UsageError for a problem that asks for what the strategy does not give."""
        if problem.tools and (why := self.strategy.without_tools(self.mentor.spec)):
            raise UsageError(f"strategy '{self.strategy_name}' {why}")
        if self.strategy.is_one_answer:
            return
        alone = "choose a strategy of one model alone: intern-only or mentor-only"
        if problem.raw is not None:
            raise UsageError(f"strategy '{self.strategy_name}' takes no raw prompt; {alone}")
        if problem.logprobs is not None:
            raise UsageError(f"strategy '{self.strategy_name}' gives no log-probabilities; {alone}")

    def check(self) -> list[str]:
        """Return `mismatch` for two models that can be used like this; both must be probed.

        Raises CapabilityError or ClassifierMismatchError if they cannot.
        """
        for own in self.kinds.values() if self.card else ():
            assert self.card is not None and own.point is not None
            self.card.check(self.intern.spec, own.ladder, own.point.model)
        if self.strategy.needs_classifier:
            need_logprobs(self.intern, self.strategy_name)
        self.strategy.check(self.mentor, self.intern)
        return self.mismatch

    def describe(self) -> dict[str, Any]:
        """Return everything that decides the answers, for a run's manifest; no secrets.

        What is the same for every kind is given once, as earlier versions wrote it; else by kind.
        """
        adaptation = self.strategy.adaptation(self.mentor.spec)
        kinds = self.kinds
        ladders = {kind: format_ladder(own.ladder) for kind, own in kinds.items()}
        if self.card is None and self.given is None and self.points:
            ladders = dict.fromkeys(KINDS, self.points.own.ladder)  # it does not decide
        point = self._choice()
        described = {
            "strategy": self.strategy_name,
            "mentor": self.mentor.spec.model_dump(mode="json"),
            "intern": self.intern.spec.model_dump(mode="json"),
            "settings": self.settings.describe(),
            "ladder": _once(ladders),
            "draft_tokens": _once({kind: own.draft_tokens for kind, own in kinds.items()}),
            "classifier": self.classifier_match,
            "predictor": self.predictor,
        }
        return described | ({"way": adaptation} if adaptation else {}) | ({"point": point} if point else {})


def _once(by_kind: Mapping[TaskKind, Any]) -> Any:
    values = list(by_kind.values())
    return values[0] if all(value == values[0] for value in values) else dict(by_kind)
