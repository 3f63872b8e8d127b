"""The experiment scripts: right bash, and one command from nothing to the figures, here on fake models."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from commands import script

SCRIPTS = Path(__file__).parents[2] / "scripts"
EXPERIMENTS = sorted(SCRIPTS.glob("exp_*.sh"))

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="bash")


def test_there_is_one_for_each_published_pair_and_set() -> None:
    names = {f"exp_{pair}_{test}.sh" for pair in ("homo", "hetero") for test in ("math", "humaneval")}
    assert {path.name for path in EXPERIMENTS} == names
    assert all(os.access(path, os.X_OK) for path in EXPERIMENTS)


@pytest.mark.parametrize("path", [*EXPERIMENTS, SCRIPTS / "experiment.sh"], ids=lambda path: path.name)
def test_it_is_bash(path: Path) -> None:
    subprocess.run(["bash", "-n", str(path)], check=True)


def said_by(path: Path, tmp_path: Path, **variables: str) -> list[list[str]]:
    """Return the commands that an experiment gives, each as its words."""
    (tmp_path / "spy").write_text('#!/usr/bin/env bash\nprintf "%s\\n" "$(printf "%s\\037" "$@")" >> "$SPY"\n')
    (tmp_path / "spy").chmod(0o755)
    spied = tmp_path / "said"
    known = {"PATH": os.environ["PATH"], "TANDEM": str(tmp_path / "spy"), "SPY": str(spied), "OUT": str(tmp_path / "o")}
    subprocess.run([str(path)], env=known | variables, check=True)
    return [line.rstrip("\037").split("\037") for line in spied.read_text().splitlines()]


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.name)
def test_its_commands_are_those_of_the_package(path: Path, tmp_path: Path) -> None:
    """Every option that it gives is one that the command takes; local models have their GPUs, others none."""
    from tandem.cli import cli

    commands = said_by(path, tmp_path)
    assert [words[0] for words in commands] == ["collect", "collect", "train", "train"]
    for words in commands:
        command = cli.get_command(None, words[0])  # type: ignore[arg-type]
        assert command is not None
        command.make_context(words[0], words[1:])  # raises for what it does not know
    collected = commands[0]
    assert ("--mentor-gpus" in collected) == ("homo" in path.name) and "--intern-gpus" in collected
    given = said_by(path, tmp_path, MENTOR_ENDPOINT="http://a/v1", INTERN_ENDPOINT="http://b/v1,http://c/v1")[-4]
    assert not {"--mentor-gpus", "--intern-gpus"} & set(given) and "http://b/v1,http://c/v1" in given


@pytest.mark.slow
def test_one_command_leads_from_nothing_to_the_figures(tmp_path: Path) -> None:
    rows = [
        {"id": f"{part}-{i}", "problem": f"What is {i}?", "answer": str(i if i % 3 else i + 1)}
        for part in ("train", "test")
        for i in range(120)
    ]
    for part in ("train", "test"):
        own = [row for row in rows if str(row["id"]).startswith(part)]
        (tmp_path / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in own))
    model = script(tmp_path / "model.json")
    variables = {
        **{"MENTOR": model, "INTERN": "fake", "MENTOR_TYPE": "auto", "LIMIT": "60", "TEST_LIMIT": "45"},
        **{"TRAIN": str(tmp_path / "train.jsonl"), "TEST": str(tmp_path / "test.jsonl"), "TRAIN_SPLIT": ""},
        **{"OUT": str(tmp_path / "out"), "WORKERS": "2", "EFFORT": "none,low=10,medium=30,answer"},
        "TANDEM": f"{sys.executable} -m tandem",
    }
    path = SCRIPTS / "exp_homo_math.sh"
    ended = subprocess.run(
        [str(path)], env=os.environ | variables, check=False, capture_output=True, text=True, timeout=550
    )
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "out" / "classifier" / "card.json").is_file()
    assert "chord" in (tmp_path / "out" / "math.md").read_text()
