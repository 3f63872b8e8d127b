"""Route: one model is asked once, which the question alone decides; and what all learned strategies share."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from predicted import constant, reads, save

from tandem.engine import Tandem
from tandem.errors import ClassifierMismatchError, TandemError, UsageError
from tandem.models.fake import FakeModel
from tandem.strategies import make_strategy
from tandem.sufficiency.predictor import Head
from tandem.types import AnswerDelta, Decision, Problem, Solution

SHORT = "What is 17*23?"
LONG = "One train leaves at 3, another at 4, a third at 5, a fourth at 6, the last at 7. When is the last due?"


def heads(intern: Head, mentor: Head) -> dict[str, Head]:
    return {"intern": intern, "mentor": mentor}


def route(folder: Path, question: str = SHORT, argument: str = "") -> tuple[list[object], FakeModel, FakeModel]:
    mentor, intern = FakeModel(), FakeModel()
    with Tandem(mentor, intern, strategy=f"route:{folder}{argument}", mentor_max_tokens=70) as tandem:
        return list(tandem.stream(question, task="math")), mentor, intern


def decided(events: list[object]) -> Decision:
    (found,) = [event for event in events if isinstance(event, Decision)]
    assert isinstance(events[-1], Solution) and events[-1].trace == [found]
    return found


@pytest.mark.parametrize(("p_mentor", "role"), [(0.9, "mentor"), (0.6, "intern")])
def test_one_model_is_asked_once_as_its_anchor_asks(tmp_path: Path, p_mentor: float, role: str) -> None:
    save(tmp_path, "route", heads(constant(0.5), constant(p_mentor)), 0.3)
    events, mentor, intern = route(tmp_path)
    asked, idle = (mentor, intern) if role == "mentor" else (intern, mentor)
    with Tandem(FakeModel(), FakeModel(), strategy=f"{role}-only", mentor_max_tokens=70) as anchor:
        plain = anchor.solve(SHORT, task="math")
        assert asked.calls == anchor.model(role).calls and not idle.calls  # type: ignore[attr-defined, arg-type]
    solution, decision = events[-1], decided(events)
    assert isinstance(solution, Solution) and solution.text == plain.text and solution.answered_by == role
    assert "".join(e.text for e in events if isinstance(e, AnswerDelta)) == solution.text
    assert solution.level == ("answer" if role == "mentor" else "none")
    assert decision.action == ("answer" if role == "mentor" else "stop")
    assert [(e.role, e.purpose) for e in solution.ledger] == [(role, "answer")]
    assert decision.sufficiency == pytest.approx(0.5) and decision.threshold == 0.3 and decision.calibrated
    assert decision.signals["gain"] == pytest.approx(p_mentor - 0.5)


def test_the_question_decides(tmp_path: Path) -> None:
    save(tmp_path, "route", heads(reads("question_numbers", -1.0), constant(0.5)), 0.2)
    assert decided(route(tmp_path, LONG)[0]).action == "answer"
    assert decided(route(tmp_path, "What is it?")[0]).action == "stop"


def test_doubt_in_both_is_no_reason_for_the_mentor(tmp_path: Path) -> None:
    save(tmp_path, "route", heads(constant(0.05), constant(0.06)), 0.3)
    assert decided(route(tmp_path)[0]).action == "stop"


def test_a_gain_of_exactly_the_threshold_is_the_mentors(tmp_path: Path) -> None:
    save(tmp_path, "route", heads(constant(0.5), constant(0.5)), 0.0)
    assert decided(route(tmp_path)[0]).action == "answer"


@pytest.mark.parametrize(("argument", "action"), [(":0.39", "answer"), (":0.41", "stop"), (":1", "stop")])
def test_a_threshold_of_ones_own_overrides_the_trained_one(tmp_path: Path, argument: str, action: str) -> None:
    save(tmp_path, "route", heads(reads("question_sentences", 0.0), constant(0.9)), 0.05)
    decision = decided(route(tmp_path, argument=argument)[0])
    assert decision.action == action and decision.threshold == float(argument[1:])


def test_the_estimate_knows_the_mentors_answer(tmp_path: Path) -> None:
    save(tmp_path, "route", heads(constant(0.5), constant(0.5)))
    with Tandem(FakeModel(), FakeModel(), strategy=f"route:{tmp_path}", mentor_max_tokens=70) as tandem:
        assert [(c.role, c.purpose, c.max_tokens) for c in tandem.plan().calls("math")] == [("mentor", "answer", 70)]
        assert str(tandem.plan().describe()["predictor"]).startswith("route@fake+fake@")


# ---- what all learned strategies share ----


def test_a_file_may_be_named_as_well(tmp_path: Path) -> None:
    save(tmp_path, "route", heads(constant(0.5), constant(0.9)), 0.3)
    events, _, _ = route(tmp_path / "predictors" / "route.json", argument=":0.8")
    assert decided(events).action == "stop"


@pytest.mark.parametrize("pair", [("fake", "other"), ("other", "fake"), ("other", "another")])
def test_another_pairs_predictor_is_not_calibrated(tmp_path: Path, pair: tuple[str, str]) -> None:
    save(tmp_path, "route", heads(constant(0.5), constant(0.9)), pair=pair)
    assert not decided(route(tmp_path)[0]).calibrated


def test_problems_that_it_was_fitted_on_are_known(tmp_path: Path) -> None:
    save(tmp_path, "route", heads(constant(0.5), constant(0.5)), seen=("made-1",))
    with Tandem("fake", "fake", strategy=f"route:{tmp_path}") as tandem:
        assert tandem.plan().saw("made-1") and not tandem.plan().saw("made-2")


def refused(argument: object) -> str:
    with pytest.raises(TandemError) as caught:
        Tandem("fake", "fake", strategy=f"route:{argument}")
    return str(caught.value)


def test_another_strategys_file_is_refused(tmp_path: Path) -> None:
    save(tmp_path, "cascade", {"right": constant(0.5)})
    file = tmp_path / "predictors" / "cascade.json"
    assert refused(file) == f"{file} is the predictor of 'cascade', not of 'route'"


def test_without_a_predictor_the_training_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=rf"tandem train COLLECTION --strategy route --out {tmp_path}$"):
        Tandem("fake", "fake", strategy=f"route:{tmp_path}")


def test_nothing_shipped_is_said_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tandem.sufficiency.predictor.shipped", lambda folder: tmp_path)
    with pytest.raises(UsageError, match=r"no predictor for 'route' is shipped; .* --strategy route --out"):
        Tandem("fake", "fake", strategy="route")


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"format": 1}'])
def test_a_damaged_file_is_refused(tmp_path: Path, damage: str) -> None:
    save(tmp_path, "route", heads(constant(0.5), constant(0.5)))
    file = tmp_path / "predictors" / "route.json"
    file.write_text(damage)
    assert refused(tmp_path).startswith((f"{file} is damaged: it is not ", f"{file} cannot be read: strategy: Field"))


def test_a_file_that_lacks_what_is_needed_is_refused(tmp_path: Path) -> None:
    save(tmp_path, "route", {"intern": constant(0.5)})
    assert "does not fit this version of Tandem (mentor); train one" in refused(tmp_path)
    save(tmp_path, "route", heads(reads("phase_of_the_moon", 1.0), constant(0.5)))
    assert "(phase_of_the_moon)" in refused(tmp_path)
    save(tmp_path, "route", heads(constant(0.5), constant(0.5)), settings={})
    assert "(threshold)" in refused(tmp_path)


def test_signals_of_another_version_are_refused(tmp_path: Path) -> None:
    save(tmp_path, "route", heads(constant(0.5), constant(0.5)), signal_version="99")
    with pytest.raises(ClassifierMismatchError, match=r"version '99'"):
        Tandem("fake", "fake", strategy=f"route:{tmp_path}")
    save(tmp_path, "route", heads(constant(0.5), constant(0.5)), signal_version="1")  # its signals still mean the same
    Tandem("fake", "fake", strategy=f"route:{tmp_path}").close()


def test_a_problem_is_not_solved_without_a_predictor() -> None:
    strategy = make_strategy("route")
    with pytest.raises(TandemError, match="is bound to a pair first"):
        strategy.saw(Problem.from_text(SHORT).id)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("argument", "where", "threshold"),
    [
        ("0.6", "", 0.6),
        ("0", "", 0.0),
        ("1", "", 1.0),
        (".5", "", 0.5),
        ("1e-3", "", 0.001),
        ("mine", "mine", None),
        ("a/b+c:0.25", "a/b+c", 0.25),
        ("./5", "./5", None),
        ("C:mine", "C:mine", None),
        ("v0.6", "v0.6", None),
    ],
)
def test_a_number_is_a_threshold_and_anything_else_a_path(argument: str, where: str, threshold: float | None) -> None:
    strategy = make_strategy(f"route:{argument}")
    assert (strategy.where, strategy._own_threshold) == (where, threshold)  # type: ignore[attr-defined]


def test_wrong_arguments() -> None:
    for wrong in ("1.5", "-0.1", "mine:2"):
        with pytest.raises(UsageError, match=r"^the threshold of 'route' lies in 0..1, not at"):
            make_strategy(f"route:{wrong}")
    with pytest.raises(UsageError, match=r"^strategy 'route' takes a threshold, as in route:0.5, or a predictor's fol"):
        make_strategy("route:")


def test_the_shipped_file_belongs_to_the_shipped_pair() -> None:
    with Tandem("qwen2.5-coder-1.5b", "qwen2.5-coder-0.5b", strategy="route") as tandem:
        assert str(tandem.plan().describe()["predictor"]).startswith("route@qwen2.5-coder-1.5b+qwen2.5-coder-0.5b@")
        assert tandem.plan().saw("gsm8k-train-00004") and not tandem.plan().saw("gsm8k-test-00004")


def test_an_id_changes_with_the_file(tmp_path: Path) -> None:
    save(tmp_path, "route", heads(constant(0.5), constant(0.5)))
    ids = []
    for threshold in (0.1, 0.2):
        file = tmp_path / "predictors" / "route.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"settings": {"threshold": threshold}}))
        with Tandem("fake", "fake", strategy=f"route:{tmp_path}") as tandem:
            ids.append(tandem.plan().describe()["predictor"])
    assert ids[0] != ids[1]
