"""The best of n answers: votes, ties and likelihood, and that nothing is told by the reference."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem.grading.trial import Trial
from tandem.strategies.best_of import Sample, best_of
from tandem.types import CodeTests, Problem, TaskKind

VAGUE = "There is something to be said for either of the two."


class Secretive(Problem):
    """A problem whose reference and tests must not be looked at."""

    def __getattribute__(self, name: str) -> Any:
        assert name not in ("reference", "tests"), f"the best of n looked at the {name}"
        return super().__getattribute__(name)


def problem(task: TaskKind = "math", **more: Any) -> Problem:
    made = Problem.from_text("What is it?\nA) cat\nB) dog", task=task, reference="7")
    tests = CodeTests(code="assert f() == 7")
    return Secretive.model_construct(**(dict(made) | {"tests": tests} | more))


def chosen(one: Problem, *samples: tuple[str, float]) -> int:
    return best_of(one, [Sample(*sample) for sample in samples])[0]


def test_the_answer_of_most_is_taken_though_another_is_likelier() -> None:
    samples = [("so \\boxed{7}", -0.1), ("so \\boxed{40}", -0.9), ("then \\boxed{40}", -0.5)]
    assert chosen(problem(), *samples) == 2  # of those that give it the likeliest
    assert "2 of 3 give this answer" in best_of(problem(), [Sample(*s) for s in samples])[1]


@pytest.mark.parametrize(
    "other", ["\\boxed{0.5}", "\\boxed{\\dfrac12}", "The answer is $\\frac{1}{2}$.", "\\boxed{1/2}"]
)
def test_two_spellings_of_a_value_are_one_answer(other: str) -> None:
    samples = [("\\boxed{3}", -0.1), (other, -0.5), ("\\boxed{\\frac{1}{2}}", -0.6)]
    assert chosen(problem(), *samples) == 1


def test_units_tell_values_apart() -> None:
    samples = [("\\boxed{3}", -0.3), ("\\boxed{5 \\text{ km}}", -0.5), ("\\boxed{5 \\text{ m}}", -0.6)]
    assert chosen(problem(), *samples) == 0


def test_of_a_tie_the_likeliest_is_taken() -> None:
    samples = [("\\boxed{1}", -0.5), ("\\boxed{2}", -0.2), ("\\boxed{3}", -0.4)]
    at, reason = best_of(problem(), [Sample(*s) for s in samples])
    assert at == 1 and "as 2 other answers" in reason
    assert chosen(problem(), ("\\boxed{1}", 0.0), ("\\boxed{2}", 0.0)) == 0  # and of equals the first


def test_a_text_without_an_answer_has_no_vote() -> None:
    samples = [(VAGUE, -0.1), (VAGUE, -0.1), ("\\boxed{4}", -3.0)]
    assert chosen(problem(), *samples) == 2
    at, reason = best_of(problem(), [Sample(VAGUE, -0.4), Sample(VAGUE, -0.2)])
    assert at == 1 and "none of 2 gives an answer" in reason


def test_letters_are_counted_and_not_their_words() -> None:
    samples = [("\\boxed{A}", -0.1), ("I think it is a dog. The answer is (B)", -0.5), ("B", -0.9)]
    assert chosen(problem("choice"), *samples) == 1


def test_a_closed_grader_is_counted_without_regard_to_case() -> None:
    samples = [("\\boxed{no}", -0.1), ("So the answer is Yes.", -0.5), ("\\boxed{yes}", -0.6)]
    assert chosen(problem("general", grader="exact"), *samples) == 1
    assert chosen(problem("math", grader="gsm8k"), ("#### 5", -0.1), ("#### 7", -0.5), ("\\boxed{7}", -0.6)) == 1


@pytest.mark.parametrize("task", ["code", "general"])
@pytest.mark.parametrize("why", ["", "no sandbox to run code in", "the prompt shows no example"])
def test_what_cannot_be_counted_is_told_by_likelihood(task: TaskKind, why: str) -> None:
    code = "```python\ndef f():\n    return 7\n```"
    samples = [Sample(code, -0.5), Sample(code, -0.6), Sample("x = 5", -0.2)]
    at, reason = best_of(problem(task), samples, Trial(why=why) if why else None)
    assert at == 2 and reason == ("the likeliest of 3" + (f" ({why})" if why else ""))


@pytest.mark.parametrize(
    ("passed", "likelihoods", "at", "reason"),
    [
        ((1, 3, 2), (-0.1, -0.9, -0.2), 1, "passes 3 of 3 examples of the prompt"),
        ((3, 3, 2), (-0.5, -0.4, -0.2), 1, "passes 3 of 3 examples of the prompt, as 1 other: the likeliest"),
        ((2, 2, 2), (-0.5, -0.5, -0.5), 0, "passes 2 of 3 examples of the prompt, as 2 others: the likeliest"),
        ((0, 0, 0), (-0.5, -0.5, -0.4), 2, "none of 3 passes an example of the prompt: the likeliest"),
    ],
)
def test_code_is_told_by_the_examples_then_by_likelihood(
    passed: tuple[int, ...], likelihoods: tuple[float, ...], at: int, reason: str
) -> None:
    samples = [Sample("x", likelihood) for likelihood in likelihoods]
    assert best_of(problem("code"), samples, Trial(passed, 3)) == (at, reason)


@given(st.lists(st.tuples(st.integers(0, 4), st.floats(-9, 0)), min_size=1, max_size=5))
def test_no_sample_is_better_than_the_one_that_is_taken(found: list[tuple[int, float]]) -> None:
    samples = [Sample("x", likelihood) for _, likelihood in found]
    at, _ = best_of(problem("code"), samples, Trial(tuple(passed for passed, _ in found), 4))
    assert found[at] == max(found) and found.index(found[at]) == at
