"""Progress as it is seen: few plain lines without a terminal, a bar with its figures in one."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from tandem.cli import live
from tandem.cli.live import RunView


def record(
    n: int, *, correct: bool | None = True, error: str | None = None, usd: float | None = None
) -> dict[str, Any]:
    entries = [{"role": "mentor", "usage": {"completion": 10 * n}, "usd": usd}]
    entries.append({"role": "intern", "usage": {"completion": 7}, "usd": None})
    level = None if error else "low" if n % 2 else "none"
    return {"problem": f"p{n}", "correct": correct, "error": error, "level": level, "ledger": {"entries": entries}}


def test_without_a_terminal_only_the_last_line_of_a_quick_run_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with RunView(4, iter([record(0, usd=0.5), record(1, error="no luck", correct=False)])) as progress:
        progress.status("getting [both] models ready")
        for n in (1, 2):
            progress(record(n, correct=n == 2, usd=0.25))
        progress(record(3, error="no luck again", correct=False))
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "getting [both] models ready",
        "4/4 accuracy 0.500, mentor tokens 15 each, US$ 1.0000, levels none 2 low 1, errors 1",
    ]


def test_a_run_that_stops_says_where(capsys: pytest.CaptureFixture[str]) -> None:
    with RunView(100, []) as progress:
        progress(record(1, correct=None))
        progress.stop()
    line = capsys.readouterr().err
    assert line.startswith("1/100 mentor tokens 10 each, levels low 1, 0:00:") and line.endswith(" left\n")


def test_lines_come_at_most_so_often(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(live, "LINE_SECONDS", 1.0)
    monkeypatch.setattr(live, "time", SimpleNamespace(monotonic=lambda: now))
    with RunView(10**9, []) as progress:
        for _ in range(12):
            now += 0.25
            progress(record(2))
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition("/")[0] for line in lines] == ["5", "10", "12"]


def test_the_rolling_accuracy_is_that_of_the_last_fifty(capsys: pytest.CaptureFixture[str]) -> None:
    with RunView(100, (record(n, correct=False) for n in range(60))) as progress:
        for n in range(40):
            progress(record(n))
    assert "100/100 accuracy 0.400 (last 50: 0.80)" in capsys.readouterr().err


def test_in_a_terminal_bar_and_figures_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()

    def console(*, stderr: bool = False) -> Console:
        return Console(file=screen if stderr else io.StringIO(), force_terminal=stderr, width=80)

    monkeypatch.setattr(live, "console", console)
    with RunView(2, []) as progress:
        progress(record(1))
        progress(record(2, correct=False))
    drawn = screen.getvalue()
    assert "2/2" in drawn and "accuracy 0.500" in drawn and "levels none 1 low 1" in drawn
