"""Code is right when it passes its problem's tests in the sandbox."""

from __future__ import annotations

from tandem.grading.extract import extract_answer
from tandem.grading.sandbox import Sandbox, Submission
from tandem.types import Problem


async def grade_code(problem: Problem, text: str, sandbox: Sandbox) -> bool:
    """Whether the program in `text` passes the problem's tests; a text without a program is wrong.

    The program may be a whole definition, or only the body that continues the prelude's last one. Raises ValueError
    for a problem without tests, TandemError if the sandbox does not start.
    """
    if problem.tests is None:
        raise ValueError(f"{problem.id} has no tests")
    program = extract_answer("code", text)
    if program is None:
        return False
    tests = problem.tests
    verdict = await sandbox.run(Submission(program, tests.code, tests.entry_point, tests.prelude))
    return verdict.passed
