"""Training and evaluation never meet by accident: hold-outs of a collection, ranges and problems that are skipped."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from commands import FAKES, Cli, dataset

from tandem.collection.holdout import split
from tandem.datasets import load_dataset
from tandem.storage.jsonl import read_lines
from tandem.sufficiency.classifier import available, short_hash

ALONE = ("--strategy", "intern-only", "--json")


def ids(folder: Path) -> list[str]:
    return [record["problem"] for record in read_lines(folder / "records.jsonl")]


def test_what_a_collection_holds_out_is_what_a_run_takes(cli: Cli, tmp_path: Path) -> None:
    own = dataset(tmp_path / "own.jsonl", 20)
    collect = ("collect", *FAKES, "--dataset", own, "--effort", "none,answer", "--holdout", "0.3", "--out", "collected")
    assert cli(*collect).code == 0
    collected = {row["problem"] for row in read_lines(tmp_path / "collected" / "rows.jsonl")}
    held = json.loads((tmp_path / "collected" / "collection.json").read_text())["holdout"]
    assert held and collected and collected.isdisjoint(held) and len(collected) + len(held) == 20

    # A classifier fitted on what was collected: its problems are refused, and the hold-out is not.
    classifier = tmp_path / "fitted"
    shutil.copytree(next(iter(available().values())), classifier)
    card = json.loads((classifier / "card.json").read_text())
    card["data"]["seen"] = sorted(map(short_hash, collected))
    (classifier / "card.json").write_text(json.dumps(card))
    run = ("run", *FAKES, "--dataset", own, "--classifier", str(classifier))
    refused = cli(*run, "--out", "all")
    assert refused.code == 2 and "--holdout-of" in refused.err and not (tmp_path / "all").exists()
    assert cli(*run, "--holdout-of", "collected", "--out", "held").code == 0
    assert sorted(ids(tmp_path / "held")) == sorted(held)
    assert cli(*run, "--holdout-of", "collected", "--resume", "held").code == 0
    assert cli(*run, "--resume", "held", "--allow-seen").code == 2  # another data set


def test_a_collection_that_grows_keeps_every_problem_on_its_side(cli: Cli, tmp_path: Path) -> None:
    own = dataset(tmp_path / "own.jsonl", 20)
    collect = ("collect", *FAKES, "--dataset", own, "--effort", "none,answer", "--out", "collected")
    assert cli(*collect, "--holdout", "0.4", "--limit", "10").code == 0
    manifest = tmp_path / "collected" / "collection.json"
    before = json.loads(manifest.read_text())["holdout"]
    assert cli(*collect, "--holdout", "0.4").code == 0
    after = json.loads(manifest.read_text())["holdout"]
    assert set(before) < set(after)
    outcome = cli(*collect)
    assert outcome.code == 2 and "give the same --holdout as before" in outcome.err
    outcome = cli(*collect, "--holdout", "0.9")
    assert outcome.code == 2 and "is collected in collected already" in outcome.err
    rows = {row["problem"] for row in read_lines(tmp_path / "collected" / "rows.jsonl")}
    assert rows.isdisjoint(after) and json.loads(manifest.read_text())["holdout"] == after


def test_a_number_of_problems_may_be_held_out(tmp_path: Path) -> None:
    problems = load_dataset(dataset(tmp_path / "own.jsonl", 20))
    fit, held = split(problems, 5)
    assert len(held) == 5 and len(fit) == 15
    assert {p.id for p in held} < {p.id for p in split(problems, 6)[1]}


@pytest.mark.parametrize("text", ["0", "1.5", "-3", "half", "20", "nan"])
def test_a_holdout_that_is_none_is_refused(cli: Cli, tmp_path: Path, text: str) -> None:
    own = dataset(tmp_path / "own.jsonl", 20)
    outcome = cli("collect", *FAKES, "--dataset", own, "--holdout", text, "--out", "collected")
    assert outcome.code == 2 and "--holdout" in outcome.err and not (tmp_path / "collected").exists()


def test_ranges_and_skipped_problems(cli: Cli, tmp_path: Path) -> None:
    run = ("run", *FAKES, "--dataset", dataset(tmp_path / "own.jsonl", 10), *ALONE)
    assert cli(*run, "--limit", "4:7", "--out", "range").code == 0
    assert cli(*run, "--skip", "4", "--limit", "3", "--out", "skip").code == 0
    assert sorted(ids(tmp_path / "range")) == sorted(ids(tmp_path / "skip")) == ["q4", "q5", "q6"]
    data = [json.loads((tmp_path / name / "run.json").read_text())["run"]["dataset"] for name in ("range", "skip")]
    assert data[0] == data[1] and (data[0]["skip"], data[0]["limit"]) == (4, 3)
    assert cli(*run, "--skip", "8", "--out", "rest").code == 0
    assert sorted(ids(tmp_path / "rest")) == ["q8", "q9"]
    assert cli(*run, "--limit", "4:7", "--resume", "skip").code == 0  # the same problems
    drawn = [(*run, "--sample-seed", "3", *window) for window in (("--limit", "4"), ("--limit", "4:10"))]
    for number, one in enumerate(drawn):
        assert cli(*one, "--out", f"drawn{number}").code == 0
    assert len({*ids(tmp_path / "drawn0"), *ids(tmp_path / "drawn1")}) == 10  # two parts that never meet


@pytest.mark.parametrize("window", [("--limit", "7:4"), ("--limit", "0"), ("--limit", "4:"), ("--skip", "0")])
def test_a_range_that_is_none_is_refused(cli: Cli, tmp_path: Path, window: tuple[str, str]) -> None:
    outcome = cli("run", *FAKES, "--dataset", dataset(tmp_path / "own.jsonl", 10), *window)
    assert outcome.code == 2 and window[0] in outcome.err


def test_errors_of_windows_and_hold_outs_say_what_to_do(cli: Cli, tmp_path: Path) -> None:
    run = ("run", *FAKES, "--dataset", dataset(tmp_path / "own.jsonl", 10), *ALONE)
    for more, said in (
        (("--skip", "10"), "no problem is left"),
        (("--skip", "2", "--limit", "4:7"), "give one of them"),
        (("--holdout-of", "nowhere"), "nowhere holds no collection"),
    ):
        outcome = cli(*run, *more)
        assert outcome.code == 2 and said in outcome.err, outcome.err
