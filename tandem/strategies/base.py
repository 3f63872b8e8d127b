"""The base of every strategy, and its planned calls: what one problem may cost, for an estimate beforehand."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

from tandem.config import Settings
from tandem.ladder import ANSWER, NONE, Ladder
from tandem.ledger import Purpose, Role
from tandem.models.base import Model
from tandem.spec import ModelSpec
from tandem.strategies.context import Context
from tandem.types import Event


@dataclass(frozen=True, slots=True)
class PlannedCall:
    """A call that a strategy may make for one problem, at `level`; `read_tokens` of insight are in its prompt."""

    role: Role
    purpose: Purpose
    level: str
    max_tokens: int
    read_tokens: int = 0


class Strategy:
    """A method: the context's problem in, events out, the last one the solution. Only `run` has no default.

    `roles` are the models that it calls; the others are not even loaded. One that takes an argument, as in
    ``fixed:medium``, has a classmethod ``of(argument, budgets)``: the text behind the colon (None: no colon), and the
    mentor tokens of the pair's levels where they are not the usual ones.
    """

    roles: tuple[Role, ...] = ("mentor", "intern")
    needs_classifier: bool = False  # it is then in the context's `policy`
    is_one_answer: bool = False  # of one model alone: it has its tokens' log-probabilities where they are asked for

    def run(self, ctx: Context) -> AsyncGenerator[Event, None]:
        """Solve one problem. Closing the iterator aborts both models' requests."""
        raise NotImplementedError

    def calls(self, ladder: Ladder, settings: Settings, draft_tokens: int | None) -> list[PlannedCall]:
        """Return the calls of the most expensive path of one problem, for an estimate and a run's limits.

        The default: each model answers once, the intern first, whose answer is discarded where the mentor answers too.
        """
        both = len(self.roles) > 1
        answers = [whole_answer("intern", settings, "probe" if both else "answer"), whole_answer("mentor", settings)]
        return [call for call in answers if call.role in self.roles]

    def check(self, mentor: Model, intern: Model) -> None:
        """Raise CapabilityError, with the reason, for a pair (both probed) that cannot be used."""

    def without_tools(self, mentor: ModelSpec) -> str | None:
        """Return why an answer cannot call the problem's tools; None: it can."""
        return "takes no tools; tandem, fixed:<level>, intern-only, mentor-only, route and random-mix do"

    def bind(self, mentor: str, intern: str) -> str | None:
        """Find the predictor trained for a pair, by the models' names, and return its id with its digest.

        None: the strategy has none. Raises UsageError where it needs one and there is none.
        """
        return None

    def saw(self, problem_id: str) -> bool:
        """Whether the predictor was fitted on this problem."""
        return False

    def adaptation(self, mentor: ModelSpec) -> str | None:
        """Return what it does differently with this mentor, for a run's manifest."""
        return None

    def offline(self) -> dict[str, Any] | None:
        """Return what was spent before the first problem."""
        return None


def whole_answer(role: Role, settings: Settings, purpose: Purpose = "answer") -> PlannedCall:
    """Return the planned call of a model that answers alone."""
    if role == "mentor":
        return PlannedCall("mentor", purpose, ANSWER, settings.mentor_max_tokens)
    return PlannedCall("intern", purpose, NONE, settings.intern_max_tokens)


def climb_calls(ladder: Ladder, settings: Settings, draft_tokens: int | None = None) -> list[PlannedCall]:
    """Return the planned calls of a climb to the top of a ladder, where the mentor is asked again at each level."""
    planned: list[PlannedCall] = []
    before, cap = 0, settings.intern_max_tokens
    drafted = [level for level in ladder if level.is_drafted]
    if ladder[0].is_question and not drafted:
        planned.append(PlannedCall("intern", "answer", ladder[0].name, cap))
    for level in drafted:
        tokens = level.tokens or 0
        if tokens > before:
            planned.append(PlannedCall("mentor", "insight", level.name, tokens - before, before))
        if level is drafted[-1]:
            planned.append(PlannedCall("intern", "answer", level.name, cap, tokens))
        else:
            planned.append(PlannedCall("intern", "probe", level.name, min(draft_tokens or cap, cap), tokens))
        before = tokens
    if ladder[-1].is_answer:
        planned.append(PlannedCall("mentor", "answer", ladder[-1].name, settings.mentor_max_tokens))
    return planned
