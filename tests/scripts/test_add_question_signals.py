"""The script that adds a question's counts to older tables: it adds them, and changes nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from synthetic import manifest, table

from tandem.evaluation.collection import export
from tandem.evaluation.tables import read_collection

SCRIPT = Path(__file__).parents[2] / "scripts" / "add_question_signals.py"
TEXT = "Ann has 3 apples. Bob has 4. How many have they?"


def run(folder: Path, questions: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), str(folder), "--dataset", str(questions)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return read_collection(folder / "table.jsonl.gz")[0]


def test_counts_are_added_and_nothing_else(tmp_path: Path) -> None:
    rows = table(3)
    for row in rows:
        row.get("signals", {}).pop("question", None)  # as in tables of before
    export(rows, tmp_path / "table.jsonl.gz")
    (tmp_path / "collection.json").write_text(json.dumps(manifest()))
    before, questions = rows_of(tmp_path), tmp_path / "questions.jsonl"
    lines = [{"id": f"made-{n}", "problem": TEXT, "answer": "7"} for n in range(2)]
    questions.write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = run(tmp_path, questions)
    assert "8 rows have got" in done.stdout and "1 problems are in none of the data sets, made-2" in done.stderr
    after = rows_of(tmp_path)
    own = [row["signals"].pop("question") for row in after if "question" in row.get("signals", {})]
    assert after == before and len(own) == 8
    assert [round(own[0][name], 3) for name in ("question_numbers", "question_sentences")] == [1.099, 1.386]
    assert "log_question_tokens" in own[0]
    run(tmp_path, questions)
    assert sum("question" in row.get("signals", {}) for row in rows_of(tmp_path)) == 8
