"""`make run`: two problems live, then the three rows that a new user asks about, with their unit and a page."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "first_look.py"


def test_a_first_look_shows_live_problems_and_the_three_rows(tmp_path: Path) -> None:
    words = [sys.executable, str(SCRIPT), "--mentor", "fake", "--intern", "fake", "--limit", "4", "--out", "look"]
    found = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert found.returncode == 0, found.stderr
    live, rows = found.stdout.split("Now 4 problems of starter")
    assert "[tandem] Ada, Bo and Cyra" in live and "[fixed:high]" in live and "Goal:" in live
    for name in ("mentor-only", "intern-only", "tandem"):
        assert re.search(rf"│ {name} ", rows)
    assert re.search(r"Tandem's levels: \w+ \d.*\. Costs are in TFLOPs\.", rows)
    figures = json.loads((tmp_path / "look" / "compare.json").read_text())
    assert [row["name"] for row in figures["strategies"]] == ["mentor-only", "intern-only", "tandem"]
    assert figures["unit"] == "tflops" and all(row["n"] == 4 for row in figures["strategies"])
    assert "<html" in (tmp_path / "look" / "report.html").read_text()


def test_a_wrong_model_is_one_line(tmp_path: Path) -> None:
    words = [sys.executable, str(SCRIPT), "--mentor", "nobody", "--intern", "fake"]
    found = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert found.returncode == 1 and "Traceback" not in found.stderr and "nobody" in found.stderr
    assert not any(tmp_path.iterdir())
