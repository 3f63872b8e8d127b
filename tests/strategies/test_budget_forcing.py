"""Budget forcing on fake models: what is asked when the reasoning is cut, in which words, and what it costs."""

from __future__ import annotations

from typing import Any

import pytest

from tandem.engine import Tandem
from tandem.errors import UsageError
from tandem.grading import answer_of
from tandem.insight import answer_messages
from tandem.models.base import Request
from tandem.models.fake import FakeModel, Script
from tandem.spec import Continuation
from tandem.strategies import make_strategy
from tandem.strategies.budget_forcing import DEFAULT_BUDGET, force
from tandem.types import Problem, Solution, TaskKind

QUESTION = "What is 17*23?"
LONG = "one two three four five six seven eight nine ten , so \\boxed{391}"


def mentor_with(end: str = "391}", *, script: Script | None = None, **spec: Any) -> FakeModel:
    """Return a mentor that reasons for twelve tokens, and writes `end` when it is asked once more."""
    model = FakeModel(script)
    model.spec = model.spec.model_copy(update=spec)
    model.answer = lambda request: (
        (str(request.prefix) + end) if request.prefix else end if len(request.messages) > 1 else LONG
    )
    return model


def solve(mentor: FakeModel, budget: int, **options: Any) -> tuple[Solution, list[Request]]:
    with Tandem(mentor, "fake", strategy=f"budget-forcing:{budget}", **options) as tandem:
        return tandem.solve(QUESTION, task="math"), mentor.calls


def test_an_answer_that_ends_within_the_budget_is_one_call() -> None:
    solution, calls = solve(mentor_with(), 100)
    assert (solution.text, solution.answer, solution.level) == (LONG, "391", "answer")
    assert len(calls) == 1 and calls[0].max_tokens == 100 and not solution.truncated


def test_a_cut_answer_is_continued_with_the_cue_in_a_second_call() -> None:
    solution, (first, second) = solve(mentor_with(), 4)
    cut = "one two three four"
    assert first.max_tokens == 4 and first.prefix is None
    assert second.prefix == cut + "\n\nThe final answer is \\boxed{" and second.max_tokens == 48
    assert (solution.text, solution.answer) == (f"{second.prefix}391}}", "391")
    assert [(e.role, e.purpose) for e in solution.ledger] == [("mentor", "answer")] * 2
    assert solution.ledger.mentor_tokens == 4 + 1


def test_a_thinking_mentor_is_told_that_its_thinking_is_over() -> None:
    _, (_, second) = solve(mentor_with("391", insight_mode="prefix"), 4)
    assert second.prefix == "one two three four\n</think>\n\n" and second.max_tokens == 2048


def test_a_mentor_that_cannot_go_on_is_asked_in_a_further_turn() -> None:
    mentor = mentor_with("\\boxed{391}", script=Script(continuation=Continuation.NONE))
    solution, (_, second) = solve(mentor, 4)
    assert second.prefix is None
    assert [m.role for m in second.messages] == ["user", "assistant", "user"]
    assert second.messages[1].content == "one two three four" and "final answer now" in second.messages[2].content
    assert solution.answer == "391" and solution.text.startswith("one two three four\n\n")
    assert solution.ledger.entries[1].usage.prompt > solution.ledger.entries[0].usage.prompt  # it reads itself again


def test_a_budget_above_the_cap_forces_nothing() -> None:
    solution, calls = solve(mentor_with(), 50, mentor_max_tokens=5)
    assert len(calls) == 1 and calls[0].max_tokens == 5 and solution.truncated


@pytest.mark.parametrize("task", ["math", "choice", "code", "general"])
def test_what_is_forced_is_read_as_the_answer(task: TaskKind) -> None:
    problem = Problem.from_text(QUESTION, task=task)
    told = {"math": "42}", "choice": "B}", "code": "def f():\n    return 2\n```", "general": "forty-two"}[task]
    cut = "First\n```python\ndef f():\n    retu" if task == "code" else "First we"
    forced = force(problem, cut, FakeModel().spec, 4096)
    assert forced.messages == answer_messages(problem) and forced.prefix == forced.head
    found = answer_of(problem, forced.head + told)
    assert (
        found is not None
        and found.strip()
        == {
            "math": "42",
            "choice": "B",
            "code": "def f():\n    return 2",
            "general": "First we\n\nIn short: forty-two",
        }[task]
    )


def test_names() -> None:
    assert make_strategy("budget-forcing").budget == DEFAULT_BUDGET  # type: ignore[attr-defined]
    assert make_strategy("budget-forcing:300").budget == 300  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match="a positive number of tokens, not 0"):
        make_strategy("budget-forcing:0")
    with pytest.raises(UsageError, match="not 'x'"):
        make_strategy("budget-forcing:x")
