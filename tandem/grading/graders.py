"""Graders: each compares a text's answer with the problem's reference or tests.

A grader is an async function `(problem, text, grading) -> bool | None`. A package adds its own by an entry point in
the group `tandem.graders`; a problem names it (`Problem.grader`), else it gets the usual one of its kind.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tandem.errors import TandemError, UsageError
from tandem.grading.answer_spans import answer_spans
from tandem.grading.choices import chosen_letter, normalise_words, same_choice
from tandem.grading.extract import extract_answer, extract_hashes, stated_answer
from tandem.grading.formulas import same_answer
from tandem.grading.numbers import only_number
from tandem.grading.programs import called_names, extract_program
from tandem.grading.short_answer import same_short_answer
from tandem.registry import Registry
from tandem.thinking import after_thinking
from tandem.types import Problem

if TYPE_CHECKING:
    from tandem.grading.sandbox import Kind, Sandbox

DEADLINE = 5.0  # seconds of computing for the algebra of one answer

GRADERS = Registry(
    "grader",
    "graders",
    {name: f"tandem.grading.graders:grade_{name}" for name in ("math", "gsm8k", "choice", "exact", "words", "code")}
    | {"reasoning-gym": "tandem.grading.reasoning_gym:grade_reasoning_gym"},
)
_USUAL = {"math": "math", "code": "code", "choice": "choice", "general": "words"}


@dataclass(frozen=True, slots=True)
class Grading:
    """A grader's resources: seconds of computing, and the sandbox for running code (None: not allowed)."""

    deadline: float = DEADLINE
    sandbox: Sandbox | None = None


def sandbox_for(problems: Iterable[Problem], *, allowed: bool, kind: Kind = "bwrap") -> Sandbox | None:
    """Return a sandbox where a problem has tests, None where none has.

    Raises UsageError where running code is not `allowed`, TandemError where this machine has no sandbox of the `kind`.
    """
    from tandem.grading.sandbox import open_sandbox

    code = next((problem for problem in problems if problem.tests is not None), None)
    if code is None:
        return None
    if not allowed:
        raise UsageError(
            f"{code.id} is graded by running the models' code: allow that with --allow-code-execution"
            " (or let `tandem run --no-grade` solve now and `tandem grade` grade later)"
        )
    return open_sandbox(kind)


Grader = Callable[[Problem, str, Grading], Awaitable[bool | None]]


async def grade(
    problem: Problem, text: str, *, deadline: float = DEADLINE, sandbox: Sandbox | None = None
) -> bool | None:
    """Whether the answer that `text` gives (a whole solution, or the bare answer) is right.

    None: the problem has no reference (or tests), or grading it means running code and there is no `sandbox`; that
    holds for an empty text too, which is wrong otherwise. A text without an answer is wrong, and so is one whose
    algebra takes more than `deadline` seconds of computing. Raises UsageError for an unknown grader, TandemError where
    a grader cannot work.
    """
    name = grader_of(problem)
    grader: Grader = GRADERS.get(name)
    try:
        return await grader(problem, text, Grading(deadline, sandbox))
    except TandemError:
        raise
    except Exception as error:  # a plugin's grader: one line with its name, not a traceback
        raise TandemError(f"the grader '{name}' failed on {problem.id}: {type(error).__name__}: {error}") from error


def grader_of(problem: Problem) -> str:
    return problem.grader or _USUAL[problem.task]


def answer_of(problem: Problem, text: str) -> str | None:
    """Return the answer in `text`, as the problem's grader extracts it; None if there is none."""
    name = grader_of(problem)
    if name == "gsm8k":
        return extract_hashes(text)
    if name == "exact" and (seen := after_thinking(text).strip()):
        letter = chosen_letter(seen) if _is_option(problem) else None
        return letter or next((span for span in answer_spans(seen) if span), None)
    return extract_answer(problem.task, text)


async def grade_math(problem: Problem, text: str, grading: Grading) -> bool | None:
    return await _formula(problem, extract_answer("math", text), grading)


async def grade_gsm8k(problem: Problem, text: str, grading: Grading) -> bool | None:
    """Grade a number in GSM8K's form (`#### 72`), with its currency, thousands commas and unit; any other as math."""
    answer = extract_hashes(text)
    return await _formula(problem, only_number(answer) if answer else None, grading)


async def grade_choice(problem: Problem, text: str, grading: Grading) -> bool | None:
    """Grade a letter, or the words of an option that the question lists."""
    if problem.reference is None:
        return None
    seen = after_thinking(text).strip()
    return bool(seen) and same_choice(problem.question, problem.reference, seen)


async def grade_exact(problem: Problem, text: str, grading: Grading) -> bool | None:
    """Grade a short answer: a letter, True or no, a number, brackets, a list of words in order, or words."""
    if problem.reference is None:
        return None
    if re.fullmatch(r"\([A-Z]\)", problem.reference) or _is_option(problem):
        return await grade_choice(problem, text, grading)
    seen = after_thinking(text).strip()
    return bool(seen) and same_short_answer(problem.reference, seen)


async def grade_words(problem: Problem, text: str, grading: Grading) -> bool | None:
    """Grade words: what is boxed, else all the text, without regard to case, spacing and a final full stop."""
    if problem.reference is None:
        return None
    answer = extract_answer("general", text)
    return answer is not None and normalise_words(answer) == normalise_words(problem.reference)


async def grade_code(problem: Problem, text: str, grading: Grading) -> bool | None:
    """Run the program in `text`, or the body that continues the prelude's last definition, against the tests."""
    if problem.tests is None or grading.sandbox is None:
        return None
    tests = problem.tests
    program = extract_program(after_thinking(text), called_names(tests.code, tests.entry_point))
    if program is None:
        return False
    from tandem.grading.sandbox import Submission

    verdict = await grading.sandbox.run(Submission(program, tests.code, tests.entry_point, tests.prelude))
    return verdict.passed


async def _formula(problem: Problem, answer: str | None, grading: Grading) -> bool | None:
    if problem.reference is None:
        return None
    return answer is not None and await same_answer(stated_answer(problem.reference), answer, grading.deadline)


def _is_option(problem: Problem) -> bool:
    return "Options:" in problem.question and re.search(r"^\s*\([A-Z]\)", problem.question, re.MULTILINE) is not None
