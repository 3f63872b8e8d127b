"""When to stop: thresholds, upgrades against cost, the jump to the mentor's answer, pairs without a classifier."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tandem.ladder import Effort, Ladder, parse_ladder
from tandem.sufficiency.policy import Policy, PolicyCard, Upgrade
from tandem.types import Action

quick = settings(max_examples=50, deadline=None)

LADDER = parse_ladder("none,low,medium,answer")
NONE, LOW, MEDIUM, ANSWER = LADDER
SURE = Upgrade(offset=50.0, slope=0.0, cost=0.1)
HOPELESS = Upgrade(offset=-50.0, slope=0.0, cost=0.1)
P = st.floats(0, 1)


class Reader:
    """Reads the sufficiency off the signals."""

    id = "reader"

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale

    def sufficiency(self, level: Effort, signals: Mapping[str, float], insight_tokens: int) -> float:
        return self.scale * signals["p"]


def policy(*, calibrated: bool = True, warm_up: int = 16, scale: float = 1.0, **card: object) -> Policy:
    return Policy(Reader(scale), PolicyCard.model_validate(card), calibrated=calibrated, warm_up=warm_up)


def action(made: Policy, p: float, level: Effort = NONE, later: Sequence[Effort] = LADDER[1:]) -> Action:
    return made.decide(level, {"p": p}, 0, later).action


@quick
@given(P, P)
def test_stops_from_the_threshold_on(p: float, threshold: float) -> None:
    made = policy(thresholds={"none": threshold})
    decision = made.decide(NONE, {"p": p}, 0, LADDER[1:])
    assert decision.action == ("stop" if p >= threshold else "go_on")
    assert decision.threshold == threshold and decision.sufficiency == p and decision.calibrated


def test_each_level_has_its_own_threshold_and_a_new_one_the_middle_of_the_others() -> None:
    made = policy(thresholds={"none": 0.9, "low": 0.5, "high": 0.6})
    assert [action(made, 0.7, level) for level in (NONE, LOW)] == ["go_on", "stop"]
    assert made.threshold(MEDIUM) == 0.6
    assert policy(thresholds={}).threshold(MEDIUM) == 0.5


@quick
@given(P, st.booleans())
def test_the_last_level_always_stops(p: float, calibrated: bool) -> None:
    made = policy(thresholds={"medium": 1.0}, upgrades={"medium": {"answer": SURE}}, calibrated=calibrated)
    assert action(made, p, MEDIUM, later=()) == "stop"


@quick
@given(P)
def test_only_the_answer_left_means_the_answer(p: float) -> None:
    assert action(policy(thresholds={"medium": 1.1}), p, MEDIUM, later=(ANSWER,)) == "answer"


@quick
@given(P, st.floats(0, 1), st.floats(0, 2), st.floats(-3, 3), st.floats(-2, 2))
def test_goes_on_only_where_the_gain_is_worth_its_price(
    p: float, cost_weight: float, cost: float, offset: float, slope: float
) -> None:
    upgrade = Upgrade(offset=offset, slope=slope, cost=cost)
    made = policy(thresholds={"none": 1.1}, cost_weight=cost_weight, upgrades={"none": {"low": upgrade}})
    worth = upgrade.p_correct(p) - p - cost_weight * cost
    assert action(made, p) == ("go_on" if worth > 0 else "stop")


def test_a_hopeless_problem_does_not_climb() -> None:
    card = {"thresholds": {"none": 0.9}, "cost_weight": 0.5}
    assert (
        action(policy(**card, upgrades={"none": {"low": HOPELESS, "medium": HOPELESS, "answer": HOPELESS}}), 0.1)
        == "stop"
    )
    # One later level that helps is reason enough.
    assert (
        action(policy(**card, upgrades={"none": {"low": HOPELESS, "medium": SURE, "answer": HOPELESS}}), 0.1) == "go_on"
    )


def test_a_level_that_cannot_be_bought_any_more_is_no_reason_to_go_on() -> None:
    made = policy(thresholds={"none": 0.9}, cost_weight=0.5, upgrades={"none": {"medium": SURE, "answer": HOPELESS}})
    assert action(made, 0.1) == "go_on"
    assert action(made, 0.1, later=(ANSWER,)) == "stop"


def test_jumps_to_the_answer_where_that_is_worth_most() -> None:
    expensive = SURE.model_copy(update={"cost": 1.0})
    upgrades = {"none": {"low": Upgrade(offset=0, slope=0, cost=0.1), "answer": expensive}}
    assert action(policy(thresholds={"none": 0.9}, cost_weight=0.1, upgrades=upgrades), 0.1) == "answer"
    # At a higher cost_weight the cheap level is worth more.
    assert action(policy(thresholds={"none": 0.9}, cost_weight=0.8, upgrades=upgrades), 0.1) == "go_on"


def test_a_gain_may_read_the_signals_too() -> None:
    upgrade = Upgrade(offset=-1.0, slope=0.0, cost=0.0, weights={"length": 2.0})
    assert upgrade.p_correct(0.5, {"length": 3.0, "other": 9.0}) == pytest.approx(1 / (1 + math.exp(-5)))
    made = policy(thresholds={"none": 0.9}, cost_weight=0.5, upgrades={"none": {"low": upgrade}})
    later = parse_ladder("none,low,medium,high,answer")[1:2]
    verdicts = [made.verdict(parse_ladder("none")[0], 0.5, later, signals={"length": x})[0] for x in (0.0, 3.0)]
    assert verdicts == ["stop", "go_on"]


def test_sufficiency_comes_before_gains() -> None:
    made = policy(thresholds={"none": 0.6}, upgrades={"none": {"answer": SURE}})
    assert action(made, 0.6) == "stop"


@quick
@given(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4), P)
def test_a_chance_is_a_probability_whatever_the_card_says(offset: float, slope: float, p: float) -> None:
    assert 0.0 <= Upgrade(offset=offset, slope=slope, cost=0.0).p_correct(p) <= 1.0


@quick
@given(st.floats(0.001, 0.999))
def test_offset_zero_and_slope_one_change_nothing(p: float) -> None:
    assert Upgrade(offset=0, slope=1, cost=0).p_correct(p) == pytest.approx(p, abs=1e-9)
    assert Upgrade(offset=math.log(3), slope=0, cost=0).p_correct(p) == pytest.approx(0.75)


def spread(count: int) -> list[float]:
    """Evenly spread sufficiencies in a mixed order."""
    return [(i * 0.6180339887498949) % 1 for i in range(1, count + 1)]


def actions(made: Policy, level: Effort, count: int = 400, later: Ladder = LADDER[2:]) -> list[Action]:
    return [action(made, p, level, later) for p in spread(count)]


@pytest.mark.parametrize("share", [0.1, 0.37, 0.6, 0.9])
def test_uncalibrated_thresholds_stop_as_many_as_the_card(share: float) -> None:
    made = policy(thresholds={"none": 0.99, "low": 0.01}, stop_shares={"none": share, "low": share}, calibrated=False)
    for level in (NONE, LOW):
        after = actions(made, level)[16:]
        assert after.count("stop") / len(after) == pytest.approx(share, abs=0.08)


def test_uncalibrated_decisions_need_only_the_order_of_sufficiencies() -> None:
    card = {"thresholds": {"none": 0.99}, "stop_shares": {"none": 0.4}, "calibrated": False}
    assert actions(policy(**card, scale=0.01), NONE)[16:] == actions(policy(**card), NONE)[16:]  # type: ignore[arg-type]


def test_until_warm_the_cards_thresholds_hold_and_then_stay_put() -> None:
    made = policy(thresholds={"none": 0.7}, stop_shares={"none": 0.5}, calibrated=False, warm_up=8)
    first = [made.decide(NONE, {"p": p}, 0, LADDER[1:]) for p in spread(8)]
    assert {d.threshold for d in first} == {0.7} and not any(d.calibrated for d in first)
    later = [made.decide(NONE, {"p": p}, 0, LADDER[1:]) for p in [0.0] * 50]
    assert len({d.threshold for d in later}) == 1 and later[0].threshold != 0.7
    assert made.threshold(LOW) == 0.7  # another level has its own warm-up


def test_an_uncalibrated_policy_trusts_no_gain() -> None:
    card = {"thresholds": {"none": 0.9}, "cost_weight": 1.0, "upgrades": {"none": {"low": HOPELESS, "answer": SURE}}}
    assert action(policy(**card, calibrated=False), 0.1) == "go_on"  # type: ignore[arg-type]


def test_a_run_taken_up_again_keeps_its_thresholds() -> None:
    card = {"thresholds": {"none": 0.7}, "stop_shares": {"none": 0.3}, "calibrated": False}
    whole, resumed = policy(**card), policy(**card)  # type: ignore[arg-type]
    for p in spread(40):
        action(whole, p)
        resumed.recall("none", p)
    assert resumed.threshold(NONE) == whole.threshold(NONE) != 0.7
    calibrated = policy(thresholds={"none": 0.7})
    for p in spread(40):
        calibrated.recall("none", p)
    assert calibrated.threshold(NONE) == 0.7
