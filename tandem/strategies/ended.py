"""Whether a text holds its final answer, for methods in which a model writes piece by piece."""

from __future__ import annotations

from tandem.boxed import last_boxed
from tandem.grading.answer_spans import after_thinking
from tandem.types import TaskKind


def has_answer(task: TaskKind, text: str) -> bool:
    """Whether `text` states its answer where the prompt asks for it: in a box, or in a code fence that is closed.

    Stricter than what a grader reads out of a whole text, which takes a last number too. Thinking does not count, and
    a `general` answer has no such place.
    """
    after = after_thinking(text)
    if task == "code":
        fences = sum(line.lstrip().startswith("```") for line in after.splitlines())
        return fences > 0 and fences % 2 == 0
    return task != "general" and last_boxed(after) is not None
