"""`tandem report` on a comparison and on a run: what it prints, what it writes, what it refuses."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
from commands import FAKES, Cli, dataset
from fabricate_compare import records_of, write_compare, write_run

WRITTEN = "written: {0}/report.html, {0}/report.md, {0}/report.csv\n"


def test_a_comparison_is_printed_and_written(cli: Cli, tmp_path: Path) -> None:
    write_compare(tmp_path / "c", problems=5, skipped={"best-route": "the intern has no log-probabilities"})
    outcome = cli("report", "c")
    assert outcome.code == 0 and outcome.err == WRITTEN.format("c")
    assert "9 strategies: qwen2.5-coder-1.5b + qwen2.5-coder-0.5b" in outcome.out
    assert all(f"│ {name} " in outcome.out for name in ("tandem", "budget-forcing", "delegate"))
    assert "best-route was skipped: the intern has no log-probabilities" in outcome.out
    page = (tmp_path / "c" / "report.html").read_text()
    assert page.startswith("<!doctype html>") and "qwen2.5-coder-0.5b" in page
    with (tmp_path / "c" / "report.csv").open(newline="", encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == 9 * 5
    assert "| budget-forcing | " in (tmp_path / "c" / "report.md").read_text()


def test_a_table_fits_a_terminal(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    write_compare(tmp_path / "c", problems=5, prices=True)
    table = [line for line in cli("report", "c").out.splitlines() if line[:1] in "┏┃┡│└"]
    assert {len(line) for line in table} == {max(map(len, table))} and len(table[0]) <= 80
    assert "budget-forcing" in "".join(table) and "…" not in "".join(table)


def test_json_is_compare_json_with_numbers_that_are_none_for_json(cli: Cli, tmp_path: Path) -> None:
    write_compare(tmp_path / "c", problems=2, strategies=("tandem",))
    path = tmp_path / "c" / "compare.json"
    raw = json.loads(path.read_text())
    raw["strategies"][0]["accuracy"] = float("nan")
    path.write_text(json.dumps(raw))
    outcome = cli("report", "c", "--json")
    raw["strategies"][0]["accuracy"] = None
    assert outcome.code == 0 and json.loads(outcome.out) == raw and "NaN" not in outcome.out
    assert (tmp_path / "c" / "report.html").is_file()


def test_a_comparison_without_a_finished_strategy_is_reported(cli: Cli, tmp_path: Path) -> None:
    write_compare(tmp_path / "c", problems=0, strategies=(), skipped={"tandem": "no \x1b[31mlog-probabilities"})
    outcome = cli("report", "c")
    assert outcome.code == 0 and outcome.err == WRITTEN.format("c")
    assert "0 strategies" in outcome.out and "tandem was skipped: no  [31mlog-probabilities" in outcome.out


def test_what_cannot_be_read_is_said(cli: Cli, tmp_path: Path) -> None:
    folder = write_compare(tmp_path / "c", problems=2, strategies=("tandem", "mentor-only"))
    (folder / "tandem" / "run.json").unlink()
    outcome = cli("report", "c")
    assert outcome.code == 0
    assert "tandem: the records of tandem are left out: c/tandem holds no run (no run.json in it)\n" in outcome.err
    (folder / "compare.json").write_text('{"format": 3, "version": "9.1"}')
    outcome = cli("report", "c")
    assert (outcome.code, outcome.out) == (1, "") and outcome.err == (
        "tandem: c/compare.json has format 3 and this version of Tandem reads up to 2; it was written by "
        "Tandem 9.1: upgrade Tandem (pip install --upgrade tandem-reasoning), or compare its runs again\n"
    )
    (folder / "compare.json").write_text("not JSON")
    outcome = cli("report", "c")
    assert outcome.code == 1 and outcome.err == (
        "tandem: c/compare.json is damaged: it is not JSON; it was written by an unknown version of Tandem: "
        "restore it from a copy, or compare its runs again\n"
    )
    outcome = cli("report", "nothing")
    assert (outcome.code, outcome.err) == (2, "tandem: nothing holds no run (no run.json in it)\n")


def test_a_run_has_a_page_too(cli: Cli, tmp_path: Path) -> None:
    write_run(tmp_path / "a", "tandem", records_of("tandem", 7))
    outcome = cli("report", "a", "--json")
    assert outcome.code == 0 and json.loads(outcome.out)["n"] == 7
    assert WRITTEN.format("a") in outcome.err
    page = (tmp_path / "a" / "report.html").read_text()
    assert '"kind":"run"' in page and page.count('"made-0000') == 7


def test_a_real_run_on_fakes_can_be_reported(cli: Cli, tmp_path: Path) -> None:
    data = dataset(tmp_path / "d.jsonl", 3)
    assert cli("run", "--dataset", data, *FAKES, "--out", "runs/a").code == 0
    outcome = cli("report", "runs/a")
    assert outcome.code == 0 and outcome.err == WRITTEN.format("runs/a")
    page = (tmp_path / "runs" / "a" / "report.html").read_text()
    assert '"synthetic":true' in page and '"accuracy":1.0' in page


def test_a_report_lists_question_verdict_and_level_and_has_the_chart(cli: Cli, tmp_path: Path) -> None:
    data = dataset(tmp_path / "own.jsonl", 24)
    asked = ("--strategy", "random-mix:0.5", "--dataset", data, "--out", "out")
    assert cli("run", *FAKES, *asked).code == 0 and cli("report", "out").code == 0
    rows = list(csv.DictReader((tmp_path / "out" / "report.csv").open()))
    assert rows[0]["question"].startswith("What is ") and {row["level"] for row in rows} == {"none", "answer"}
    told = (tmp_path / "out" / "report.md").read_text()
    assert "## Problems" in told and "What is 7+0, that is 7?" in told
    assert re.search(r"\| (right|wrong) \| answer \|", told)
    found = re.search(r'"alone":\{"unit":"tflops","cost":([0-9.]+)\}', (tmp_path / "out" / "report.html").read_text())
    verdict = json.loads((tmp_path / "out" / "summary.json").read_text())["verdict"]
    assert found and float(found[1]) == pytest.approx(verdict["per_1000"]["mentor"] / 1000)
    first = cli("runs", "show", "out").out
    assert (
        re.search(r"^(right|wrong) +(none|answer) +q", first, re.M)
        and "--problems" in first
        and "run.strategy" in first
    )
    whole = cli("runs", "show", "out", "--problems").out.splitlines()
    assert len(whole) == 24 and all(line.startswith(("right ", "wrong ")) and len(line) <= 100 for line in whole)


def test_the_report_of_an_older_run_does_without_questions(cli: Cli, tmp_path: Path) -> None:
    assert cli("run", *FAKES, "--dataset", dataset(tmp_path / "own.jsonl", 2), "--out", "out").code == 0
    (tmp_path / "out" / "problems.jsonl").unlink()
    assert cli("report", "out").code == 0 and cli("runs", "show", "out", "--problems").out.count("q") == 2
    assert {row["question"] for row in csv.DictReader((tmp_path / "out" / "report.csv").open())} == {""}
