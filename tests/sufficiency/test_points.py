"""A card's operating points: chosen by unit, aim and kind, with a card of an earlier format as one point for all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest
from test_classifier import card

from tandem.errors import TandemError, UsageError
from tandem.storage.formats import stamped
from tandem.sufficiency.classifier import FORMAT, ClassifierCard, read_card
from tandem.sufficiency.points import OperatingPoint
from tandem.sufficiency.policy import PolicyCard
from tandem.types import TaskKind

OLDER = [Path("tests/older/classifier"), Path("tests/older/classifier-format-3")]


def point(ladder: str, **fields: Any) -> OperatingPoint:
    return OperatingPoint(ladder=ladder, draft_tokens=8, policy=PolicyCard(thresholds={"none": 0.3}), **fields)


MATH, CODE, USUAL = point("question,high=1000", model="of-math"), point("none,answer"), point("none,low=100,answer")
GAIN = point("none,high=1000")


def with_points(**fields: Any) -> ClassifierCard:
    models = {"of-math": {"features": ["length"], "draft_tokens": 8, "kinds": ["math"]}}
    points = {
        "seconds": {"accuracy": {"math": MATH, "code": CODE, "all": USUAL}, "cost:0.8": {"all": GAIN}},
        "usd": {"gain": {"math": GAIN}},
    }
    return card(**{"format": FORMAT, "aim": "accuracy", "models": models, "points": points} | fields)


def test_a_point_is_chosen_by_unit_aim_and_kind_of_task() -> None:
    made = with_points()
    assert made.choose("seconds", "accuracy").of("math") == MATH
    assert made.choose("seconds", None).of("code") == CODE  # the card's aim
    assert made.choose("seconds", "accuracy").of("choice") == USUAL  # a kind without its own
    assert made.choose("seconds", "cost:0.80").of("code") == GAIN
    assert made.choose("usd", "gain").of("general") == made.own  # neither the kind nor all


def test_a_unit_without_points_leaves_the_cards_own_and_says_so() -> None:
    chosen = with_points().choose("mentor_tokens", None)
    assert chosen.of("math") == with_points().own and chosen.unit == "tflops"
    assert "no operating points in mentor tokens" in chosen.note
    assert "no point for accuracy in US$" in with_points().choose("usd").note
    assert not with_points().choose("seconds").note and not with_points().choose().note


def test_an_unknown_aim_is_an_error_that_names_those_that_there_are() -> None:
    with pytest.raises(UsageError, match=r"'cost:0\.5' in device seconds; it has accuracy, cost:0\.8"):
        with_points().choose("seconds", "cost:0.5")
    with pytest.raises(UsageError, match=r"it has accuracy$"):
        with_points().choose(None, "gain").of("math")


@pytest.mark.parametrize("folder", OLDER, ids=str)
def test_a_card_of_an_earlier_format_is_one_point_for_every_kind(folder: Path) -> None:
    old = read_card(folder)
    assert {old.choose("usd", None).of(kind).ladder for kind in get_args(TaskKind)} == {old.ladder}
    assert old.choose(None, old.aim).of("code").policy == old.policy
    assert old.model("").features == old.features


def test_a_card_with_points_is_read_as_it_was_written(tmp_path: Path) -> None:
    made = with_points()
    (tmp_path / "card.json").write_text(json.dumps(stamped(made.model_dump(mode="json"))), encoding="utf-8")
    assert read_card(tmp_path) == made
    assert made.model("of-math").features == ("length",)


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        (
            {"points": {"seconds": {"gain": {"all": point("none,answer", model="lost")}}}},
            "models that .* not have: lost",
        ),
        ({"points": {"hours": {}}}, "points.hours"),
        ({"points": {"usd": {"gain": {"physics": GAIN}}}}, "physics"),
        ({"models": {"../up": {"features": [], "draft_tokens": 1}}}, "models"),
        ({"points": {"usd": {"gain": {"all": GAIN.model_dump() | {"ladder": "none,sky"}}}}}, "effort level 'sky'"),
        ({"points": {"usd": {"gain": {"all": GAIN.model_dump() | {"draft_tokens": 0}}}}}, "draft_tokens"),
        ({"ladder": "none,sky"}, "effort level 'sky'"),
        ({"models": {f"m{i}": {"features": [], "draft_tokens": 1} for i in range(65)}}, "models"),
    ],
    ids=["model", "unit", "kind", "path", "ladder", "draft", "own ladder", "too many"],
)
def test_points_that_mean_nothing_are_refused_in_one_line(tmp_path: Path, fields: dict[str, Any], fault: str) -> None:
    made = with_points().model_dump(mode="json") | json.loads(json.dumps(fields, default=lambda p: p.model_dump()))
    (tmp_path / "card.json").write_text(json.dumps(stamped(made)), encoding="utf-8")
    with pytest.raises(TandemError, match=fault) as refused:
        read_card(tmp_path)
    assert "\n" not in str(refused.value) and "train it again" in str(refused.value)
