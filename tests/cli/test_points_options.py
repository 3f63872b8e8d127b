"""--unit and --aim choose an operating point, by kind of task; a run goes on with the point that it began with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from commands import Cli
from serving import classifier

FAKES = ("--mentor", "fake", "--intern", "fake")
PRICES = "fake: {input: 1, output: 5}\n"


@pytest.fixture
def fitted(tmp_path: Path) -> Path:
    """A classifier of the pair fake and fake, with points in two units."""
    folder = Path(classifier(tmp_path / "fitted", none=0.5))
    names = ("none", "low", "medium", "high")
    never, always = ({"thresholds": dict.fromkeys(names, bound)} for bound in (2.0, 0.0))
    climbs = {"ladder": "none,high=30", "draft_tokens": 4, "policy": never}
    stops = {"ladder": "none,answer", "draft_tokens": 4, "policy": always}
    points = {
        "tflops": {"accuracy": {"math": climbs, "code": stops, "all": stops}, "cost:0.8": {"all": stops}},
        "usd": {"accuracy": {"all": climbs | {"ladder": "none,low=5,answer"}}},
    }
    card = json.loads((folder / "card.json").read_text())
    card |= {"mentor": "fake", "intern": "fake", "aim": "accuracy", "points": points}
    (folder / "card.json").write_text(json.dumps(card))
    (tmp_path / "prices.yaml").write_text(PRICES)
    tasks = ("math", "choice", "math")
    rows = [{"id": f"p{i}", "problem": f"What is {i}?", "answer": str(i), "task": task} for i, task in enumerate(tasks)]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def levels(folder: Path) -> dict[str, list[str]]:
    records = map(json.loads, (folder / "records.jsonl").read_text().splitlines())
    return {record["problem"]: [decision["level"] for decision in record["trace"]] for record in records}


def test_a_run_takes_the_point_of_its_unit_and_aim_for_each_kind(cli: Cli, tmp_path: Path, fitted: Path) -> None:
    asked = ("run", *FAKES, "--dataset", "own.jsonl", "--classifier", str(fitted))
    outcome = cli(*asked, "--out", "usual")
    assert outcome.code == 0 and "Train one of your own" not in outcome.err
    assert levels(tmp_path / "usual") == {"p0": ["none", "high"], "p1": ["none"], "p2": ["none", "high"]}
    assert "accuracy in TFLOPs, by kind of task" in " ".join(outcome.out.split())
    assert cli(*asked, "--aim", "cost:0.8", "--out", "cheap").code == 0
    assert set(map(tuple, levels(tmp_path / "cheap").values())) == {("none",)}
    assert cli(*asked, "--prices", "prices.yaml", "--out", "paid").code == 0  # it is paid in US$
    assert set(map(tuple, levels(tmp_path / "paid").values())) == {("none", "low")}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--aim", "cheap"], "no operating point for the aim 'cheap' in TFLOPs; it has accuracy, cost:0.8"),
        (["--aim", "cost:0.8", "--unit", "usd", "--prices", "prices.yaml"], "'cost:0.8' in US$; it has accuracy"),
        (["--unit", "hours"], "unknown unit 'hours'"),
        (["--unit", "seconds"], "the cost of fake in device seconds is not known; it needs a speed profile"),
    ],
)
@pytest.mark.parametrize("command", ["run", "solve", "compare"])
def test_a_point_that_there_is_not_is_refused_before_the_first_call(
    cli: Cli, tmp_path: Path, fitted: Path, command: str, options: list[str], said: str
) -> None:
    what = ["What is 1+1?"] if command == "solve" else ["--dataset", "own.jsonl"]
    outcome = cli(command, *what, *FAKES, "--classifier", str(fitted), *options)
    assert outcome.code == 2 and said in outcome.err and not (tmp_path / "runs").exists()


def test_a_unit_without_points_is_told_and_the_cards_own_decide(cli: Cli, fitted: Path) -> None:
    asked = ("run", *FAKES, "--dataset", "own.jsonl", "--classifier", str(fitted), "--out", "out")
    outcome = cli(*asked, "--unit", "mentor-tokens")
    assert outcome.code == 0 and "has no operating points in mentor tokens; it decides in device seconds" in outcome.err


def test_a_run_goes_on_with_the_point_that_it_began_with_also_when_a_price_has_come(
    cli: Cli, tmp_path: Path, fitted: Path
) -> None:
    asked = ("run", *FAKES, "--dataset", "own.jsonl", "--classifier", str(fitted))
    assert cli(*asked, "--out", "out").code == 0
    whole = levels(tmp_path / "out")
    kept = (tmp_path / "out" / "records.jsonl").read_text().splitlines(keepends=True)[:1]
    (tmp_path / "out" / "records.jsonl").write_text("".join(kept))
    (tmp_path / "out" / "calls.jsonl").unlink()
    outcome = cli(*asked, "--prices", "prices.yaml", "--resume", "out")
    assert outcome.code == 0 and levels(tmp_path / "out") == whole
    other = cli(*asked, "--prices", "prices.yaml", "--unit", "usd", "--resume", "out")
    assert other.code == 2 and "point.unit ('tflops', now 'usd')" in other.err


def test_a_run_of_an_earlier_version_goes_on_with_its_one_ladder(cli: Cli, tmp_path: Path, fitted: Path) -> None:
    card: dict[str, Any] = json.loads((fitted / "card.json").read_text())
    card = {name: value for name, value in card.items() if name not in ("points", "models", "unit")}
    (fitted / "card.json").write_text(json.dumps(card | {"format": 4}))
    asked = ("run", *FAKES, "--dataset", "own.jsonl", "--classifier", str(fitted), "--pace", "thrifty")
    assert cli(*asked, "--out", "out").code == 0
    whole, run = levels(tmp_path / "out"), json.loads((tmp_path / "out" / "run.json").read_text())["run"]
    assert isinstance(run["ladder"], str) and "point" not in run
    for file in ("records.jsonl", "calls.jsonl"):
        (tmp_path / "out" / file).unlink()
    assert cli(*asked, "--resume", "out", "--unit", "tflops").code == 0
    assert levels(tmp_path / "out") == whole


def test_an_estimate_knows_the_ladder_of_each_kind(cli: Cli, fitted: Path) -> None:
    asked = ("run", *FAKES, "--classifier", str(fitted), "--estimate", "--json", "--dataset", "own.jsonl")
    found = json.loads(cli(*asked, "--mentor-max-tokens", "700").out)
    assert found["at_most"]["mentor_tokens"] == 30 + 700 + 30  # an answer for the kind that has no insight
