"""The main job on the real demo pair, in this process: few problems, everything real."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tandem import Solution, Tandem
from tandem.datasets import load_dataset
from tandem.errors import TandemError
from tandem.types import AnswerDelta, Decision, InsightDelta

pytestmark = [pytest.mark.weights, pytest.mark.timeout(1800)]  # CPUs differ by a factor of ten


@pytest.fixture(scope="module")
def pair(demo_mentor: Path, demo_intern: Path) -> Iterator[Tandem]:
    with Tandem(
        mentor="qwen2.5-coder-1.5b", intern="qwen2.5-coder-0.5b", mentor_max_tokens=160, intern_max_tokens=160
    ) as tandem:
        yield tandem


def test_the_pair_has_a_classifier_of_its_own(pair: Tandem) -> None:
    solution = pair.solve("What is 17*23?")
    assert pair.plan().classifier_match is not None and pair.plan().classifier_match["match"] == "exact"
    assert solution.classifier == pair.plan().classifier_match["id"]
    assert not solution.synthetic and solution.text
    assert all(0 <= d.sufficiency <= 1 for d in solution.trace if d.sufficiency is not None)


def test_insight_decisions_and_answer_arrive_as_they_happen(pair: Tandem) -> None:
    forced = Tandem(
        pair.mentor,
        pair.intern,
        effort="low=30,medium=60",
        mentor_max_tokens=200,
        intern_max_tokens=200,
    )
    events = list(forced.stream(load_dataset("starter", limit=1)[0].question, task="math"))
    solution = events[-1]
    assert isinstance(solution, Solution)
    kinds = [type(event) for event in events]
    assert kinds.index(InsightDelta) < kinds.index(Decision) < kinds.index(AnswerDelta)
    assert "goal" in solution.sections  # the mentor keeps the form of an insight
    insight = solution.ledger.tokens("mentor", "insight")
    assert 0 < insight <= 60
    assert "".join(e.text for e in events if isinstance(e, AnswerDelta)) == solution.text


def test_five_starter_problems_at_once_are_charged_in_full(pair: Tandem) -> None:
    problems = load_dataset("starter", limit=5)
    solutions = pair.solve_many(problems, concurrency=5)
    for problem, solution in zip(problems, solutions, strict=True):
        assert not isinstance(solution, TandemError), solution
        assert solution.problem_id == problem.id
        answers = solution.ledger.select(purpose="answer")
        assert len(answers) == 1 and answers[0].role == solution.answered_by
        drafts = [d for d in solution.trace if d.action != "stop" and d.level != "question"]  # which takes none
        assert len(solution.ledger.select("intern", "probe")) == len(drafts)
        assert solution.ledger.tflops is not None and solution.ledger.tflops > 0
        assert solution.ledger.device_seconds is not None and solution.ledger.device_seconds > 0  # by shipped profiles
        assert solution.ledger.usd is None  # a local model has no price


def test_the_anchors_run_on_real_weights(pair: Tandem) -> None:
    question = load_dataset("starter", limit=1)[0]
    for strategy, role in (("intern-only", "intern"), ("mentor-only", "mentor")):
        alone = Tandem(pair.mentor, pair.intern, strategy=strategy, mentor_max_tokens=60, intern_max_tokens=60)
        solution = alone.solve(question)
        assert [e.role for e in solution.ledger] == [role]
        assert solution.ledger.entries[0].usage.source == "reported"
