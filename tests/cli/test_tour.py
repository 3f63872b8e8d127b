"""`tandem demo` without a model, and the tour of `make run`: what is recorded says so, what is live is counted."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from commands import FAKES, Cli

from tandem.cli.demo_recorded import PLAYED, RECORDED_RUNS, command_of, recorded
from tandem.cli.demo_tour import ANCHORS, DEMO_OPTIONS, PROBLEMS, RECORDED
from tandem.datasets import load_dataset
from tandem.engine import Tandem
from tandem.models.default_pair import DEMO_PAIR
from tandem.runs.manifest import describe_run, incomparable, problems_digest
from tandem.runs.store import RunStore


def tandem(tmp_path: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-m", "tandem", *arguments]
    own = os.environ | {"TANDEM_HOME": str(tmp_path / "cache"), "XDG_CONFIG_HOME": str(tmp_path)} | environment
    return subprocess.run(program, cwd=tmp_path, env=own, capture_output=True, text=True, timeout=300, check=False)


def test_without_a_model_recorded_problems_are_played(tmp_path: Path) -> None:
    done = tandem(tmp_path, "demo")
    assert (done.returncode, done.stderr) == (0, "")
    for number, one in enumerate(PLAYED, start=1):
        assert f"A recorded problem {number} of {len(PLAYED)}: {one.shows}" in done.stdout
    assert done.stdout.count("by the mentor at level answer") == 1
    assert "at level none" in done.stdout and "at level low" in done.stdout and "Goal: " in done.stdout
    assert done.stdout.count("right (the reference: ") == 3 and done.stdout.count("wrong (the reference: ") == 1
    assert "Recorded by: tandem run --mentor qwen2.5-coder-1.5b" in done.stdout and "synthetic" not in done.stdout
    assert "tandem models pull qwen2.5-coder-1.5b qwen2.5-coder-0.5b (1.6 GB to fetch)" in done.stdout
    assert not (tmp_path / "runs").exists()


def test_what_is_recorded_is_of_our_own_problems_and_real() -> None:
    texts = {problem.id: problem.question for problem in load_dataset("starter")}
    for name in [*RECORDED_RUNS, *(f"{RECORDED}/{anchor}" for anchor in ANCHORS)]:
        store = RunStore.open_for_reading(recorded(name))
        run = store.manifest()
        assert not run["synthetic"] and run["run"]["dataset"]["name"] == "starter"
        assert (run["run"]["mentor"]["name"], run["run"]["intern"]["name"]) == DEMO_PAIR
        assert set(store.ids()) <= set(texts) and not store.warnings
        assert str(Path.home()) not in (recorded(name) / "run.json").read_text()
    shown = [json.loads(line) for line in (recorded(".") / "problems.jsonl").read_text().splitlines()]
    assert shown and all(texts[row["problem"]] == row["question"] for row in shown)


def test_the_recorded_rows_can_stand_beside_what_the_tour_runs_now() -> None:
    """If prompts, problems or settings change, the rows have to be recorded again, by the command beside them."""
    problems = load_dataset("starter", limit=PROBLEMS)
    engine = Tandem(*DEMO_PAIR, **DEMO_OPTIONS, concurrency=PROBLEMS)
    data = {"name": "starter", "split": None, "limit": PROBLEMS, "problems": len(problems)}
    now = describe_run(engine.plan(), data, problems, {"mentor": None, "intern": None})["run"]
    now["settings"]["intern_logprobs"], now["settings"]["pace"] = True, "thrifty"  # as a comparison asks
    for name in ANCHORS:
        manifest = RunStore.open_for_reading(recorded(RECORDED) / name).manifest()
        before = manifest["run"]
        assert before["dataset"]["problems_sha256"] == problems_digest(problems)
        for role in ("mentor", "intern"):  # found out once a model is loaded
            now[role]["continuation"] = before[role]["continuation"]
        assert incomparable(before, now) is None
        assert manifest["profile"]["mentor"]["endpoint"] == "in process"
    assert "--aim gain" in command_of(RECORDED) and f"--limit {PROBLEMS} " in command_of(RECORDED)


def test_the_tour_shows_a_recorded_problem_live_ones_the_table_and_a_page(tmp_path: Path) -> None:
    done = tandem(tmp_path, "demo", "--tour", *FAKES)
    assert done.returncode == 0, done.stderr
    first, live = done.stdout.split("Now 10 problems live, by fake and fake.")
    assert "A recorded problem: " in first and "Goal:" in first and "right (the reference: " in first
    for name in ("mentor-only", "intern-only", "tandem"):
        assert re.search(rf"│ {name} ", live)
    assert "On these 10 problems Tandem is" in live and "Synthetic" in live and "recorded, not run" not in live
    found = re.search(r"The page is (\S+report\.html)", live)
    assert found and "<html" in Path(found[1]).read_text()
    figures = json.loads((Path(found[1]).parent / "compare.json").read_text())
    assert [row["name"] for row in figures["strategies"]] == ["mentor-only", "intern-only", "tandem"]
    assert figures["unit"] == "tflops" and all(row["n"] == 10 for row in figures["strategies"])
    assert re.search(r"That took 0:\d\d:\d\d\.", live)
    listed = tandem(tmp_path, "runs", "list")
    assert "starter-tour" in listed.stdout


def test_the_tour_counts_what_the_models_write(tmp_path: Path) -> None:
    from tandem.cli.demo_tour import TourView

    view = TourView(4)
    view._tokens["mentor"], view._began = 300, view._began - 10
    assert re.fullmatch(r"(29|30) tokens/s, mentor 300 tokens, intern 0 tokens", view._line())
    entry = {"role": "mentor", "usage": {"completion": 5}, "usd": None}
    view._figures.add({"error": None, "correct": True, "level": "none", "ledger": {"entries": [entry]}})
    assert re.search(r", about 0:00:3\d left$", view._line())


def test_the_tour_without_the_models_shows_the_recorded_problem_and_says_what_is_missing(tmp_path: Path) -> None:
    done = tandem(tmp_path, "demo", "--tour")
    assert done.returncode == 1 and "A recorded problem: " in done.stdout
    (said,) = done.stderr.splitlines()
    assert said.startswith("tandem: the rest is live") and "(1.6 GB to fetch)" in said
    assert not (tmp_path / "runs").exists()


def test_a_wrong_model_is_one_line(tmp_path: Path) -> None:
    done = tandem(tmp_path, "demo", "--tour", "--mentor", "nobody", "--intern", "fake")
    assert done.returncode == 2 and "Traceback" not in done.stderr and "nobody" in done.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.weights
@pytest.mark.usefixtures("demo_intern")
def test_the_tour_of_the_demo_pair_puts_its_recorded_rows_beside_the_live_ones(
    cli: Cli, tmp_path: Path, demo_mentor: Path
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "models").symlink_to(demo_mentor.parent)
    done = cli("demo", "--tour")
    assert done.code == 0, done.err
    assert done.out.count("recorded, not run now: tandem compare") == 1
    assert "recorded with mentor-only" in done.out
    figures = json.loads(next((tmp_path / "runs").glob("*/compare.json")).read_text())
    assert {row["name"]: row["n"] for row in figures["strategies"]} == {
        "mentor-only": 10,
        "intern-only": 10,
        "tandem": 10,
    }
    assert figures["unit"] == "seconds" and not figures["synthetic"]
