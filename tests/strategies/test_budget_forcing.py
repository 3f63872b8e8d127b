"""Budget forcing on fake models: what is asked when the reasoning is cut, in which words, and what it costs."""

from __future__ import annotations

from typing import Any

import pytest

from tandem.engine import Tandem
from tandem.errors import UsageError
from tandem.grading import answer_of
from tandem.insight import answer_messages
from tandem.models.base import TEMPLATE, Request
from tandem.models.fake import FakeModel, Script
from tandem.runs.estimate import estimate
from tandem.spec import Continuation, Prices
from tandem.strategies import make_strategy
from tandem.strategies.budget_forcing import DEFAULT_BUDGET, force
from tandem.types import AnswerDelta, Problem, Solution, TaskKind

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


def test_what_thinking_ended_is_answered_in_the_usual_words() -> None:
    spec = mentor_with(insight_mode="prefix").spec
    problem = Problem.from_text(QUESTION, task="math")
    forced = force(problem, "hm </think> So", spec, 4096)
    assert forced.head.endswith("\\boxed{") and forced.max_tokens == 48
    assert force(problem, "hm", spec, 100).max_tokens == 100  # the cap on an answer is one on its end


@pytest.mark.parametrize("budget", [5, 50])
def test_a_budget_at_or_above_the_cap_forces_nothing(budget: int) -> None:
    solution, calls = solve(mentor_with(), budget, mentor_max_tokens=5)
    assert len(calls) == 1 and calls[0].max_tokens == 5 and solution.truncated


def test_where_the_context_is_full_nothing_can_be_forced() -> None:
    model = mentor_with()
    prompt = sum(model.count(m.content) for m in answer_messages(Problem.from_text(QUESTION, task="math")))
    solution, calls = solve(mentor_with(context=prompt + TEMPLATE + 6), 9)
    assert len(calls) == 1 and calls[0].max_tokens == 6 and solution.truncated


def test_what_is_streamed_is_what_the_solution_has() -> None:
    with Tandem(mentor_with(), "fake", strategy="budget-forcing:4") as tandem:
        events = list(tandem.stream(QUESTION, task="math"))
    told = "".join(event.text for event in events if isinstance(event, AnswerDelta))
    assert isinstance(events[-1], Solution) and told == events[-1].text
    assert events[-1].answered_by == "mentor"


def test_both_calls_are_charged_and_planned() -> None:
    prices = Prices(input=1.0, output=10.0)
    mentor = mentor_with(prices=prices, local=False)
    with Tandem(mentor, "fake", strategy="budget-forcing:4", mentor_max_tokens=100) as tandem:
        solution = tandem.solve(QUESTION, task="math")
        assert [(call.role, call.max_tokens, call.read_tokens) for call in tandem.plan().calls("math")] == [
            ("mentor", 4, 0),
            ("mentor", 100, 4),
        ]
        most = estimate(tandem.plan(), [Problem.from_text(QUESTION, task="math")])["at_most"]["usd"]
    first, second = solution.ledger.entries
    assert second.usage.prompt == first.usage.prompt + 4 + 5  # what it wrote, and the cue
    assert solution.ledger.usd == pytest.approx(sum(entry.usd or 0 for entry in (first, second)))
    assert first.usd and second.usd and most > solution.ledger.usd
    with Tandem(mentor, "fake", strategy="budget-forcing:100", mentor_max_tokens=100) as tandem:
        assert len(tandem.plan().calls("math")) == 1


@pytest.mark.parametrize("end", ["```", "```\nDone.", ""])
@pytest.mark.parametrize(
    "cut",
    [
        "First\n```python\ndef f(:\n    retu",
        "First\n```\ndef f(:\n    retu",
        "First\n```python",
        "First of all",
        "```python\ndef f(:\n```\nNo,",
    ],
)
def test_of_forced_code_the_last_block_counts(cut: str, end: str) -> None:
    problem, code = Problem.from_text(QUESTION, task="code"), "def f():\n    return 2"
    forced = force(problem, cut, FakeModel().spec, 4096)
    assert (answer_of(problem, f"{forced.head}{code}\n{end}") or "").strip() == code
    asked = force(problem, cut, FakeModel(Script(continuation=Continuation.NONE)).spec, 4096)
    assert (answer_of(problem, f"{asked.head}```python\n{code}\n{end}") or "").strip() == code


@pytest.mark.parametrize("cut", ["so \\boxed{3", "so \\boxed{", "so \\boxed{3}. Wait", "\\[ x = "])
def test_the_number_in_the_last_box_counts(cut: str) -> None:
    problem = Problem.from_text(QUESTION, task="math")
    assert answer_of(problem, force(problem, cut, FakeModel().spec, 4096).head + "391}") == "391"


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
    with pytest.raises(UsageError, match=r"a positive number of tokens, not 0$"):
        make_strategy("budget-forcing:0")
    for wrong in ("x", "", "-5", "1.5", "3 4"):
        with pytest.raises(UsageError, match=f"^budget-forcing takes a number of tokens, as in .*:300, not '{wrong}'$"):
            make_strategy(f"budget-forcing:{wrong}")
