"""The verdict: its sentence follows the intervals, and the intervals cover the truth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem.reports.verdict import verdict
from tandem.runs.mentor_alone import MentorAlone
from tandem.runs.outcomes import RunOutcomes


def outcomes(correct: list[float] | np.ndarray, usd: list[float] | np.ndarray | None, **more: object) -> RunOutcomes:
    ids = [f"p{k}" for k in range(len(correct))]
    tokens = np.full(len(ids), 10.0)
    cost = {"usd": None if usd is None else np.asarray(usd, dtype=float), "mentor_tokens": tokens}
    return RunOutcomes(ids, np.asarray(correct, dtype=float), cost, **more)  # type: ignore[arg-type]


def user(rng: np.random.Generator, n: int) -> tuple[RunOutcomes, RunOutcomes]:
    """Draw a user's problems: the mentor answers 30 % of them, the intern the rest, at a small cost."""
    theirs = (rng.random(n) < 0.8).astype(float)
    ours = np.where(rng.random(n) < 0.1, 1 - theirs, theirs)
    alone = rng.lognormal(1.0, 0.8, n)
    paid = np.where(rng.random(n) < 0.3, alone * rng.uniform(1.0, 1.4, n), 0.1)
    return outcomes(ours, paid), outcomes(theirs, alone)


@pytest.mark.slow
@pytest.mark.parametrize(("problems", "level", "least"), [(200, 0.95, 90), (200, 0.9, 85), (20, 0.95, 88)])
def test_intervals_cover_the_truth(problems: int, level: float, least: int) -> None:
    ours, mentor = user(np.random.default_rng(0), 400_000)
    difference = float((ours.correct - mentor.correct).mean())
    ratio = float(ours.costs("usd").sum() / mentor.costs("usd").sum())
    rng, covered = np.random.default_rng(1), np.zeros(2)
    for _ in range(100):
        found = verdict(*user(rng, problems), "usd", level=level)
        assert found
        for k, (estimate, truth) in enumerate(((found.accuracy_difference, difference), (found.cost_ratio, ratio))):
            assert estimate and estimate.low is not None and estimate.high is not None
            covered[k] += estimate.low <= truth <= estimate.high
    assert covered.min() >= least, covered


def test_the_sentence_of_a_run_that_pays() -> None:
    right = (np.arange(2000) % 10 > 2).astype(float)
    found = verdict(outcomes(right, np.linspace(0.002, 0.0042, 2000)), outcomes(right, np.full(2000, 0.0052)), "usd")
    assert found
    assert found.sentence.startswith("On these 2,000 problems Tandem is as accurate as the mentor alone (+0.0 points, ")
    assert "It costs US$ 3.10 per 1,000 problems instead of US$ 5.20: 40 % less (40 to 41)." in found.sentence
    assert found.cost_ratio and found.cost_ratio.high and found.cost_ratio.high < 1 and found.needed is None


def test_the_sentence_of_one_that_does_not() -> None:
    n = 400
    ours = outcomes(np.arange(n) % 2, np.linspace(2.0, 4.0, n))
    found = verdict(ours, outcomes(np.ones(n), np.ones(n)), "usd", name="cascade")
    assert found and "cascade is less accurate than the mentor alone by 50.0 points" in found.sentence
    assert "it costs more, 3.00 times as much" in found.sentence
    better = verdict(outcomes(np.ones(n), np.ones(n)), ours, "usd")
    assert better and "is more accurate than the mentor alone by 50.0 points" in better.sentence


def test_a_ratio_around_one_is_not_called_cheaper() -> None:
    rng = np.random.default_rng(5)
    found = verdict(outcomes(np.ones(30), rng.lognormal(0, 1, 30)), outcomes(np.ones(30), np.full(30, 1.6)), "usd")
    assert found and "not shown to be cheaper (" in found.sentence


def test_few_problems_are_said_to_be_few() -> None:
    right = [1.0, 0.0, 1.0, 1.0, 1.0]
    found = verdict(outcomes(right, [1.0] * 5), outcomes([1.0] * 5, [2.0, 3.0, 2.0, 2.0, 2.0]), "usd")
    assert found and found.needed and found.needed > 100
    assert f"these are too few to tell, about {found.needed:,} problems" in found.sentence


def test_one_problem_has_no_interval_of_cost_and_a_wide_one_of_accuracy() -> None:
    found = verdict(outcomes([1.0], [1.0]), outcomes([1.0], [2.0]), "usd")
    assert found and found.sentence.startswith("On this one problem Tandem is not shown to differ")
    assert "50 % less, but so few problems give no interval" in found.sentence
    difference = found.accuracy_difference
    assert difference and difference.low is not None and difference.low < -0.5


def test_equal_costs_are_the_same() -> None:
    same = outcomes([1.0, 0.0], [1.0, 2.0])
    found = verdict(same, outcomes([1.0, 0.0], [1.0, 2.0]), "usd")
    assert found and "US$ 1,500.00: the same." in found.sentence


def test_a_mentor_that_was_never_asked_may_still_be() -> None:
    found = verdict(outcomes([1.0] * 10, [0.0] * 10), outcomes([1.0] * 10, [1.0] * 10), "usd", free="deepseek-7b")
    assert found and found.cost_ratio and found.cost_ratio.value == 0
    assert found.cost_ratio.high == pytest.approx(1 - 0.025**0.1)
    assert "deepseek-7b on own hardware is counted as free" in found.sentence


def test_only_common_problems_count_whatever_their_order() -> None:
    ours, mentor = outcomes([1.0, 0.0, 1.0], [1.0, 2.0, 3.0]), outcomes([0.0, 1.0], [5.0, 7.0])
    mentor.ids = ["p2", "p1"]
    found = verdict(ours, mentor, "usd")
    assert found and found.problems == 2 and found.accuracy == 0.5 and found.mentor_accuracy == 0.5
    assert found.accuracy_difference and found.accuracy_difference.value == 0
    assert found.per_1000 == {"ours": 2500.0, "mentor": 6000.0}
    mentor.ids = ["q1", "q2"]
    assert verdict(ours, mentor, "usd") is None


def test_an_unknown_unit_is_counted_in_mentor_tokens() -> None:
    found = verdict(outcomes([1.0, 0.0], None), outcomes([1.0, 0.0], [1.0, 2.0]), "usd", unpriced="gpt-9")
    assert found and found.unit == "mentor_tokens"
    assert "10,000 mentor tokens per 1,000 problems" in found.sentence and "no price for gpt-9" in found.sentence


def test_what_was_not_graded_still_has_a_cost() -> None:
    nan = float("nan")
    found = verdict(outcomes([nan, nan], [1.0, 2.0]), outcomes([1.0, 0.0], [3.0, 3.0]), "usd")
    assert found and found.accuracy is None and found.accuracy_difference is None
    assert found.sentence.startswith("On these 2 problems Tandem was not graded. It costs US$ 1,500.00 per 1,000")


def test_a_synthetic_run_says_so() -> None:
    found = verdict(outcomes([1.0], [1.0], synthetic=True), outcomes([1.0], [1.0]), "usd")
    assert found and found.synthetic and "Synthetic: a fake model took part" in found.sentence


def alone(costs: list[float], **more: object) -> MentorAlone:
    ids = [f"p{k}" for k in range(len(costs))]
    cost = {"usd": np.asarray(costs), "mentor_tokens": np.asarray(costs)}
    return MentorAlone(ids, cost, "its 2 answers in this run", **more)  # type: ignore[arg-type]


def test_a_mentor_that_was_not_run_is_estimated_and_said_to_be() -> None:
    nan = float("nan")
    found = verdict(outcomes([1.0, 1.0, 0.0, 0.0], [1.0, 3.0, 0.0, 0.0]), alone([2.0, 4.0, nan, nan]), "usd")
    assert found and found.accuracy_difference is None and found.mentor_accuracy is None
    assert found.per_1000 == {"ours": 1000.0, "mentor": 3000.0}
    assert "estimated from its 2 answers in this run" in found.sentence
    assert "is right in 50.0 %; how often the mentor alone would be is not known" in found.sentence
    held = verdict(outcomes([1.0], [1.0]), alone([2.0], accuracy=0.61, problems=315), "usd")
    assert held and "the mentor alone was in 61.0 % of 315 other problems" in held.sentence


def test_a_bound_is_no_estimate() -> None:
    found = verdict(outcomes([1.0, 0.0], [1.0, 1.0]), alone([9.0, 9.0], bound=True), "usd")
    assert found and found.cost_ratio is None and "not known, at most US$ 9,000.00" in found.sentence


@given(
    st.lists(
        st.tuples(st.booleans(), st.booleans(), st.floats(0, 1e6), st.floats(0, 1e6)),
        min_size=1,
        max_size=30,
    ),
    st.sampled_from([0.8, 0.9, 0.95, 0.99]),
)
def test_every_verdict_holds_its_own_estimate(rows: list[tuple[bool, bool, float, float]], level: float) -> None:
    mine, theirs, paid, their_cost = (list(column) for column in zip(*rows, strict=True))
    found = verdict(outcomes(mine, paid), outcomes(theirs, their_cost), "usd", level=level)
    assert found and found.sentence and "nan" not in found.sentence
    for estimate in (found.accuracy_difference, found.cost_ratio):
        if estimate and estimate.low is not None and estimate.high is not None:
            assert estimate.low <= estimate.value <= estimate.high
    difference = found.accuracy_difference
    assert difference and difference.low is not None and difference.high is not None
    assert -1 <= difference.low < difference.high <= 1
