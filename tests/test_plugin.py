"""A package of somebody else's adds data sets and a grader; it is installed as pip would, and used from outside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PACKAGE = Path(__file__).with_name("plugin_package")


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """Lay the package out as an installation does: its source on the path, beside it what pyproject.toml declares."""
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    site = tmp_path / "site"
    info = site / "tandem_riddles-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = project["entry-points"].items()
    lines = [line for group, names in groups for line in (f"[{group}]", *(f"{n} = {t}" for n, t in names.items()))]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    (site / "tandem_riddles").symlink_to(PACKAGE / "src" / "tandem_riddles")
    return site


def tandem(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(site), "TANDEM_HOME": str(site.parent / "home"), "COLUMNS": "120"}
    command = [sys.executable, "-m", "tandem", *arguments]
    return subprocess.run(
        command, env=environment, cwd=site.parent, capture_output=True, text=True, timeout=120, check=False
    )


def run(site: Path, dataset: str, answer: str) -> dict[str, bool | None]:
    """Run a data set whose every answer is this text; return what was found right."""
    (site.parent / "script.json").write_text(json.dumps({"rules": [{"text": answer}]}))
    fakes = ("--mentor", "fake:script.json", "--intern", "fake:script.json", "--strategy", "intern-only")
    done = tandem(site, "run", *fakes, "--dataset", dataset, "--out", "out", "--json")
    assert done.returncode == 0, done.stderr
    records = map(json.loads, (site.parent / "out" / "records.jsonl").read_text().splitlines())
    return {record["problem"]: record["correct"] for record in records}


def test_a_data_set_and_a_grader(installed: Path) -> None:
    assert run(installed, "riddles", "12345") == {"riddle-0": False, "riddle-1": True, "riddle-2": False}


def test_a_card_that_ships_its_file(installed: Path) -> None:
    assert run(installed, "sums", "The answer is 5.") == {"sums-test-00001": False, "sums-test-00002": True}


def test_they_are_listed_and_shown(installed: Path) -> None:
    listed = json.loads(tandem(installed, "datasets", "list", "--json").stdout)
    rows = {row["name"]: row for row in listed}
    assert rows["riddles"]["title"].startswith("Riddles whose answer")
    assert rows["sums"]["splits"]["test"]["file"].endswith("sums.jsonl")
    shown = tandem(installed, "datasets", "show", "riddles", "--split", "hard")
    assert "problems     3" in shown.stdout and "Riddle 0 of the hard ones?" in shown.stdout
    assert "What is 1+1?" in tandem(installed, "datasets", "show", "sums").stdout


def test_their_faults_are_one_line(installed: Path) -> None:
    done = tandem(installed, "datasets", "show", "riddles", "--split", "medium")
    assert (done.returncode, done.stderr) == (2, "tandem: riddles has the splits easy and hard, not 'medium'\n")
    done = tandem(installed, "datasets", "show", "ridles")
    assert done.returncode == 2 and "Did you mean riddles?" in done.stderr


def test_a_broken_one_hides_no_other(installed: Path) -> None:
    entries = installed / "tandem_riddles-1.0.dist-info" / "entry_points.txt"
    entries.write_text("[tandem.datasets]\nbroken = nowhere:none\nnumber = math:pi\nraises = json:loads\n")
    listed = tandem(installed, "datasets", "list", "--json")
    rows = {row["name"]: row for row in json.loads(listed.stdout)}
    assert "cannot be imported" in rows["broken"]["title"] and rows["starter"]["splits"]["test"]["file"]
    for name, complaint in (
        ("broken", "data set 'broken' ('nowhere:none') cannot be imported"),
        ("number", "data set 'number': its entry point must be a Card or a function, not float"),
        ("raises", "data set 'raises' failed in its plugin (TypeError: "),
    ):
        done = tandem(installed, "datasets", "show", name)
        assert done.returncode == 1 and complaint in done.stderr and done.stderr.count("\n") == 1
