"""Where runs are: several data sets in one, none after a start that failed, and lists of those made elsewhere too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import FAKES, Cli, dataset

DEAD = "http://127.0.0.1:9/v1"  # discard: nothing listens there


def own(path: Path, name: str, n: int, wrong: int = 0) -> str:
    rows = [{"id": f"{name}{i}", "problem": f"What is {i}?", "answer": str(i if i >= wrong else -1)} for i in range(n)]
    (path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"{name}.jsonl"


# Several data sets


def test_one_run_over_several_data_sets_has_figures_for_each_and_for_all(cli: Cli, tmp_path: Path) -> None:
    sets = own(tmp_path, "easy", 4), own(tmp_path, "hard", 6, wrong=3)
    asked = ("run", *FAKES, "--dataset", sets[0], "--dataset", sets[1], "--out", "both")
    summary = json.loads(cli(*asked, "--json").out)
    parts = summary["datasets"]
    records = [json.loads(line) for line in Path("both/records.jsonl").read_text().splitlines()]
    right = {name: [row["correct"] for row in records if row["metadata"]["dataset"] == name] for name in sets}
    shares = {name: sum(found) / len(found) for name, found in right.items()}
    assert list(parts) == list(sets) and summary["n"] == 10
    assert summary["accuracy"] == pytest.approx(sum(map(sum, right.values())) / 10)
    assert {name: (part["n"], part["accuracy"]) for name, part in parts.items()} == {
        **{sets[0]: (4, shares[sets[0]]), sets[1]: (6, shares[sets[1]])}
    }
    assert sum(parts[name]["mentor_tokens"] for name in sets) == summary["mentor_tokens"]
    assert {row["metadata"]["dataset"] for row in records[:4]} == set(sets)  # in turn: of each from the beginning
    shown = cli("report", "both").out
    assert "easy.jsonl" in shown and f"4 problems, accuracy {shares[sets[0]]:.3f}" in shown
    assert f"6 problems, accuracy {shares[sets[1]]:.3f}" in shown
    assert cli(*asked[:-2], "--resume", "both").code == 0
    assert cli("run", *FAKES, "--dataset", sets[0], "--resume", "both").code == 2
    assert json.loads(cli("grade", "both", "--json").out)["n"] == 10
    assert json.loads(cli("runs", "list", "--json").out)[0]["dataset"] == "easy.jsonl+hard.jsonl"


def test_options_hold_for_each_data_set_and_one_alone_is_as_ever(cli: Cli, tmp_path: Path) -> None:
    sets = own(tmp_path, "a", 5), own(tmp_path, "b", 5)
    both = ("--dataset", sets[0], "--dataset", sets[1])
    summary = json.loads(cli("run", *FAKES, *both, "--limit", "2", "--json").out)
    assert {name: part["n"] for name, part in summary["datasets"].items()} == dict.fromkeys(sets, 2)
    (folder,) = Path("runs").iterdir()
    assert folder.name.endswith("-a-b-tandem")
    alone = json.loads(cli("run", *FAKES, "--dataset", sets[0], "--dataset", sets[0], "--out", "one", "--json").out)
    assert "datasets" not in alone
    assert "parts" not in json.loads(Path("one/run.json").read_text())["run"]["dataset"]


def test_several_files_without_answers_are_answered_and_name_the_first_one_s_column(cli: Cli, tmp_path: Path) -> None:
    for name, number in (("a", 1), ("b", 2)):
        (tmp_path / f"{name}.csv").write_text(f"id,problem,gold\n{number},What is 1+{number}?,{1 + number}\n")
    done = cli("run", *FAKES, "--dataset", "a.csv", "--dataset", "b.csv", "--out", "r")
    assert done.code == 0 and "--field answer=gold" in done.err, done.err


def test_a_problem_that_two_data_sets_have_is_refused(cli: Cli, tmp_path: Path) -> None:
    dataset(tmp_path / "x.jsonl", 2), dataset(tmp_path / "y.jsonl", 2)
    outcome = cli("run", *FAKES, "--dataset", "x.jsonl", "--dataset", "y.jsonl")
    assert outcome.code == 2 and "y.jsonl and another data set both have a problem 'q0'; run them apart" in outcome.err


@pytest.mark.parametrize(
    ("limit", "ids"),
    [
        ("2", ["q0", "q1"]),
        ("3-4", ["q2", "q3"]),
        ("3:4", ["q3"]),
        ("1-1", ["q0"]),
        ("5-9", ["q4", "q5"]),
    ],
)
def test_a_limit_is_a_number_or_a_range(cli: Cli, tmp_path: Path, limit: str, ids: list[str]) -> None:
    asked = ("run", *FAKES, "--dataset", dataset(tmp_path / "own.jsonl", 6), "--limit", limit, "--out", "out")
    assert cli(*asked).code == 0
    rows = [json.loads(line)["problem"] for line in Path("out/problems.jsonl").read_text().splitlines()]
    assert rows == ids


@pytest.mark.parametrize("limit", ["0-3", "4-3", "5:5", "-3", "2-", "a-b", "0"])
def test_what_is_no_range_is_refused(cli: Cli, tmp_path: Path, limit: str) -> None:
    outcome = cli("run", *FAKES, "--dataset", dataset(tmp_path / "own.jsonl", 6), f"--limit={limit}")
    assert outcome.code == 2 and "--limit" in outcome.err and not Path("runs").exists()


# A start that failed


@pytest.mark.parametrize(
    ("command", "more"),
    [
        ("run", ("--out", "new")),
        ("compare", ("--out", "new")),
        ("tune", ("--out", "new", "--yes")),
        ("collect", ("--out", "new")),
    ],
)
def test_a_start_that_failed_leaves_no_folder(cli: Cli, tmp_path: Path, command: str, more: tuple[str, ...]) -> None:
    pair = ("--mentor", "m", "--mentor-endpoint", DEAD, "--intern", "i", "--intern-endpoint", DEAD)
    data = dataset(tmp_path / "own.jsonl", 90)
    outcome = cli(command, *pair, "--dataset", data, "--request-timeout", "1", *more)
    assert outcome.code in (1, 2) and "cannot reach 127.0.0.1:9" in outcome.err
    assert not Path("new").exists()
    Path("new").mkdir()
    assert cli(command, *pair, "--dataset", data, "--request-timeout", "1", *more).code in (1, 2)
    assert Path("new").is_dir()  # it was there before


# Lists


def test_a_list_has_runs_made_elsewhere_and_a_comparison_once(cli: Cli, tmp_path: Path) -> None:
    data = dataset(tmp_path / "own.jsonl", 3)
    assert cli("run", *FAKES, "--dataset", data).code == 0
    assert cli("run", *FAKES, "--dataset", data, "--out", "elsewhere/mine").code == 0
    assert cli("compare", *FAKES, "--dataset", data, "--strategies", "fixed:low").code == 0
    found = json.loads(cli("runs", "list", "--json").out)
    assert sorted(row["strategy"] for row in found) == ["comparison", "tandem", "tandem"]
    compared = next(row for row in found if row["strategy"] == "comparison")
    assert set(compared["parts"]) == {"intern-only", "mentor-only", "fixed:low"} and compared["state"] == "finished"
    told = cli("runs", "list").out
    assert "  elsewhere/mine  (finished, synthetic)" in told and told.count("own-compare") == 1
    assert f"fixed:low {compared['parts']['fixed:low']:.3f}" in told and len(told.splitlines()) == 6
    inside = json.loads(cli("runs", "list", compared["folder"], "--json").out)
    assert {row["strategy"] for row in inside} == {"intern-only", "mentor-only", "fixed:low"}


def test_runs_of_another_folder_are_listed_only_where_all_are(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = dataset(tmp_path / "own.jsonl", 2)
    (tmp_path / "other").mkdir()
    assert cli("run", *FAKES, "--dataset", data, "--out", "mine").code == 0
    monkeypatch.chdir(tmp_path / "other")
    assert cli("runs", "list").code == 2
    (row,) = json.loads(cli("runs", "list", "--all", "--json").out)
    assert Path(row["folder"]) == tmp_path / "mine"
    assert "leave out ROOT" in cli("runs", "list", "x", "--all").err
    (tmp_path / "mine" / "run.json").unlink()  # gone since: it is passed over
    assert cli("runs", "list", "--all").code == 2


def test_a_comparison_takes_several_data_sets(cli: Cli, tmp_path: Path) -> None:
    sets = own(tmp_path, "a", 3), own(tmp_path, "b", 2)
    both = ("--dataset", sets[0], "--dataset", sets[1])
    found = json.loads(cli("compare", *FAKES, *both, "--strategies", "fixed:low", "--out", "out", "--json").out)
    assert found["n"] == 5 and found["dataset"]["name"] == "a.jsonl+b.jsonl"
