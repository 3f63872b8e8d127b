"""The process in which reasoning-gym generates problems: task, size and seed in, one JSON object per line out."""

from __future__ import annotations

import ast
import json
import os
import sys
from typing import Any


def main() -> None:
    """Write a line {"question", "answer", "entry"} per problem; for an unknown task one line {"tasks": [...]}."""
    task, size, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    lines = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # a library's prints must not look like a problem
    from reasoning_gym.factory import DATASETS, create_dataset

    if task not in DATASETS or task == "composite":  # composite only mixes the others
        lines.write(json.dumps({"tasks": sorted(set(DATASETS) - {"composite"})}) + "\n")
    else:
        made = create_dataset(task, size=size, seed=seed)
        for number in range(size):
            row = made[number]
            answer = None if row["answer"] is None else str(row["answer"])
            lines.write(json.dumps({"question": row["question"], "answer": answer, "entry": _literal(row)}) + "\n")
    lines.close()


def _literal(row: dict[str, Any]) -> str:
    """Return the scorer's input (answer, metadata) as a Python literal, which keeps tuples and int keys."""
    entry = {key: value for key, value in row.items() if key != "question"}
    try:
        if ast.literal_eval(text := repr(entry)) == entry:
            return text
    except (ValueError, SyntaxError):
        pass
    return repr(json.loads(json.dumps(entry, default=str)))  # a few have fractions and objects, which no scorer reads


if __name__ == "__main__":
    main()
