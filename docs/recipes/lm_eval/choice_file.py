"""The data of choice_local.yaml: a JSONL file with `question`, `choices` and `answer`, the index of the right one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets


def load(choice_file: str | None = None, **_: Any) -> dict[str, datasets.Dataset]:
    """Return the split `test`. lm_eval also passes everything else that it knows about the task and the model."""
    path = Path(choice_file).expanduser() if choice_file else Path(__file__).with_name("choice_questions.jsonl")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return {"test": datasets.Dataset.from_list(rows)}
