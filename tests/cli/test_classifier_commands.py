"""`tandem train`, `calibrate` and `classifiers` on a made-up collection, as a user calls them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from synthetic import manifest, table

from tandem.cli import cli
from tandem.collection.rows import export
from tandem.errors import TandemError
from tandem.models.catalog import lookup

pytestmark = pytest.mark.slow  # whole trainings

PAIR = {"mentor": "qwen2.5-coder-1.5b", "intern": "qwen2.5-coder-0.5b"}


def collection(folder: Path, problems: int, *, first: int = 0, **changes: object) -> Path:
    rows = table(problems, seed=first)
    for row in rows:
        row["problem"] = f"made-{int(row['problem'][5:]) + first}"
    export(rows, folder / "table.jsonl.gz")
    (folder / "collection.json").write_text(json.dumps(manifest() | PAIR | {"draft_lengths": []} | changes))
    return folder


def call(*args: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(arg) for arg in args])


def error(*args: str | Path) -> str:
    result = call(*args)
    assert isinstance(result.exception, TandemError), result.output
    return str(result.exception)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a collection and the classifier trained from it."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "collected").mkdir()
    result = call("train", collection(folder / "collected", 60), "--out", folder / "mine", "--json")
    assert result.exit_code == 0, result.output
    (folder / "card.json").write_text(result.stdout)
    return folder


def test_the_pair_of_these_tests_is_in_the_catalog() -> None:
    assert lookup(PAIR["mentor"]) and lookup(PAIR["intern"])


def test_train_prints_the_card_that_it_wrote(home: Path) -> None:
    assert json.loads((home / "card.json").read_text()) == json.loads((home / "mine" / "card.json").read_text())


def test_show_prints_figures_and_reliability(home: Path) -> None:
    text = call("classifiers", "show", home / "mine").output
    for expected in ("mentor-only", "cascade", "Reliability", "held-out problems", "AUROC", "o"):
        assert expected in text
    assert json.loads(call("classifiers", "show", home / "mine", "--json").output)["id"]


def test_list_finds_those_of_this_folder(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "classifiers").mkdir()
    (home / "mine").rename(tmp_path / "classifiers" / "mine")
    monkeypatch.chdir(tmp_path)
    try:
        found = json.loads(call("classifiers", "list", "--json").output)
        assert "classifiers/mine" in [row["id"] for row in found]
        table_of_all = call("classifiers", "list").output
        assert "AUROC" in table_of_all and "accuracy" in table_of_all
    finally:
        (tmp_path / "classifiers" / "mine").rename(home / "mine")


def test_calibrate_proposes_and_writes(home: Path, tmp_path: Path) -> None:
    args = ("calibrate", home / "collected", "--aim", "cost:0.9", "--out", tmp_path / "new", "--json")
    found = json.loads(call(*args).stdout)
    assert found["aim"] == "cost:0.9" and found["written"] == str(tmp_path / "new")
    card = json.loads((tmp_path / "new" / "card.json").read_text())
    assert card["ladder"] == found["ladder"] and card["figures"]["held_out"] == found["held_out"]


def test_calibrate_writes_nothing_where_nothing_is_certified(home: Path, tmp_path: Path) -> None:
    message = error("calibrate", home / "collected", "--aim", "regret:0.02", "--out", tmp_path / "new")
    assert "30 problems are left to certify regret:0.02" in message
    assert not (tmp_path / "new").exists()


def test_bad_input_is_named(home: Path, tmp_path: Path) -> None:
    assert "unknown aim 'cheap'" in error("calibrate", home / "collected", "--aim", "cheap")
    assert "name either a COLLECTION" in error("calibrate")
    assert "no collection" in error("train", tmp_path)
    other = collection(tmp_path, 45, first=1000, intern="qwen2.5-coder-1.5b")
    message = error("train", home / "collected", "--evaluate", other)
    assert "intern 'qwen2.5-coder-1.5b' (not 'qwen2.5-coder-0.5b')" in message
    assert "60 problems are in both tables" in error("train", home / "collected", "--evaluate", home / "collected")
    assert "--evaluate writes no classifier" in error(
        "train", home / "collected", "--evaluate", home / "collected", "--no-hand-over"
    )


def test_everything_is_judged_on_another_table(home: Path, tmp_path: Path) -> None:
    other = collection(tmp_path, 60, first=1000)
    result = call("train", home / "collected", "--evaluate", other, "--report", tmp_path / "frontier.md", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found == json.loads((tmp_path / "frontier.json").read_text())
    expected = {"intern-only", "fixed:low", "fixed:medium", "fixed:high", "mentor-only", "cascade", "ours", "oracle"}
    assert expected <= found["strategies"].keys()
    for name in ("intern-only", "mentor-only"):  # the ends of the chord
        assert found["strategies"][name]["gain_over_chord"]["tflops"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    oracle = found["strategies"]["oracle"]
    assert all(oracle["accuracy"] >= row["accuracy"] for row in found["strategies"].values())
    assert set(found["left_out"]) == {"budget-forcing", "published"}
    assert "not measured here" in found["published_pair"]["source"]
    text = (tmp_path / "frontier.md").read_text()
    assert "| ours |" in text and "What would have to change" in text


def test_a_unit_chosen_stands_beside_every_cost(home: Path, tmp_path: Path) -> None:
    prices = tmp_path / "prices.yaml"
    prices.write_text("qwen2.5-coder-1.5b: {input: 1.0, output: 4.0}\nqwen2.5-coder-0.5b: {input: 0.1, output: 0.4}\n")
    how = ("--prices", prices, "--out", tmp_path / "mine")
    shown = call("train", home / "collected", *how)  # US$ is the default where the mentor has a price
    assert shown.exit_code == 0 and "costs in US$" in shown.output and "Costs are replayed in US$" in shown.output
    card = json.loads((tmp_path / "mine" / "card.json").read_text())
    answers = [row for row in table(60) if row["level"] == "answer"]
    paid = sum(row["prompt_tokens"] * 1e-6 + row["completion_tokens"] * 4e-6 for row in answers) / 60
    assert card["unit"] == "usd" and card["figures"]["cost_model"]["mentor"] == "prices"
    assert card["figures"]["anchors"]["mentor-only"]["cost"] == pytest.approx(paid, rel=1e-5)
    assert "US$" in call("calibrate", home / "collected", "--prices", prices, "--dry-run").output
    found = call("train", home / "collected", *how, "--strategy", "route", "--json")
    assert json.loads(found.stdout)["figures"]["unit"] == "usd"
    assert "at equal cost in US$" in call("signals", home / "collected", "--prices", prices, "--draft", "all").output
    assert "of qwen2.5-coder-1.5b in US$ is not known" in error("train", home / "collected", "--unit", "usd")


def test_a_load_that_is_assumed_gives_device_time(tmp_path: Path) -> None:
    from tandem.costs import LABELS

    unmeasured = collection(tmp_path, 60, mentor="qwen2.5-32b", intern="qwen2.5-7b")
    found = call("calibrate", unmeasured, "--assume-load", "interactive", "--dry-run")
    assert found.exit_code == 0 and f"costs in {LABELS['seconds']}" in " ".join(found.output.split()), found.output


def test_a_mentor_of_unknown_size_with_a_price_is_trained_for(home: Path, tmp_path: Path) -> None:
    (tmp_path / "of-gpt").mkdir()
    paid = collection(tmp_path / "of-gpt", 60, mentor="gpt-4o")
    shown = call("train", paid, "--out", tmp_path / "mine")
    assert shown.exit_code == 0, shown.output
    assert json.loads((tmp_path / "mine" / "card.json").read_text())["unit"] == "usd"
    assert "size" in error("train", paid, "--unit", "tflops") and "TFLOPs" in error("train", paid, "--unit", "tflops")
    other = tmp_path / "fresh"
    other.mkdir()
    report = call("train", paid, "--evaluate", collection(other, 60, first=1000, mentor="gpt-4o"))
    assert report.exit_code == 0 and "US$" in report.output and "TFLOPs" not in report.output.partition("published")[0]


def test_points_are_shown_and_evaluated_on_other_problems(home: Path, tmp_path: Path) -> None:
    shown = call("classifiers", "show", home / "mine").output
    assert "Points, out of fold" in shown and "cost:0.8" in shown and "gain" in shown
    other = collection(tmp_path, 60, first=1000)
    found = json.loads(call("classifiers", "evaluate", home / "mine", other, "--aim", "cost:0.6", "--json").stdout)
    assert {line["unit"] for line in found["points"]} == {"seconds", "tflops", "tflops_published"}
    for line in found["points"]:
        chosen_in = "tflops" if line["unit"] == "tflops" else "seconds"  # whose speed profiles are shipped
        assert line["problems"] == 60 and line["aim"] == "cost:0.6" and line["chosen_in"] == chosen_in
        assert line["cost_ratio"]["low"] < 1
    table_of_all = call("classifiers", "evaluate", home / "mine", other).output
    assert "published TFLOPs (chosen by device seconds)" in table_of_all
    assert "60 problems of the table trained" in error("classifiers", "evaluate", home / "mine", home / "collected")
