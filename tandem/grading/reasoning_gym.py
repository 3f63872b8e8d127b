"""The grader of reasoning-gym's problems: the package's own scorer, given the row in the problem's metadata.

Some of its scorers evaluate the answer as Python or by sympy, and an answer is hostile text. So all of them run in a
process of their own that is ended at the deadline, and those that evaluate get only what is a literal or plain algebra.
"""

from __future__ import annotations

import ast
import asyncio
import atexit
import re
import threading
from importlib.util import find_spec
from typing import TYPE_CHECKING

from tandem.boxed import last_boxed
from tandem.errors import MissingPackageError
from tandem.grading.worker_process import WorkerProcess
from tandem.thinking import after_thinking
from tandem.types import Problem

if TYPE_CHECKING:
    from tandem.grading.graders import Grading

LONGEST = 20_000  # characters of an answer
_READS_LITERALS = {"string_insertion", "spiral_matrix", "binary_matrix", "n_queens"}
_READS_ALGEBRA = {
    *("countdown", "puzzle24", "simple_integration", "intermediate_integration", "polynomial_multiplication"),
}
_TAGGED = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_FUNCTIONS = {"sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "exp", "log", "ln", "sqrt", "pi"}
_ALGEBRA = re.compile(r"(?:[A-Za-z]+|\d+(?:\.\d*)?|\.\d+|[-+*/^(),=\s])*")  # no names with _, no attributes, no quotes


async def grade_reasoning_gym(problem: Problem, text: str, grading: Grading) -> bool | None:
    """Whether the package's scorer gives the answer in `text` full marks: what stands in <answer> tags, else in a box,
    else all of it.

    None: the problem does not come from reasoning-gym. An answer whose scoring takes more than the deadline of
    computing is wrong. Raises MissingPackageError without the package, TandemError if its process cannot start.
    """
    task, entry = problem.metadata.get("subject"), problem.metadata.get("entry")
    if task is None or entry is None:
        return None
    if find_spec("reasoning_gym") is None:
        raise MissingPackageError("grading reasoning-gym's problems", "reasoning-gym")
    seen = after_thinking(text)
    tagged = _TAGGED.findall(seen)
    answer = str(tagged[-1] if tagged else last_boxed(seen) or seen).strip()
    if not answer or len(answer) > LONGEST or not _harmless(task, answer):
        return False
    return await asyncio.to_thread(_right, {"task": task, "entry": entry, "answer": answer}, grading.deadline)


def _harmless(task: str, answer: str) -> bool:
    """Whether this answer is safe for a scorer that evaluates it."""
    if task in _READS_LITERALS:
        try:
            tree = ast.parse(answer, mode="eval")
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return True  # it is no Python for the scorer either, which then reads it as text
        try:
            ast.literal_eval(tree)
        except (ValueError, TypeError, RecursionError, MemoryError):
            return isinstance(tree.body, ast.Name)  # one bare word
        return True
    if task in _READS_ALGEBRA:
        words = re.findall(r"[A-Za-z]+", answer)
        return _ALGEBRA.fullmatch(answer) is not None and all(len(w) == 1 or w in _FUNCTIONS for w in words)
    return True


_worker = WorkerProcess("tandem.grading.reasoning_gym_worker", "reasoning-gym's scorer", "reasoning-gym")
_turn = threading.Lock()
atexit.register(_worker.stop)


def _right(job: dict[str, object], deadline: float) -> bool:
    with _turn:
        reply = _worker.ask(job, deadline)
    return bool(reply and reply["right"])
