"""What a model thought is shown apart from its answer: dim in a terminal, folded on the report page."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

from commands import Cli, dataset, script
from rich.console import Console

from tandem.cli.demo_stage import Block, Stage
from tandem.cli.demo_view import DemoView
from tandem.cli.watch import Watcher
from tandem.reports.page.records import detail
from tandem.types import AnswerDelta, Decision, ThinkingDelta

TEXT = "<think> perhaps \\boxed{1} </think>\n\nIt is \\boxed{0}"
DIM, PLAIN = "\x1b[2m", "\x1b[0m"


def terminal() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=100, height=40, color_system="standard")


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_thought_is_dim_and_the_answer_is_not() -> None:
    console = terminal()
    watcher = Watcher(console)
    for event in (Decision("none", "stop"), ThinkingDelta("per"), ThinkingDelta("haps"), AnswerDelta("It is 0")):
        watcher.show(event)
    seen = written(console)
    assert seen.count("[thinking]") == 1 and f"{DIM}haps{PLAIN}" in seen
    assert seen.endswith("It is 0") and DIM not in seen[seen.index("haps") + 4 :]


def test_the_demo_s_picture_has_it_dim() -> None:
    stage = Stage("tandem", {"mentor": "big", "intern": "small"}, "What?")
    stage.blocks.append(Block("intern", "answer", text=TEXT, tokens=9, closed=True))
    console = terminal()
    console.print(DemoView(stage, console, whole=True))
    seen = written(console)
    assert "think>" not in seen
    thought = next(line for line in seen.splitlines() if "perhaps" in line)
    assert re.search(r"\x1b\[[0-9;]*2;3[0-9;]*m[^\x1b]*perhaps", thought)
    answer = next(line for line in seen.splitlines() if "It is" in line)
    assert not re.search(r"\x1b\[2[0-9;]*m[^\x1b]*It is", answer)


def test_solve_and_a_replay_show_it_once_without_its_tags(cli: Cli, tmp_path: Path) -> None:
    intern = script(tmp_path / "thinks.json", rules=[{"text": TEXT}])
    pair = ("--mentor", "fake", "--intern", intern, "--strategy", "intern-only")
    solved = cli("solve", *pair, "What is 0?")
    assert solved.code == 0 and "think>" not in solved.out and solved.out.count("perhaps") == 1
    assert "answer: 0" in solved.out
    assert json.loads(cli("solve", *pair, "--json", "What is 0?").out)["text"] == TEXT
    assert cli("run", *pair, "--dataset", dataset(tmp_path / "own.jsonl", 1), "--out", "done").code == 0
    again = cli("demo", "--replay", "done")
    assert again.code == 0 and "think>" not in again.out and again.out.count("perhaps") == 1


def test_the_report_page_has_it_apart() -> None:
    kept: list[Any] = []

    def keep(text: Any) -> int:
        kept.append(text)
        return len(kept) - 1

    found = detail({"text": TEXT, "ledger": {"entries": []}, "answered_by": "intern"}, keep)
    assert kept[found["thinking"]].strip() == "perhaps \\boxed{1}" and kept[found["text"]] == "It is \\boxed{0}"
    cut = detail({"text": "<think> perhaps", "ledger": {"entries": []}}, keep)
    assert kept[cut["thinking"]] == "perhaps" and "text" not in cut
