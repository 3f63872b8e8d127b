"""What a tuning comes to: whether the tuned pair pays on the hold-out, when that has paid for the tuning, and what else
would serve."""

from __future__ import annotations

import math
from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict

from tandem.costs import Unit, amount
from tandem.reports.comparison import INTERN_ONLY, MENTOR_ONLY
from tandem.reports.verdict import CLOSE, Verdict
from tandem.runs.outcomes import RunOutcomes
from tandem.statistics.chord import chord
from tandem.training.aims import Aim

OURS = "tandem"
LEVEL = 0.9  # of the intervals: one-sided, each end holds with 95 %


class HeldOutOutcome(BaseModel):
    """What a strategy did on the hold-out: accuracy, mean cost a problem in the verdict's unit, and the verdict."""

    model_config = ConfigDict(frozen=True)

    accuracy: float
    cost: float
    verdict: Verdict

    @classmethod
    def of(cls, run: RunOutcomes, verdict: Verdict) -> HeldOutOutcome:
        per_1000 = verdict.per_1000["ours"]
        assert per_1000 is not None
        return cls(accuracy=float(run.correct.mean()), cost=per_1000 / 1000, verdict=verdict)

    @property
    def unit(self) -> Unit:
        return self.verdict.unit

    @property
    def cheaper(self) -> bool:
        """Whether the interval of its cost lies below the mentor's."""
        ratio = self.verdict.cost_ratio
        return ratio is not None and ratio.high is not None and ratio.high < 1

    @property
    def less_accurate(self) -> bool:
        """Whether the interval of its accuracy lies below the mentor's, or it is too far below for too few problems."""
        difference = self.verdict.accuracy_difference
        if difference is None or difference.high is None:
            return False
        return difference.high < 0 or difference.value < -CLOSE

    def __str__(self) -> str:
        return f"{100 * self.accuracy:.1f} % right at {amount(1000 * self.cost, self.unit)} per 1,000 problems"


class Conclusion(BaseModel):
    """Whether the tuned pair pays, said in `sentence`; `serves` is the strategy that serves best on the hold-out.

    `paid_back` is after how many problems the saving has paid for the tuning; None where nothing is saved.
    """

    model_config = ConfigDict(frozen=True)

    pays: bool
    serves: str
    paid_back: int | None = None
    sentence: str


def of_aim(aim: str) -> str:
    """Return the name of a tuned pair's point for another aim than was asked for."""
    return f"{OURS} ({aim})"


def asked_aim(name: str) -> str | None:
    """Return the aim in a name of `of_aim`; None for another strategy."""
    return name[len(OURS) + 2 : -1] if name.startswith(f"{OURS} (") else None


def conclude(outcomes: Mapping[str, HeldOutOutcome], aim: Aim, *, tuning: float, why: str = "") -> Conclusion:
    """Return what the outcomes of the hold-out come to for an aim; `tuning` is what was paid, in their unit.

    Tandem pays where its cost is shown to be below the mentor's, it is not shown to be less accurate (or the aim
    allows that), it lies above the random mix of intern-only and mentor-only, and neither of these serves as well for
    less. Without a tuned point `why` says why there is none.
    """
    mentor, intern = outcomes[MENTOR_ONLY], outcomes[INTERN_ONLY]
    ours, spent = outcomes.get(OURS), amount(tuning, mentor.unit)
    serves, instead = _instead(outcomes, aim)
    if ours is None:
        sentence = f"Tandem was not tuned: {why.rstrip('.')}. {instead} The tuning cost {spent}."
        if mentor.verdict.synthetic:
            sentence += " Synthetic: a fake model took part, and the figures say nothing about real ones."
        return Conclusion(pays=False, serves=serves, sentence=sentence)
    against = _against(ours, mentor, intern, aim)
    if against is None:
        saved = mentor.cost - ours.cost
        paid_back = math.ceil(tuning / saved)
        back = f"The tuning cost {spent}, which is paid back after about {_round(paid_back):,} problems."
        sentence = f"Tandem pays. {ours.verdict.sentence} {back}"
        return Conclusion(pays=True, serves=OURS, paid_back=paid_back, sentence=sentence)
    sentence = f"Tandem does not pay here: {against} {ours.verdict.sentence} {instead} The tuning cost {spent}."
    return Conclusion(pays=False, serves=serves, sentence=sentence)


def _against(ours: HeldOutOutcome, mentor: HeldOutOutcome, intern: HeldOutOutcome, aim: Aim) -> str | None:
    """Return what speaks against the tuned point, None where nothing does."""
    for name, other in ((INTERN_ONLY, intern), (MENTOR_ONLY, mentor)):
        if other.accuracy >= ours.accuracy and other.cost <= ours.cost:
            return f"{name} is as accurate for no more ({other})."
    if not ours.cheaper:
        return "its cost is not shown to be below the mentor's."
    if aim.kind == "accuracy" and ours.less_accurate:
        return "what it saves costs accuracy."
    ends = ((end.cost, end.accuracy) for end in (intern, mentor))
    gain = ours.accuracy - float(chord(ours.cost, *ends))
    if intern.cost < ours.cost and gain <= 0:
        return (
            f"a random mix of intern-only and mentor-only at the same cost would be as accurate or better, by "
            f"{100 * -gain:.1f} points."
        )
    return None


def _instead(outcomes: Mapping[str, HeldOutOutcome], aim: Aim) -> tuple[str, str]:
    """Return the strategy that serves best in place of the tuned one, and a sentence on it."""
    mentor = outcomes[MENTOR_ONLY]
    others = {name: one for name, one in outcomes.items() if name not in (OURS, MENTOR_ONLY)}
    able = {name: one for name, one in others.items() if one.cheaper and not one.less_accurate}
    if able:
        name = min(able, key=lambda name: (able[name].cost, -able[name].accuracy))
        how = f"--aim {other}" if (other := asked_aim(name)) else f"--strategy {name}"
        return name, f"Instead take {how}: {able[name]}, against {mentor} of the mentor alone."
    ours = outcomes.get(OURS)
    if aim.kind == "accuracy" and ours is not None and ours.cheaper:
        share = max(ours.cost / mentor.cost, 0.05)
        return MENTOR_ONLY, (
            f"To keep the mentor's accuracy take --strategy mentor-only; --aim cost:{share:.1g} asks for the most "
            "accurate point at such a share of its cost."
        )
    return MENTOR_ONLY, f"Instead take --strategy mentor-only: {mentor}."


def _round(count: int) -> int:
    """Return a count with two significant digits."""
    return count if count < 100 else round(count, 2 - len(str(count)))
