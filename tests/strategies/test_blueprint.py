"""Blueprint on fake models: which file is used, what is sent under it, what is said and charged, and never a mentor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import tandem.sufficiency.blueprint_card as card_module
from tandem.engine import Tandem
from tandem.errors import TandemError, UsageError
from tandem.insight import answer_messages
from tandem.models.base import Request
from tandem.models.fake import FakeModel
from tandem.strategies import make_strategy
from tandem.strategies.blueprint import Blueprint, blueprint_messages
from tandem.sufficiency.blueprint_card import (
    BlueprintCard,
    Candidate,
    HeldOutDifference,
    Offline,
    Price,
    Score,
    Text,
    break_even,
)
from tandem.sufficiency.classifier import short_hash
from tandem.types import Decision, Message, Problem, Solution

QUESTION = "What is 17*23?"
GUIDE = "Split the second factor and add the two products."


def card(chosen: str = "bullets/before", **changes: Any) -> BlueprintCard:
    """Return a card whose search found `chosen`."""
    fields: dict[str, Any] = {
        "mentor": "big",
        "intern": "small",
        "task": "math",
        "dataset": "toy",
        "chosen": chosen,
        "blueprints": {"bullets": Text(text=GUIDE, tokens=11)},
        "candidates": (
            Candidate(name="none"),
            Candidate(name="bullets/before", blueprint="bullets"),
            Candidate(name="bullets/system+follow", blueprint="bullets", place="system", follow=True),
        ),
        "scores": tuple(
            Score(candidate=name, part="held-out", n=64, right=right, prompt_tokens=640, completion_tokens=6400)
            for name, right in (("none", 20), ("bullets/before", 29))
        ),
        "held_out": HeldOutDifference(candidate="bullets/before", n=64, won=12, lost=3, ci95=(0.02, 0.26), p=0.04),
        "offline": Offline(
            calls=300,
            mentor_tokens=2000,
            intern_tokens=30000,
            spent=Price(tflops=100.0, usd=2.0),
            mentor_problem=Price(tflops=3.0, usd=0.03),
            intern_problem=Price(tflops=1.0, usd=0.0225),
        ),
        "data": {"seen": [short_hash("toy-1")]},
    }
    return BlueprintCard(**(fields | changes))


def pair() -> tuple[FakeModel, FakeModel]:
    mentor, intern = FakeModel(name="big"), FakeModel(name="small")
    intern.answer = lambda request: "so \\boxed{391}"
    return mentor, intern


def solve(
    folder: Path, question: str | Problem = QUESTION, *, names: tuple[str, str] = ("big", "small")
) -> tuple[Solution, Request]:
    """Solve with the blueprints in `folder` and return the solution and the one request; the mentor is never asked."""
    mentor, intern = (FakeModel(name=name) for name in names)
    with Tandem(mentor, intern, strategy=f"blueprint:{folder}") as tandem:
        solution = tandem.solve(question, task="math")
        assert tandem.plan().roles == ("intern",)
    assert not mentor.calls
    (request,) = intern.calls
    return solution, request


def intern_only(problem: str | Problem = QUESTION) -> Request:
    mentor, intern = pair()
    with Tandem(mentor, intern, strategy="intern-only") as tandem:
        tandem.solve(problem, task="math")
    return intern.calls[0]


def test_the_intern_answers_under_the_chosen_blueprint_without_the_mentor(tmp_path: Path) -> None:
    card().save(tmp_path)
    solution, request = solve(tmp_path)
    plain = intern_only()
    (message,) = request.messages
    assert GUIDE in message.content and message.content.endswith(plain.messages[0].content)
    assert (request.purpose, request.max_tokens, request.sampling) == ("answer", plain.max_tokens, plain.sampling)
    assert (solution.level, solution.answered_by, solution.insight) == ("blueprint", "intern", GUIDE)
    assert [(e.role, e.purpose, e.read_tokens) for e in solution.ledger] == [("intern", "answer", 11)]


def test_the_decision_says_what_was_chosen_and_what_it_did_on_held_out_problems(tmp_path: Path) -> None:
    card().save(tmp_path)
    solution, _ = solve(tmp_path)
    (decision,) = solution.trace
    assert isinstance(decision, Decision)
    assert (decision.level, decision.action, decision.calibrated) == ("blueprint", "stop", True)
    assert decision.reason == (
        "blueprint 'bullets/before'; held-out problems right: it 29 of 64, the plain prompt 20 of 64"
    )
    assert decision.signals == {"held_out_chosen": 29 / 64, "held_out_plain": 20 / 64}
    assert decision.insight_tokens == 0  # none was bought for this problem


def test_where_no_blueprint_was_chosen_the_request_is_that_of_intern_only(tmp_path: Path) -> None:
    card("none").save(tmp_path)
    solution, request = solve(tmp_path)
    assert request.messages == intern_only().messages and request.max_tokens == intern_only().max_tokens
    assert (solution.level, solution.insight) == ("none", "")
    assert "nothing better than the plain prompt" in solution.trace[0].reason
    assert solution.ledger.entries[0].read_tokens == 0


def test_a_kind_of_problem_without_a_blueprint_gets_the_plain_prompt_and_it_is_said(tmp_path: Path) -> None:
    card(task="code").save(tmp_path)
    solution, request = solve(tmp_path)
    assert request.messages == intern_only().messages and solution.level == "none"
    assert solution.trace[0].reason == "no blueprint for math problems: the plain prompt"


@pytest.mark.parametrize("names", [("other", "small"), ("big", "other"), ("other", "another")])
def test_another_pairs_blueprint_is_used_and_said_to_be_one(tmp_path: Path, names: tuple[str, str]) -> None:
    card().save(tmp_path)
    solution, request = solve(tmp_path, names=names)
    assert GUIDE in request.messages[0].content
    assert not solution.trace[0].calibrated and "searched for big+small" in solution.trace[0].reason


def test_the_places_in_the_prompt() -> None:
    problem = Problem.from_text(QUESTION, task="math")
    asked = answer_messages(problem)[0].content

    def made(place: Any, follow: bool) -> list[tuple[str, str]]:
        candidate = Candidate(name="x", blueprint="bullets", place=place, follow=follow)
        return [(m.role, m.content) for m in blueprint_messages(problem, GUIDE, candidate)]

    head = f"How to solve problems of this kind:\n{GUIDE}"
    assert made("before", False) == [("user", f"{head}\n\n{asked}")]
    assert made("after", False) == [("user", f"{asked}\n\n{head}")]
    assert made("system", False) == [("system", head), ("user", asked)]
    assert made("system", True) == [("system", f"{head}\n\nFollow this guide step by step."), ("user", asked)]


def test_a_conversation_keeps_its_turns_and_has_one_system_message() -> None:
    turns = (
        Message(role="system", content="Be brief."),
        Message(role="user", content="What is 17*20?"),
        Message(role="assistant", content="340"),
        Message(role="user", content=QUESTION),
    )
    problem = Problem(id="t", messages=turns, task="math")
    for place in ("system", "before", "after"):
        made = blueprint_messages(problem, GUIDE, Candidate(name="x", blueprint="b", place=place))
        assert [m.role for m in made] == [m.role for m in turns] and made[1:3] == turns[1:3]
        carrier = made[0] if place == "system" else made[-1]
        assert GUIDE in carrier.content and sum(GUIDE in m.content for m in made) == 1
        assert made[0].content.startswith("Be brief.")


def test_of_several_files_the_problems_own_data_set_decides(tmp_path: Path) -> None:
    card(dataset="apples", blueprints={"bullets": Text(text="Count apples.", tokens=2)}).save(tmp_path)
    card(dataset="pears", blueprints={"bullets": Text(text="Count pears.", tokens=2)}).save(tmp_path)
    for name in ("apples", "pears"):
        problem = Problem.from_text(QUESTION, task="math", id=f"{name}-test-00001")
        assert solve(tmp_path, problem)[0].insight == f"Count {name}."
    assert solve(tmp_path, Problem.from_text(QUESTION, task="math", id="x"))[0].level == "blueprint"


def test_the_pairs_own_shipped_blueprint_comes_before_a_nearer_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card(mentor="huge", blueprints={"bullets": Text(text="From huge.", tokens=2)}).save(tmp_path / "a")
    card(blueprints={"bullets": Text(text="From big.", tokens=2)}).save(tmp_path / "b")
    card(intern="tiny", blueprints={"bullets": Text(text="For tiny.", tokens=2)}).save(tmp_path / "c")
    monkeypatch.setattr(card_module, "shipped", lambda folder: tmp_path)
    found = {}
    for mentor, intern in (("big", "small"), ("huge", "small"), ("x", "tiny"), ("huge", "x"), ("huge", "tiny")):
        strategy = Blueprint()
        strategy.bind(mentor, intern)
        (used,) = strategy.cards
        found[mentor, intern] = (used.text.text if used.text else "", strategy.exact)
    assert found == {
        ("big", "small"): ("From big.", True),
        ("huge", "small"): ("From huge.", True),
        ("x", "tiny"): ("For tiny.", False),
        ("huge", "x"): ("From huge.", False),
        ("huge", "tiny"): ("For tiny.", False),  # whom it is written for matters more than who wrote it
    }


def test_without_any_file_the_command_that_makes_one_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"holds no blueprint; make one with: tandem blueprint build --mentor big "):
        Tandem(*pair(), strategy=f"blueprint:{tmp_path}")
    monkeypatch.setattr(card_module, "shipped", lambda folder: tmp_path)
    with pytest.raises(UsageError, match=r"^no blueprint is shipped; make one with: .* --out blueprints$"):
        Tandem(*pair(), strategy="blueprint")


def test_a_damaged_file_and_one_of_a_later_version(tmp_path: Path) -> None:
    path = card().save(tmp_path)
    content = json.loads(path.read_text())
    for wrong in ("{", "[]", json.dumps(content | {"chosen": "nobody"}), json.dumps(content | {"blueprints": {}})):
        path.write_text(wrong)
        with pytest.raises(TandemError, match=r"(cannot be read|is damaged): .*build it again \(tandem blue"):
            Tandem(*pair(), strategy=f"blueprint:{path}")
    path.write_text(json.dumps(content | {"format": 99}))
    with pytest.raises(TandemError, match=r"has format 99 and .* by Tandem \S+: upgrade Tandem"):
        Tandem(*pair(), strategy=f"blueprint:{path}")


def test_the_call_is_planned_with_the_blueprint_in_its_prompt(tmp_path: Path) -> None:
    card().save(tmp_path)
    with Tandem(*pair(), strategy=f"blueprint:{tmp_path}", intern_max_tokens=77) as tandem:
        (planned,) = tandem.plan().calls("math")
    assert (planned.role, planned.max_tokens, planned.read_tokens) == ("intern", 77, 11)


def test_problems_of_the_search_are_known_and_the_id_tells_cards_apart(tmp_path: Path) -> None:
    card().save(tmp_path)
    with Tandem(*pair(), strategy=f"blueprint:{tmp_path}") as tandem:
        assert tandem.plan().saw("toy-1") and not tandem.plan().saw("toy-2")
        first = tandem.plan().describe()["predictor"]
    card("none").save(tmp_path)
    with Tandem(*pair(), strategy=f"blueprint:{tmp_path}") as tandem:
        assert tandem.plan().describe()["predictor"] != first and first.startswith("blueprint:toy@big+small@")


def test_the_price_before_the_first_problem(tmp_path: Path) -> None:
    card().save(tmp_path)
    strategy = make_strategy(f"blueprint:{tmp_path}")
    assert isinstance(strategy, Blueprint) and strategy.offline() is None
    strategy.bind("big", "small")
    assert strategy.offline() == {"tflops": 100.0, "usd": 2.0, "break_even_problems": 267}  # 2 / (0.03 - 0.0225)
    free = Offline(
        calls=1,
        mentor_tokens=1,
        intern_tokens=1,
        spent=Price(tflops=100.0),
        mentor_problem=Price(tflops=3.0),
        intern_problem=Price(tflops=1.0),
    )
    card(offline=free).save(tmp_path)
    strategy.bind("big", "small")
    assert strategy.offline() == {"tflops": 100.0, "usd": None, "break_even_problems": 50}
    card(dataset="more", offline=free.model_copy(update={"intern_problem": Price(tflops=3.0)})).save(tmp_path)
    strategy.bind("big", "small")
    assert strategy.offline() == {"tflops": 200.0, "usd": None, "break_even_problems": None}


@pytest.mark.parametrize(
    ("spent", "dear", "cheap", "problems"),
    [
        (10.0, 3.0, 1.0, 5),
        (10.0, 4.0, 1.0, 4),
        (0.0, 3.0, 1.0, 0),
        (10.0, 1.0, 1.0, None),
        (10.0, 1.0, 2.0, None),
        (None, 3.0, 1.0, None),
        (10.0, None, 1.0, None),
        (10.0, 3.0, None, None),
    ],
)
def test_break_even(spent: float | None, dear: float | None, cheap: float | None, problems: int | None) -> None:
    assert break_even(spent, dear, cheap) == problems


def test_names() -> None:
    assert isinstance(make_strategy("blueprint"), Blueprint)
    for wrong in ("blueprint:", "blueprint: "):
        with pytest.raises(UsageError, match="takes a file or a folder"):
            make_strategy(wrong)
