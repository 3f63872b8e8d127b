"""Right or wrong: the answer that a text gives against the problem's reference."""

from __future__ import annotations

from tandem.grading.extract import extract_answer
from tandem.grading.pool import formulas_equal
from tandem.grading.spelling import quick_equal, spell
from tandem.types import Problem

DEADLINE = 5.0  # seconds of computing for the algebra of one answer
MAX_FORMULA = 2000  # characters; what is longer is compared as text only


async def grade(problem: Problem, text: str, *, deadline: float = DEADLINE) -> bool | None:
    """Whether the answer that `text` gives (a whole solution, or the bare answer) is the reference.

    None: there is no reference, or no grader for this kind of problem. A text without an answer is wrong, and so is
    one whose algebra takes more than `deadline` seconds of computing. Raises TandemError if the math worker cannot
    start.
    """
    if problem.reference is None or problem.task == "code":
        return None
    answer = extract_answer(problem.task, text)
    if answer is None:
        return False
    if problem.task == "math":
        return await _math(problem.reference, answer, deadline)
    if problem.task == "choice":
        return answer == extract_answer("choice", problem.reference)
    return _words(answer) == _words(problem.reference)


async def _math(reference: str, answer: str, deadline: float) -> bool:
    if max(len(reference), len(answer)) > MAX_FORMULA:
        return answer.strip() == reference.strip()
    left, right = spell(reference), spell(answer)
    verdict = quick_equal(left, right)
    return await formulas_equal(left, right, deadline) if verdict is None else verdict


def _words(text: str) -> str:
    return " ".join(text.split()).strip(" .").casefold()
