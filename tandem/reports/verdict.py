"""The verdict on a run: accuracy and cost against the mentor alone, each with its interval, and one plain sentence.

Both are paired over the problems that both answered. The accuracy's difference has a bootstrap interval with one
imagined problem won and one lost, so that it is never empty; the cost is a ratio of sums, whose interval is a
percentile bootstrap, widened for few problems.
"""

from __future__ import annotations

import math

import numpy as np
from pydantic import BaseModel, ConfigDict

from tandem.costs import LABELS, Unit, amount
from tandem.runs.mentor_alone import MentorAlone
from tandem.runs.outcomes import RunOutcomes
from tandem.statistics.intervals import Bootstrap, expanded, interval
from tandem.statistics.significance import paired_bootstrap

CLOSE = 0.05  # a difference in accuracy that nobody minds: an interval above -CLOSE reads "as well as"


class IntervalEstimate(BaseModel):
    """An estimate and the ends of its interval; None where too few problems give no interval."""

    model_config = ConfigDict(frozen=True)

    value: float
    low: float | None
    high: float | None


class Verdict(BaseModel):
    """A run against the mentor alone, over `problems` problems, in `unit`.

    `accuracy_difference` is ours minus the mentor's (0.01 is a point), `cost_ratio` our cost over the mentor's,
    `per_1000` what 1,000 such problems cost either. None: not known, for the reason in `sentence`. `needed` is how many
    problems would show a difference of 5 points, where these are too few. `basis` says what the mentor's cost was
    estimated from; it is empty where the mentor was run.
    """

    model_config = ConfigDict(frozen=True)

    unit: Unit
    level: float
    problems: int
    accuracy: float | None
    mentor_accuracy: float | None
    accuracy_difference: IntervalEstimate | None
    cost_ratio: IntervalEstimate | None
    per_1000: dict[str, float | None]  # by `ours` and `mentor`
    basis: str = ""
    needed: int | None = None
    synthetic: bool = False
    sentence: str


def verdict(
    ours: RunOutcomes,
    mentor: RunOutcomes | MentorAlone,
    unit: Unit,
    *,
    level: float = 0.95,
    name: str = "Tandem",
    free: str | None = None,
    unpriced: str | None = None,
    seed: int = 0,
) -> Verdict | None:
    """Return the verdict on `ours`, called `name`, against the mentor alone; None without a problem in common.

    Where one of both has no cost in `unit`, mentor tokens are counted, and the sentence says so; `unpriced` is the
    model that it is missing for. `free` names a model on own hardware that US$ do not count.
    """
    theirs = set(mentor.ids)
    ids = [problem for problem in ours.ids if problem in theirs]
    if not ids:
        return None
    asked, found = unit, _paired(ours, mentor, ids, unit)
    if found is None:
        unit, found = "mentor_tokens", _paired(ours, mentor, ids, "mentor_tokens")
        assert found is not None
    right = _in_order(ours, ids, ours.correct)
    own = None if np.isnan(right).any() else float(right.mean())
    ratio = None if _bound(mentor) else _ratio(*found, level, seed)
    their_accuracy, difference = None, None
    if isinstance(mentor, RunOutcomes) and own is not None:
        also = _in_order(mentor, ids, mentor.correct)
        their_accuracy = float(also.mean())
        won, lost = int((right > also).sum()), int((right < also).sum())
        low, high = paired_bootstrap(won, lost, len(ids), seed=seed, level=level, imagined=1) or (-1.0, 1.0)
        value = (won - lost) / len(ids)
        difference = IntervalEstimate(value=value, low=min(low, value), high=max(high, value))
    costs, alone = (1000 * float(np.nanmean(values)) for values in found)
    synthetic = ours.synthetic or (isinstance(mentor, RunOutcomes) and mentor.synthetic)
    made = Verdict(
        unit=unit,
        level=level,
        problems=len(ids),
        accuracy=own,
        mentor_accuracy=their_accuracy,
        accuracy_difference=difference,
        cost_ratio=ratio,
        per_1000={"ours": costs, "mentor": alone},
        basis="" if isinstance(mentor, RunOutcomes) else mentor.basis,
        needed=_needed(difference, len(ids)),
        synthetic=synthetic,
        sentence="",
    )
    said = [_accuracy(made, mentor, name), _cost(made, mentor)]
    if asked != unit:
        why = f"no price for {unpriced}" if asked == "usd" and unpriced else f"the {LABELS[asked]} are not known"
        said.append(f"It is counted in {LABELS[unit]}: {why}.")
    if unit == "usd" and (free or ours.unpriced):
        said.append(f"{free or 'What runs'} on own hardware is counted as free (--usd-per-device-hour counts it).")
    if synthetic:
        said.append("Synthetic: a fake model took part, and the figures say nothing about real ones.")
    return made.model_copy(update={"sentence": " ".join(filter(None, said))})


def _bound(mentor: RunOutcomes | MentorAlone) -> bool:
    return isinstance(mentor, MentorAlone) and mentor.bound


def _paired(
    ours: RunOutcomes, mentor: RunOutcomes | MentorAlone, ids: list[str], unit: Unit
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return both costs of these problems in a unit; None where one is not known."""
    own, theirs = _costs(ours, unit), _costs(mentor, unit)
    if own is None or theirs is None:
        return None
    return _in_order(ours, ids, own), _in_order(mentor, ids, theirs)


def _costs(run: RunOutcomes | MentorAlone, unit: Unit) -> np.ndarray | None:
    found = run.cost.get(unit)
    if found is None and unit == "usd" and isinstance(run, RunOutcomes):
        return run.bill  # own hardware counts as free
    return found


def _in_order(run: RunOutcomes | MentorAlone, ids: list[str], values: np.ndarray) -> np.ndarray:
    place = {one: k for k, one in enumerate(run.ids)}
    found: np.ndarray = values[[place[one] for one in ids]]
    return found


def _ratio(ours: np.ndarray, mentor: np.ndarray, level: float, seed: int) -> IntervalEstimate | None:
    """Return the ratio of the mean costs with its interval. A nan of the mentor's is the mean of its known ones."""
    n, known = len(ours), ~np.isnan(mentor)
    total = float(np.nanmean(mentor)) if known.any() else 0.0
    value = float(ours.mean()) / total if total > 0 else math.inf
    if not math.isfinite(value):
        return None
    if np.array_equal(ours, mentor):
        return IntervalEstimate(value=1.0, low=1.0, high=1.0)
    if n == 1:
        return IntervalEstimate(value=value, low=None, high=None)
    if not ours.any():  # the mentor was never asked: how often could it have been, at the mentor's own cost?
        return IntervalEstimate(value=0.0, low=0.0, high=1 - ((1 - level) / 2) ** (1 / n))
    boot = Bootstrap(n, seed=seed)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        theirs = boot.mean(np.where(known, mentor, 0.0)) / boot.mean(known.astype(float))
        draws = boot.mean(ours) / theirs
    ends = interval(draws, expanded(level, n))
    low, high = ends["low"], ends["high"]
    if low is None or high is None:
        return IntervalEstimate(value=value, low=None, high=None)
    return IntervalEstimate(value=value, low=min(low, value), high=max(high, value))


def _needed(difference: IntervalEstimate | None, problems: int) -> int | None:
    """Return how many problems would narrow the interval to CLOSE on each side; None where these do."""
    if difference is None or difference.low is None or difference.high is None:
        return None
    half = (difference.high - difference.low) / 2
    inconclusive = difference.low <= -CLOSE and difference.high >= 0
    return max(problems + 1, 10 * round(problems * (half / CLOSE) ** 2 / 10)) if inconclusive else None


def _accuracy(found: Verdict, mentor: RunOutcomes | MentorAlone, name: str) -> str:
    on = f"On these {found.problems:,} problems {name}" if found.problems != 1 else f"On this one problem {name}"
    if found.accuracy is None:
        return f"{on} was not graded."
    if found.accuracy_difference is not None:
        return f"{on} is {_difference(found.accuracy_difference, found)}."
    own, other = f"{on} is right in {100 * found.accuracy:.1f} %", "how often the mentor alone would be is not known"
    if isinstance(mentor, MentorAlone) and mentor.accuracy is not None:
        share = f"{100 * mentor.accuracy:.1f} % of {mentor.problems:,} other problems"
        return f"{own}; the mentor alone was in {share}."
    return f"{own}; {other} (tandem compare measures it)."


def _difference(difference: IntervalEstimate, found: Verdict) -> str:
    """Say what the interval of the difference in accuracy shows."""
    assert difference.low is not None and difference.high is not None
    value, low, high = (100 * end for end in (difference.value, difference.low, difference.high))
    percent = f"{100 * found.level:g} % interval"
    if low > 0:
        return f"more accurate than the mentor alone by {value:.1f} points ({percent} {low:.1f} to {high:.1f})"
    if high < 0:
        return f"less accurate than the mentor alone by {-value:.1f} points ({percent} {-high:.1f} to {-low:.1f})"
    ends = f"({value:+.1f} points, {percent} {low:.1f} to {high:.1f})"
    if found.needed is None:
        return f"as accurate as the mentor alone {ends}"
    few = f"these are too few to tell, about {found.needed:,} problems would show 5 points"
    return f"not shown to differ from the mentor alone in accuracy {ends}: {few}"


def _cost(found: Verdict, mentor: RunOutcomes | MentorAlone) -> str:
    ours, alone = found.per_1000["ours"], found.per_1000["mentor"]
    assert ours is not None and alone is not None
    own = f"It costs {amount(ours, found.unit)} per 1,000 problems"
    theirs = amount(alone, found.unit)
    if _bound(mentor):
        return f"{own}; what the mentor alone would have cost is not known, at most {theirs} ({found.basis})."
    note = f", estimated from {found.basis}" if found.basis else ""
    if found.cost_ratio is None:
        return f"{own}, the mentor alone {theirs}{note}."
    return f"{own} instead of {theirs}{note}: {_against(found.cost_ratio, found.level)}."


def _against(ratio: IntervalEstimate, level: float) -> str:
    """Say what the interval of a cost ratio shows."""
    low, high = ratio.low, ratio.high
    if low is None or high is None:
        return f"{_change(ratio.value)}, but so few problems give no interval"
    if low == high == 1:
        return "the same"
    if high < 1:
        return f"{100 * (1 - ratio.value):.0f} % less ({100 * (1 - high):.0f} to {100 * (1 - low):.0f})"
    if low > 1:
        return f"it costs more, {ratio.value:.2f} times as much ({low:.2f} to {high:.2f})"
    ends = f"{100 * level:g} % interval from {_change(low)} to {_change(high)}"
    return f"not shown to be cheaper ({_change(ratio.value)}, {ends})"


def _change(ratio: float) -> str:
    if ratio >= 2:
        return f"{ratio:.1f} times as much"
    return f"{100 * abs(1 - ratio):.0f} % {'less' if ratio < 1 else 'more'}"
