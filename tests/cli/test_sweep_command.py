"""`tandem sweep` as a user meets it: the table, its notes, JSON, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from commands import Cli
from swept import INTERN, LEVELS, MENTOR, comparison, edited, made


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    names = (INTERN, MENTOR, LEVELS[0], "random-mix:0.4", "tandem")
    return {name: made(folder / name.replace(":", "-"), name) for name in names}


def beside(runs: dict[str, Path], name: str) -> list[str]:
    return [str(runs[name]), "--intern-run", str(runs[INTERN]), "--mentor-run", str(runs[MENTOR])]


def test_the_table_shows_some_rows_and_json_has_them_all(cli: Cli, runs: dict[str, Path]) -> None:
    outcome = cli("sweep", *beside(runs, "random-mix:0.4"))
    assert outcome.code == 0 and outcome.err == ""
    lines = outcome.out.splitlines()
    assert "random-mix:0.4: big + small, 30 problems  (synthetic: a fake model took part)" in lines[0]
    rows = [line.split() for line in lines if "%" in line and "[" in line]
    assert len(rows) in (20, 21) and (rows[0][0], rows[-1][0]) == ("0", "1")
    (own,) = (row for row in rows if row[0] == "*")
    found = json.loads(cli("sweep", *beside(runs, "random-mix:0.4"), "--json").out)
    everything = found["sweeps"][0]["rows"]
    assert len(everything) == 33  # 30 coins, both ends, and its own
    (wanted,) = (row for row in everything if row["own"])
    assert own[1:4] == ["0.4", f"{wanted['mentor_answers']:.0%}", f"{wanted['accuracy']:.3f}"]
    assert own[5:7] == [f"{wanted['cost']['tflops']:.3f}", f"{wanted['cost']['mentor_tokens']:.0f}"]
    assert "intern-only" in outcome.out and "mentor-only" in outcome.out
    assert "* the run's own threshold, 0.4; the run itself had an accuracy of" in outcome.out
    assert outcome.out.rstrip().endswith("report on others") and "is chosen on the test set" in outcome.out


def test_the_gain_can_be_at_another_cost(cli: Cli, runs: dict[str, Path]) -> None:
    outcome = cli("sweep", *beside(runs, "random-mix:0.4"), "--unit", "usd")
    assert outcome.code == 0 and "US$" in outcome.out and outcome.out.count("unknown") > 20  # fakes have no price
    assert "TFLOPs" in cli("sweep", *beside(runs, "random-mix:0.4"), "--unit", "mentor_tokens").out


def test_it_begins_in_us_dollars_where_the_mentor_has_a_price(cli: Cli, tmp_path: Path) -> None:
    made_of = {one: made(tmp_path / one[:3], one, priced=True) for one in (INTERN, MENTOR, "random-mix:0.4")}
    outcome = cli("sweep", *beside(made_of, "random-mix:0.4"))
    assert outcome.code == 0 and "unknown" not in outcome.out
    assert "US$" in outcome.out and "chord in US$" in outcome.out
    assert "note: Calls on own hardware count US$ 0" in outcome.out
    told = cli("sweep", *beside(made_of, "random-mix:0.4"), "--unit", "mentor-tokens")
    assert "chord in mentor tokens" in told.out and "US$" in told.out
    missing = cli("sweep", *beside(made_of, "random-mix:0.4"), "--unit", "seconds")
    assert "in this unit is not known of these runs; known are usd, tflops, " in missing.out


def test_rows_that_are_not_known_say_so(cli: Cli, runs: dict[str, Path]) -> None:
    outcome = cli("sweep", *beside(runs, "tandem"), "--level-run", str(runs[LEVELS[0]]))
    assert outcome.code == 0 and "unknown" in outcome.out
    assert "problems end in a way that no run here shows; those rows have no figures" in outcome.out
    assert "uncalibrated" not in outcome.out


def test_what_is_doubtful_is_noted(cli: Cli, runs: dict[str, Path], tmp_path: Path) -> None:
    def worse(record: dict[str, Any]) -> None:
        record["correct"] = record["correct"] and record["problem"] > "p2"
        if record["problem"] == "p2":
            record |= {"error": "no luck", "trace": [], "correct": False}
        for decision in record["trace"]:
            decision["calibrated"] = False

    other = edited(runs["tandem"], tmp_path / "other", worse)
    outcome = cli("sweep", *beside(runs | {"tandem": other}, "tandem"))
    assert "note: 1 problem failed in the run: in no figure" in outcome.out
    assert "note: thresholds of an uncalibrated classifier follow" in outcome.out
    mixed = edited(runs["random-mix:0.4"], tmp_path / "mixed", worse)
    outcome = cli("sweep", *beside(runs | {"random-mix:0.4": mixed}, "random-mix:0.4"))
    assert "problems were answered differently in the run than in the records" in outcome.out


def test_a_comparison(cli: Cli, runs: dict[str, Path], tmp_path: Path) -> None:
    folder = str(comparison(tmp_path / "compared", runs))
    outcome = cli("sweep", folder)
    assert outcome.code == 0 and "random-mix:0.4: big" in outcome.out and "tandem: big" in outcome.out
    assert outcome.out.count("is chosen on the test set") == 1
    one = cli("sweep", folder, "--strategy", "random-mix:0.4")
    assert "random-mix:0.4: big" in one.out and "tandem: big" not in one.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "nowhere holds no run"),
        (["{compared}", "--strategy", "delegate"], "no tools"),
        (["{compared}", "--intern-run", "x"], "is a comparison and has its own runs"),
        (["{run}"], "give --intern-run DIR and --mentor-run DIR"),
        (["{run}", "--strategy", "tandem"], "is not a comparison: --strategy has nothing to choose from"),
        (["{run}", "--intern-run", "{intern}", "--mentor-run", "{intern}"], "one of 'mentor-only' is needed"),
        (["{intern}", "--intern-run", "{intern}", "--mentor-run", "{mentor}"], "has no threshold that can be replayed"),
        (["{run}", "--unit", "hours"], "hours"),
    ],
)
def test_bad_usage(cli: Cli, runs: dict[str, Path], tmp_path: Path, arguments: list[str], said: str) -> None:
    folder = comparison(tmp_path / "compared", runs)
    places = {"compared": folder, "run": runs["tandem"], "intern": runs[INTERN], "mentor": runs[MENTOR]}
    outcome = cli("sweep", *(argument.format(**places) for argument in arguments))
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.count("\n") == 1 and said in outcome.err


def test_a_run_of_a_comparison_by_itself_says_where_the_others_are(
    cli: Cli, runs: dict[str, Path], tmp_path: Path
) -> None:
    folder = comparison(tmp_path / "compared", runs)
    inside = edited(runs["tandem"], folder / "tandem")
    outcome = cli("sweep", str(inside))
    assert outcome.code == 2 and f"(or sweep the comparison: {folder})" in outcome.err
