"""The process in which reasoning-gym's scorers run (see `tandem.grading.worker_loop`)."""

from __future__ import annotations

import ast
import importlib
from functools import cache
from typing import Any

from tandem.grading.worker_loop import serve


def main() -> None:
    def right(job: dict[str, Any]) -> bool:
        return score(job["task"], job["entry"], job["answer"]) >= 1.0

    serve(lambda: importlib.import_module("reasoning_gym"), "right", right)


def score(task: str, entry: str, answer: str) -> float:
    """Return the package's mark, from 0 to 1, for an answer to the row that `entry` (a Python literal) holds."""
    return float(_maker(task).score_answer(answer, ast.literal_eval(entry)))


@cache
def _maker(task: str) -> Any:
    from reasoning_gym.factory import create_dataset

    return create_dataset(task, size=1, seed=0)


if __name__ == "__main__":
    main()
