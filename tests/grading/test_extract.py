from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tandem.grading import extract_answer
from tandem.types import TaskKind

MATH = [
    # boxed
    (r"First \boxed{1}, then \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
    (r"So $\boxed{\{1, 2\}}$.", r"\{1, 2\}"),
    (r"\boxed{\left\{ x \right.}", r"\left\{ x \right."),
    (r"\fbox{7} is what we want", "7"),
    (r"our answer is $\boxed 9$.", "9"),
    (r"\boxed {17}", "17"),
    (r"\\boxed{5}", "5"),
    (r"\boxed{\boxed{3}}", "3"),
    (r"\boxed{4} and I write it in \boxed{} as asked", "4"),
    (r"\boxed{12} or rather \boxed{13", "12"),
    (r"The answer is 5. \boxed{6} stands above.", "6"),
    (r"so we get \boxed{12", None),
    (r"I will box it in \boxed{}. The answer is 5.", "5"),
    # thinking
    (r"<think>\boxed{1}</think>It is \boxed{2}.", "2"),
    (r"no opening tag, \boxed{1}</think>\boxed{3}", "3"),
    (r"<think>\boxed{1}", None),
    (r"<think>\boxed{1}</think>", None),
    (r"<think>a</think>\boxed{1}<think>\boxed{2}", None),
    # other forms
    ("3 + 4 = 7\n#### 7", "7"),
    ("#### 1,234", "1,234"),
    ("The answer is 42.", "42"),
    ("So the final answer is: $\\frac{3}{4}$, because 3 < 4.", r"\frac{3}{4}"),
    ("The answer to the question is $x = 5$.", "x = 5"),
    ("**Answer:** 18 dollars", "18 dollars"),
    ("### Final Answer\n\n-3.5", "-3.5"),
    ("The answer is 3.75 because of rounding.", "3.75"),
    ("The answer is Evelyn.", "Evelyn"),
    ("The answer is 12. Let me know if this answer is helpful", "12"),
    ("The answer is 5.\n" + "More and more talk.\n" * 5, None),
    # bare answers
    (r"\frac{1}{2}", r"\frac{1}{2}"),
    ("x = 5", "x = 5"),
    ("5x - 7y + 11z + 4 = 0", "5x - 7y + 11z + 4 = 0"),
    ("2xy + 10x + 20y + 100", "2xy + 10x + 20y + 100"),
    (r"864 \mbox{ inches}^2", r"864 \mbox{ inches}^2"),
    ("18 dollars", "18 dollars"),
    ("Evelyn", "Evelyn"),
    # the last line's formula or number
    ("We add.\nThus she makes $18 every day at the market.", "$18"),
    ("Hence the value is $\\frac{5}{6}$.", r"\frac{5}{6}"),
    ("Therefore the probability is 3/8.", "3/8"),
    ("So 1,250 people came, that is 25% of all.", "25%"),
    ("It went down to -7 degrees", "-7"),
    ("There are 5 apples.\nI hope this helps!", None),
    ("", None),
    ("   \n ", None),
]


@pytest.mark.parametrize(("text", "answer"), MATH)
def test_math_answers(text: str, answer: str | None) -> None:
    assert extract_answer("math", text) == answer


OTHERS: list[tuple[TaskKind, str, str | None]] = [
    ("choice", r"so \boxed{\text{(C)}}", "C"),
    ("choice", r"\boxed{B) 42}", "B"),
    ("choice", "The answer is (D) because A is wrong.", "D"),
    ("choice", "Answer: E", "E"),
    ("choice", "The answer is a dog.\nThe right one is (B).", "B"),
    ("choice", "a", "A"),
    ("choice", "(c).", "C"),
    ("choice", "I cannot tell", None),
    ("general", r"They say \boxed{Paris}", "Paris"),
    ("general", " Paris \n", "Paris"),
    ("general", "<think>hm</think>", None),
]


@pytest.mark.parametrize(("task", "text", "answer"), OTHERS)
def test_answers_of_the_other_kinds(task: TaskKind, text: str, answer: str | None) -> None:
    assert extract_answer(task, text) == answer


PIECES = st.sampled_from(["1", "x", "+", " ", r"\frac", r"\{", r"\}", r"\\", r"\left(", ",", "$", "\n"])
BALANCED = st.recursive(PIECES, lambda inner: st.lists(inner, max_size=4).map(lambda parts: "{" + "".join(parts) + "}"))
CONTENT = st.lists(BALANCED, min_size=1, max_size=6).map("".join).filter(lambda s: s.strip())


@settings(deadline=None, max_examples=60)  # a busy machine is no failure
@given(st.text(alphabet="ab {}$\n0", max_size=40), CONTENT, CONTENT, st.sampled_from([r"\boxed", r"\fbox"]))
def test_whatever_was_boxed_last_is_found(before: str, first: str, last: str, command: str) -> None:
    text = f"{before} \\boxed{{{first} }} so {command}{{{last} }} and that is all"
    assert extract_answer("math", text) == last.strip()


@pytest.mark.parametrize("piece", ["\\", r"\boxed{", "{", "```a\n", "answer is ", "$", "####", "1,", "<think>", "("])
def test_hostile_repetition_takes_no_quadratic_time(piece: str) -> None:
    text = piece * (200_000 // len(piece))
    started = time.process_time()
    for task in ("math", "code", "choice", "general"):
        extract_answer(task, text)  # type: ignore[arg-type]
    assert time.process_time() - started < 20  # seconds; quadratic work on 200,000 characters takes minutes
