"""The data of gsm8k_local.yaml: a JSONL file with `question` and `answer`, gzipped or not, without the hub."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import datasets


def load(data_file: str | None = None, **_: Any) -> dict[str, datasets.Dataset]:
    """Return the split `test`. Raises ValueError if no file was given.

    `data_file` comes from `--metadata '{"data_file": "..."}'`, else from the environment variable GSM8K_FILE;
    lm_eval also passes everything else that it knows about the task and the model.
    """
    name = data_file or os.environ.get("GSM8K_FILE")
    if not name:
        raise ValueError('name the data: --metadata \'{"data_file": "gsm8k_test.jsonl"}\', or GSM8K_FILE')
    path = Path(name).expanduser()
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines if line.strip()]
    kept = [{"question": row["question"], "answer": row["answer"]} for row in rows]
    return {"test": datasets.Dataset.from_list(kept)}
