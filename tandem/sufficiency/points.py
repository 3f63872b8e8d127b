"""A card's operating points by unit, aim and kind of task, and which of them a run takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from tandem.costs import Unit
from tandem.errors import UsageError
from tandem.ladder import parse_ladder
from tandem.sufficiency.policy import PolicyCard
from tandem.types import TaskKind

ALL: Literal["all"] = "all"  # the kind of a point that holds for every kind without one of its own
Kind = TaskKind | Literal["all"]
# It names a file, so it has no separators; the empty name is the classifier's own model.
ModelName = Annotated[str, Field(pattern=r"^([A-Za-z0-9][\w.+-]*)?$", max_length=80)]


def _readable(ladder: str) -> str:
    try:
        parse_ladder(ladder)
    except UsageError as error:
        raise ValueError(str(error)) from None
    return ladder


LadderText = Annotated[str, AfterValidator(_readable)]
DraftTokens = Annotated[int, Field(ge=1)]


class CardModel(BaseModel):
    """A fitted model of a classifier: the signals that it takes, the draft they are of, the kinds it was fitted on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    features: tuple[str, ...]
    draft_tokens: DraftTokens | None  # None: the whole answer is the draft
    kinds: tuple[TaskKind, ...] = ()  # none: all that there were


class OperatingPoint(BaseModel):
    """What decides a problem: its ladder, the draft, the policy and the model whose sufficiency the policy reads."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ladder: LadderText  # with every budget, as `format_ladder` writes it
    draft_tokens: DraftTokens | None  # None: the whole answer is the draft
    policy: PolicyCard
    model: ModelName = ""
    figures: dict[str, Any] = {}  # out of fold and held out, in the unit of the point


PointsByKind = Mapping[Kind, OperatingPoint]


@dataclass(frozen=True, slots=True)
class ChosenPoints:
    """The points that a unit and an aim choose, by kind of task; `own` where there is none for a kind.

    `note` says where the card has none in the unit or for the aim that was asked for; else it is empty.
    """

    unit: Unit
    aim: str
    own: OperatingPoint
    by_kind: PointsByKind = field(default_factory=dict)
    note: str = ""
    units: tuple[Unit, ...] = ()  # that the card has points in
    aims: tuple[str, ...] = ()  # that it has points for in this unit

    def of(self, kind: TaskKind) -> OperatingPoint:
        return self.by_kind.get(kind) or self.by_kind.get(ALL) or self.own

    def decided_by(self, kind: TaskKind) -> Kind:
        """Return the kind that a point for `kind` was chosen on: itself, or ``all``."""
        return kind if kind in self.by_kind else ALL


def plain_aim(aim: str) -> str:
    """Return an aim as the points of a card are named by it: ``cost:0.80; without hand-over`` becomes ``cost:0.8``."""
    name, colon, number = aim.partition(";")[0].strip().partition(":")
    try:
        return f"{name}:{float(number):g}" if colon else name
    except ValueError:
        return f"{name}:{number}"
