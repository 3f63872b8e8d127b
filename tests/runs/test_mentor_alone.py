"""The mentor alone is estimated from what the mentor writes, never from the intern's text."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tandem.ledger import Entry, Ledger, Purpose, Role, Usage
from tandem.runs.mentor_alone import MentorAlone, mentor_alone, usual_tokens
from tandem.spec import ModelSpec, Prices
from tandem.sufficiency.classifier import ClassifierCard, available, read_card

MENTOR = ModelSpec(name="big", local=False, prices=Prices(input=2, output=10))
INTERN = ModelSpec(name="small", parameters=1e9)
Written = tuple[Role, Purpose, int]


def record(number: int, *calls: Written, by: Role = "intern", strategy: str = "tandem", failed: bool = False) -> Any:
    entries = [
        Entry.of(
            MENTOR if role == "mentor" else INTERN,
            role,
            purpose,
            Usage(prompt=100 if purpose != "insight" else 400, completion=tokens),
            seconds=1.0,
            error="lost" if failed and k == 0 else None,
        )
        for k, (role, purpose, tokens) in enumerate(calls)
    ]
    return {
        "problem": f"p{number}",
        "strategy": strategy,
        "answered_by": by,
        "ledger": Ledger(entries=entries).model_dump(mode="json"),
    }


def card(**anchor: float) -> ClassifierCard:
    shipped = read_card(next(iter(available().values())))
    return shipped.model_copy(update={"mentor": "big", "figures": {"anchors": {"mentor-only": anchor}}})


def alone(*records: Any, cap: int = 1000, own: ClassifierCard | None = None, **spec: Any) -> MentorAlone:
    return mentor_alone(records, MENTOR.model_copy(update=spec), card=own, cap=cap)


def usd(found: MentorAlone) -> list[float]:
    values = found.cost["usd"]
    assert values is not None
    return [float(value) for value in values]


THINKING = record(0, ("intern", "answer", 9_000))
OWN = record(1, ("intern", "probe", 16), ("mentor", "insight", 100), ("mentor", "answer", 300), by="mentor")


def test_a_long_thought_of_the_intern_costs_the_mentor_nothing() -> None:
    found = alone(THINKING, OWN, own=card(mentor_tokens=319.0, accuracy=0.61))
    assert usd(found) == pytest.approx([(100 * 2 + 319 * 10) / 1e6, (100 * 2 + 300 * 10) / 1e6])
    assert found.cost["mentor_tokens"] is not None and list(found.cost["mentor_tokens"]) == [319, 300]
    assert not found.bound and (found.accuracy, found.problems) == (0.61, 315)
    assert found.basis == (
        "its own 1 answer in this run and, elsewhere, its mean answer of 319 tokens when the classifier was trained"
    )


def test_usual_answers_are_those_to_problems_of_the_same_kind_where_the_card_has_them() -> None:
    own = card(mentor_tokens=319.0)
    kinds = {"all": {"mentor": 300.0, "intern": 900.0}, "code": {"mentor": 80.0, "intern": 200.0}}
    own = own.model_copy(update={"intern": "small", "figures": own.figures | {"usual_tokens": kinds}})
    assert (usual_tokens(own, MENTOR, kind="code"), usual_tokens(own, MENTOR, kind="math")) == (80, 300)
    assert (usual_tokens(own, INTERN, "intern", "code"), usual_tokens(own, INTERN, "intern")) == (200, 900)
    assert usual_tokens(card(mentor_tokens=319.0), MENTOR, kind="code") == 319
    assert usual_tokens(card(mentor_tokens=319.0), INTERN, "intern") is None
    both = [THINKING | {"task": "code"}, THINKING | {"problem": "q", "task": "math"}]
    written = alone(*both, own=own).cost["mentor_tokens"]
    assert written is not None and list(written) == [80, 300]


def test_a_card_of_another_mentor_says_nothing() -> None:
    other = card(mentor_tokens=319.0, accuracy=0.6).model_copy(update={"mentor": "another"})
    found = alone(THINKING, own=other)
    assert found.bound and found.accuracy is None


def test_without_a_card_enough_answers_of_its_own_stand_for_the_rest() -> None:
    found = alone(THINKING, *[OWN] * 5)
    assert not found.bound and np.isnan(usd(found)[0]) and "harder problems" in found.basis
    assert alone(*[OWN] * 5).basis == "its own answers in this run"


def test_without_either_it_is_a_bound() -> None:
    found = alone(THINKING, OWN, cap=1000)
    assert found.bound and usd(found)[0] == pytest.approx((100 * 2 + 1000 * 10) / 1e6)
    assert found.basis == "every answer at the cap of 1,000 tokens"


def test_an_insight_that_begins_the_answer_is_part_of_it() -> None:
    found = alone(OWN, insight_mode="prefix")
    assert usd(found) == pytest.approx([(400 * 2 + 400 * 10) / 1e6])


def test_what_is_not_the_mentors_own_whole_answer_is_left_out() -> None:
    forced = record(2, ("mentor", "answer", 50), ("mentor", "answer", 9), by="mentor")
    cut = record(3, ("mentor", "answer", 50), by="mentor", strategy="budget-forcing:50")
    lost = record(4, ("mentor", "answer", 7), ("mentor", "answer", 200), by="mentor", failed=True)
    found = alone(forced, cut, lost, cap=500)
    written = found.cost["mentor_tokens"]
    assert written is not None and list(written) == [500, 500, 200]


def test_a_unit_without_rates_is_unknown() -> None:
    found = alone(OWN)
    assert found.cost["tflops"] is None and found.cost["seconds"] is None
