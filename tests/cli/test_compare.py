"""`tandem compare` from the command line: what it prints and writes, how it goes on, and bad usage in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import FAKES, Cli, dataset, script

QUICK = ("--strategies", "fixed:low=10,budget-forcing:5,tandem")


@pytest.fixture
def sums(tmp_path: Path) -> str:
    return dataset(tmp_path / "sums.jsonl", 5)


def test_one_table_and_what_was_left_out(cli: Cli, tmp_path: Path, sums: str) -> None:
    mute = script(tmp_path / "mute.json", logprobs=False)
    pair = ("--mentor", "fake", "--intern", mute)
    done = cli("compare", *pair, "--dataset", sums, *QUICK, "--out", str(tmp_path / "out"))
    assert done.code == 0, done.err
    for name in ("mentor-only", "intern-only", "fixed:low=10", "tandem was skipped", "synthetic"):
        assert name in done.out
    assert "reads the intern's log-probabilities" in " ".join(done.out.split())
    assert "<html" in (tmp_path / "out" / "report.html").read_text()
    found = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert [row["status"] for row in found["strategies"]] == ["finished"] * 4 + ["skipped"]
    assert all((tmp_path / "out" / row["folder"] / "summary.json").exists() for row in found["strategies"][:4])


def test_more_strategies_join_and_nothing_is_asked_again(cli: Cli, tmp_path: Path, sums: str) -> None:
    out = str(tmp_path / "out")
    first = cli("compare", *FAKES, "--dataset", sums, "--strategies", "intern-only", "--out", out, "--json")
    before = json.loads(first.out)
    again = cli("compare", *FAKES, "--dataset", sums, *QUICK, "--resume", out, "--json")
    after = json.loads(again.out)
    assert [row["name"] for row in before["strategies"]] == ["mentor-only", "intern-only"]
    assert after["strategies"][:2] == before["strategies"] and len(after["strategies"]) == 5
    refused = cli("compare", *FAKES, "--dataset", sums, "--resume", out, "--seed", "3", "--strategies", "intern-only")
    assert refused.code == 2 and "settings.sampling.seed" in refused.err


def test_finished_runs(cli: Cli, tmp_path: Path, sums: str) -> None:
    for strategy in ("mentor-only", "intern-only"):
        assert (
            cli("run", *FAKES, "--dataset", sums, "--strategy", strategy, "--out", str(tmp_path / strategy)).code == 0
        )
    runs = str(tmp_path / "mentor-only"), str(tmp_path / "intern-only")
    done = cli("compare", *runs, "--out", str(tmp_path / "out"), "--json")
    found = json.loads(done.out)
    assert [row["name"] for row in found["strategies"]] == ["mentor-only", "intern-only"] and found["n"] == 5
    assert cli("compare", *runs, "--out", str(tmp_path / "out")).code == 2  # there is one already


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "--mentor is missing"),
        (("--mentor", "fake", "--intern", "fake"), "--dataset is missing"),
        ((*FAKES, "--dataset", "starter", "--strategies", "tandm"), "Did you mean tandem"),
        ((*FAKES, "--dataset", "starter", "--strategies", "fixed:hi"), "hi"),
        ((*FAKES, "--dataset", "starter", "--strategies", ","), "no strategy is named"),
        ((*FAKES, "--dataset", "starter", "--out", "a", "--resume", "b"), "give one of them"),
        ((*FAKES, "--dataset", "starter", "--resume", "nowhere", *QUICK), "holds no comparison"),
        (("a", "b", *FAKES, "--out", "c"), "leave out the models"),
        (("a", "--out", "c"), "at least two"),
        (("a", "b"), "--out DIR"),
        (("a", "b", "--out", "c"), "holds no run"),
    ],
)
def test_bad_usage_is_one_line(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = cli("compare", *arguments)
    assert done.code == 2 and said in done.err and done.err.count("\n") == 1, done.err


def test_problems_without_references_are_no_ground(cli: Cli, tmp_path: Path) -> None:
    bare = tmp_path / "bare.jsonl"
    bare.write_text('{"problem": "What is 1+1?"}\n')
    done = cli("compare", *FAKES, "--dataset", str(bare), "--out", str(tmp_path / "out"))
    assert done.code == 2 and "have no references" in done.err
