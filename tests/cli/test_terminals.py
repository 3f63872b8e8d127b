"""What a terminal of 80 columns, a pipe and one without colours are shown: tables that fit, results alone, no codes."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
from pathlib import Path

import pytest
from commands import FAKES, Cli, dataset

CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
COLOURS = re.compile(r"\x1b\[[0-9;]*(3[0-7]|9[0-7]|38;[0-9;]+)[0-9;]*m")
PAIR = "qwen2.5-coder-1.5b+qwen2.5-coder-0.5b"


@pytest.fixture
def made(cli: Cli, tmp_path: Path) -> None:
    """Make a run and a comparison."""
    data = dataset(tmp_path / "own.jsonl", 6)
    assert cli("run", *FAKES, "--dataset", data, "--out", "run").code == 0
    names = "tandem,cascade,fixed:low"
    assert cli("compare", *FAKES, "--dataset", data, "--strategies", names, "--out", "compared").code == 0


TABLES = [
    ("strategies",),
    ("classifiers", "list"),
    ("classifiers", "show", PAIR),
    ("datasets", "list"),
    ("models", "list"),
    ("blueprint", "show"),
    ("doctor",),
    ("run", *FAKES, "--dataset", "own.jsonl", "--estimate"),
    ("compare", *FAKES, "--dataset", "own.jsonl", "--estimate"),
    ("report", "run"),
    ("report", "compared"),
    ("sweep", "compared"),
]


@pytest.mark.parametrize("columns", ["80", pytest.param("120", marks=pytest.mark.slow)])
def test_a_table_fits_the_terminal(cli: Cli, made: None, columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    for arguments in TABLES:
        told = cli(*arguments).out
        rows = [line for line in told.splitlines() if re.search("[│┃━─]|  .*  ", line)]
        prose = ("- ", "note:", "On these", "tandem:", "cascade:", "    tandem, ")
        wide = [row for row in rows if len(row) > int(columns) and not row.startswith(prose)]
        assert not wide, (arguments, wide[0])


def test_names_and_figures_are_whole_at_80_columns(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert PAIR in cli("classifiers", "list").out.splitlines()
    told = cli("classifiers", "show", PAIR).out
    for whole in ("accuracy", "+0.019 [-0.002, +0.043]", "device seconds", "cost:0.8"):
        assert whole in told
    names = cli("strategies").out
    for whole in ("budget-forcing[:…]", "classifier", "predictor", "fixed:…"):
        assert whole in names


def test_levels_stand_in_the_order_of_a_ladder(cli: Cli, tmp_path: Path) -> None:
    told = cli("classifiers", "show", PAIR).out.partition("Sufficiency, out of fold")[2]
    places = [told.index(f" {level} ") for level in ("question", "none", "low", "medium", "high")]
    assert places == sorted(places)
    data = dataset(tmp_path / "own.jsonl", 12)
    asked = ("--strategy", "random-mix:0.5", "--seed", "3", "--json")
    levels = json.loads(cli("run", *FAKES, "--dataset", data, *asked).out)["levels"]
    assert list(levels) == ["none", "answer"]


# One of a thing


def test_one_is_not_several(cli: Cli, tmp_path: Path) -> None:
    data = dataset(tmp_path / "own.jsonl", 1)
    asked = ("--dataset", data)
    said = cli("run", *FAKES, *asked, "--out", "one").err + cli("run", *FAKES, *asked, "--estimate").out
    said += cli("compare", *FAKES, *asked, "--strategies", "fixed:low", "--out", "compared").out
    said += cli("sweep", "compared").out + cli("runs", "list").out + cli("grade", "one").out
    said += cli("compare", *FAKES, *asked, "--estimate").out + cli("report", "one").out
    assert "1 problem" in said and "1 record" in said
    assert not re.search(r"(?<![\d.,])1 (problems|records|rows|strategies|calls)\b", said)


# Streams


def process(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tandem", *arguments]
    found = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    return subprocess.run(command, env=found | environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.slow
def test_a_pipe_gets_results_alone_and_no_codes(tmp_path: Path) -> None:
    data = dataset(tmp_path / "own.jsonl", 3)
    for arguments in (
        ("run", *FAKES, "--dataset", data, "--out", "run", "--json"),
        ("report", "run", "--json"),
        ("grade", "run", "--json"),
        ("runs", "list", "--json"),
        ("runs", "show", "run", "--json"),
        ("solve", *FAKES, "What is 2+2?", "--json"),
        ("compare", *FAKES, "--dataset", data, "--strategies", "cascade", "--out", "compared", "--json"),
        ("sweep", "compared", "--json"),
        ("models", "list", "--json"),
        ("datasets", "list", "--json"),
        ("strategies", "--json"),
        ("classifiers", "list", "--json"),
        ("doctor", "--json"),
        ("collect", *FAKES, "--dataset", data, "--out", "collected", "--json"),
    ):
        done = process(*arguments)
        assert done.returncode in (0, 1), done.stderr
        json.loads(done.stdout)
        assert "\x1b" not in done.stdout + done.stderr
    shown = process("report", "run")
    assert "accuracy" in shown.stdout and "written:" in shown.stderr and "written:" not in shown.stdout
    assert "\x1b" not in shown.stdout + shown.stderr


def in_a_terminal(*arguments: str, **environment: str) -> str:
    """Return what a command writes to a terminal, on either stream."""
    master, slave = pty.openpty()
    found = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    found |= {"TERM": "xterm-256color"} | environment
    child = subprocess.Popen(
        [sys.executable, "-m", "tandem", *arguments], stdin=slave, stdout=slave, stderr=slave, env=found
    )
    os.close(slave)
    said = b""
    while True:
        ready, _, _ = select.select([master], [], [], 60)
        try:
            part = os.read(master, 1 << 16) if ready else b""
        except OSError:  # the other end is closed
            part = b""
        if not part:
            break
        said += part
    os.close(master)
    assert child.wait(60) == 0, said
    return said.decode()


@pytest.mark.slow
def test_no_color_is_respected_in_a_terminal(tmp_path: Path) -> None:
    data = dataset(tmp_path / "own.jsonl", 3)
    coloured = in_a_terminal("run", *FAKES, "--dataset", data, "--out", "one")
    plain = in_a_terminal("run", *FAKES, "--dataset", data, "--out", "two", NO_COLOR="1")
    assert COLOURS.search(coloured) and not COLOURS.search(plain)
    assert "3/3" in CODES.sub("", plain)
    solved = in_a_terminal("solve", *FAKES, "What is 2+2?", NO_COLOR="1")
    assert "answer:" in solved and not COLOURS.search(solved)
