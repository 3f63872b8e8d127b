"""Random mix: a coin that falls the same way for the same problem, and one model asked once."""

from __future__ import annotations

import pytest

from tandem.config import SolveOptions
from tandem.engine import Tandem
from tandem.errors import UsageError
from tandem.models.fake import FakeModel
from tandem.strategies import make_strategy
from tandem.strategies.random_mix import DEFAULT_SHARE, coin
from tandem.types import AnswerDelta, Decision, Problem, Solution

IDS = [f"made-{n}" for n in range(400)]


def who(strategy: str, **options: object) -> list[str | None]:
    with Tandem(FakeModel(), FakeModel(), strategy=strategy, **options) as tandem:  # type: ignore[arg-type]
        problems = [Problem.from_text("What is 17*23?", id=i, task="math") for i in IDS[:60]]
        return [tandem.solve(problem).answered_by for problem in problems]


def test_the_coin_depends_on_problem_and_seed_alone() -> None:
    assert [coin(i, 0) for i in IDS] == [coin(i, 0) for i in reversed(IDS)][::-1]
    assert [coin(i, 0) < 0.5 for i in IDS] != [coin(i, 1) < 0.5 for i in IDS]


def test_the_coin_is_the_same_in_later_versions() -> None:
    assert round(coin("gsm8k-train-00004", 0), 4) == 0.8105  # else a run could not be taken up again


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_about_the_share_goes_to_the_mentor(share: float) -> None:
    tosses = [coin(i, 0) for i in IDS]
    assert all(0 <= toss < 1 for toss in tosses)
    assert sum(toss < share for toss in tosses) / len(tosses) == pytest.approx(share, abs=0.06)


def test_another_engine_sends_the_same_problems_to_the_mentor() -> None:
    first = who("random-mix:0.5")
    assert first == who("random-mix:0.5") == who("random-mix") and set(first) == {"mentor", "intern"}
    assert first != who("random-mix:0.5", seed=7)


def test_a_larger_share_keeps_the_mentors_problems() -> None:
    small, large = who("random-mix:0.3"), who("random-mix:0.6")
    assert small.count("mentor") < large.count("mentor")
    assert all(b == "mentor" for a, b in zip(small, large, strict=True) if a == "mentor")


def test_the_ends_are_the_anchors() -> None:
    assert set(who("random-mix:0")) == {"intern"} and set(who("random-mix:1")) == {"mentor"}


@pytest.mark.parametrize(
    ("share", "role", "level", "action"), [("0", "intern", "none", "stop"), ("1", "mentor", "answer", "answer")]
)
def test_one_model_is_asked_once_as_its_anchor_asks(share: str, role: str, level: str, action: str) -> None:
    mentor, intern = FakeModel(), FakeModel()
    with Tandem(mentor, intern, strategy=f"random-mix:{share}", mentor_max_tokens=70, intern_max_tokens=50) as tandem:
        events = list(tandem.stream("What is 17*23?", task="math"))
        planned = [(call.role, call.max_tokens) for call in tandem.plan().calls("math")]
        with_anchor = tandem.solve("What is 17*23?", task="math", options=SolveOptions(strategy=f"{role}-only"))
    solution, decision = events[-1], events[0]
    assert isinstance(solution, Solution) and isinstance(decision, Decision)
    assert (solution.level, solution.answered_by, solution.text) == (level, role, with_anchor.text)
    assert solution.trace == [decision] and decision.action == action
    assert "".join(e.text for e in events if isinstance(e, AnswerDelta)) == solution.text
    assert [(e.role, e.purpose) for e in solution.ledger] == [(role, "answer")]
    asked, idle = (mentor, intern) if role == "mentor" else (intern, mentor)
    assert len(asked.calls) == 2 and asked.calls[0] == asked.calls[1] and not idle.calls
    assert planned == [(role, 70 if role == "mentor" else 50)]


def test_names() -> None:
    assert make_strategy("random-mix").share == DEFAULT_SHARE == 0.5  # type: ignore[attr-defined]
    assert make_strategy("random-mix:0.25").share == 0.25  # type: ignore[attr-defined]
    for wrong in ("x", "", "nan"):
        with pytest.raises(UsageError, match=f"^random-mix takes the mentor's share, as in .*:0.3, not '{wrong}'$"):
            make_strategy(f"random-mix:{wrong}")
    for wrong in ("1.5", "-0.1", "inf"):
        with pytest.raises(UsageError, match=r"lies in 0..1, not at"):
            make_strategy(f"random-mix:{wrong}")
