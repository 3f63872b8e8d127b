"""`tandem runs` and `tandem report` on folders as runs leave them: finished, stopped, going on, damaged."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import pytest
from commands import FAKES, Cli, dataset, script

from tandem.ledger import Entry, Ledger, Role, Usage
from tandem.runs.store import RunStore
from tandem.runs.summary import summarise
from tandem.spec import ModelSpec, Prices
from tandem.statistics.significance import wilson

MENTOR = ModelSpec(name="big", local=False, prices=Prices(input=1.0, output=10.0))
INTERN = ModelSpec(name="small", parameters=1e9, assumed_parameters=True)


def entry(spec: ModelSpec, role: Role, completion: int) -> Entry:
    return Entry.of(spec, role, "answer", Usage(prompt=100, completion=completion), seconds=1.0)


def record(
    problem: str, correct: bool | None, *, error: str | None = None, tokens: int = 50, reference: str = "1"
) -> dict[str, Any]:
    ledger = Ledger(entries=[entry(MENTOR, "mentor", tokens), entry(INTERN, "intern", 10)])
    return {
        "problem": problem,
        "correct": correct,
        "reference": reference,
        "error": error,
        "level": None if error else "low",
        "answered_by": None if error else "intern",
        "truncated": False,
        "seconds": 1.5,
        "synthetic": False,
        "ledger": ledger.model_dump(mode="json"),
    }


def run(
    folder: Path, records: list[dict[str, Any]], *, total: int | None = None, ended: bool = True, **more: Any
) -> RunStore:
    settings = {
        "strategy": "tandem",
        "mentor": {"name": "big"},
        "intern": {"name": "small"},
        "classifier": None,
        "dataset": {"name": "gsm8k", "problems": total or len(records)},
        **more,
    }
    started = f"2026-11-2{len(folder.name) % 10}T10:00:00+00:00"
    store = RunStore.create(folder, {"run": settings, "version": "1", "started": started, "synthetic": False})
    for row in records:
        store.append(row)
    if ended:
        store.finish(summarise(records, None))
    return store


def words(text: str) -> str:
    return " ".join(text.split())


def test_list_shows_what_each_run_came_to_and_where_it_stands(cli: Cli, tmp_path: Path) -> None:
    root = tmp_path / "runs"
    run(root / "a", [record("p1", True), record("p2", False), record("p3", False, error="no luck")])
    run(root / "bb", [record("p1", True)], total=9, ended=False).close()
    going_on = run(root / "nested" / "cccc", [record("p1", None)], total=2, ended=False)
    (root / "broken").mkdir()
    (root / "broken" / "run.json").write_text("{")
    (root / "not a run").mkdir()
    found = json.loads(cli("runs", "list", "--json").out)
    by_name = {Path(row["folder"]).name: row for row in found}
    assert set(by_name) == {"a", "bb", "cccc", "broken"}
    assert {name: row["state"] for name, row in by_name.items()} == {
        **{"a": "finished", "bb": "stopped", "cccc": "running", "broken": "damaged"},
    }
    first = by_name["a"]
    assert (first["strategy"], first["mentor"], first["intern"], first["dataset"]) == (
        "tandem",
        "big",
        "small",
        "gsm8k",
    )
    assert (first["n"], first["total"], first["errors"], first["accuracy"]) == (3, 3, 1, 1 / 3)
    assert first["accuracy_ci95"] == list(wilson(1, 3) or ()) and first["mentor_tokens"] == 150
    assert first["usd"] == pytest.approx(3 * (100 + 500) / 1e6)
    assert (by_name["bb"]["n"], by_name["bb"]["total"], by_name["cccc"]["accuracy"]) == (1, 9, None)
    outcome = cli("runs", "list", str(root))
    assert outcome.code == 0
    assert "broken/run.json is damaged: it is not JSON" in words(outcome.err)
    assert "0.333 [0.061, 0.792]" in words(outcome.out) and "running" in outcome.out and "1/9" in outcome.out
    going_on.close()


def test_list_of_nothing_says_so(cli: Cli, tmp_path: Path) -> None:
    outcome = cli("runs", "list")
    assert outcome.code == 2 and outcome.err.startswith("tandem: there is no folder runs")
    (tmp_path / "runs").mkdir()
    outcome = cli("runs", "list")
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "no runs in runs\n")
    assert cli("runs", "list", "--json").out == "[]\n"


def test_a_summary_that_is_older_than_the_records_is_not_believed(cli: Cli, tmp_path: Path) -> None:
    store = run(tmp_path / "a", [record("p1", False)], total=2)
    with RunStore.reopen(tmp_path / "a", store.manifest()) as again:
        again.append(record("p2", True))  # and then the run was killed
    os.utime(tmp_path / "a" / "summary.json", (1, 1))
    shown = json.loads(cli("runs", "show", "a", "--json").out)
    assert shown["summary"]["n"] == 2 and shown["summary"]["accuracy"] == 0.5 and shown["state"] == "finished"


def test_show_prints_the_manifest_and_the_table(cli: Cli, tmp_path: Path) -> None:
    run(tmp_path / "a", [record("p1", True), record("p2", True)], settings={"sampling": {"seed": 7}})
    outcome = cli("runs", "show", "a")
    assert outcome.code == 0
    lines = [words(line) for line in outcome.out.splitlines()]
    assert {"state finished", "run.mentor.name big", "run.settings.sampling.seed 7", "version 1"} <= set(lines)
    assert "tandem: big + small" in outcome.out and "1.000 (95 % interval" in words(outcome.out)
    outcome = cli("runs", "show", "nothing")
    assert (outcome.code, outcome.err) == (2, "tandem: nothing holds no run (no run.json in it)\n")


def test_damage_is_said_and_the_rest_is_shown(cli: Cli, tmp_path: Path) -> None:
    run(tmp_path / "a", [record("p1", True), record("p2", True)], ended=False).close()
    path = tmp_path / "a" / "records.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"p1"', b'"p7"'))
    for command in (("runs", "show"), ("report",)):
        outcome = cli(*command, "a")
        assert outcome.code == 0
        assert "tandem: a/records.jsonl, line 1: its checksum does not match; it is skipped\n" in outcome.err
        assert "problems │ 1" in words(outcome.out)


def test_diff_compares_the_problems_that_both_have(cli: Cli, tmp_path: Path) -> None:
    rights = [True, True, False, False, True]
    run(tmp_path / "a", [record(f"p{i}", right, tokens=100) for i, right in enumerate(rights)], strategy="mentor-only")
    theirs = [record(f"p{i}", right, tokens=20) for i, right in enumerate([True, False, True, True])]
    run(
        tmp_path / "b",
        [
            *theirs[::-1],
            record("p4", None, tokens=20),  # not judged there
            record("p9", True),
            record("only b", True),
        ],
    )
    found = json.loads(cli("runs", "diff", "a", "b", "--json").out)
    assert (found["common"], found["only"], found["judged"], found["other_reference"]) == (5, [0, 2], 4, [])
    assert found["accuracy"] == [0.5, 0.75] and found["difference"]["value"] == 0.25
    assert found["flipped"] == {"gained": ["p2", "p3"], "lost": ["p1"]} and found["difference"]["mcnemar_p"] == 1.0
    assert found["ratio"]["mentor_tokens"] == pytest.approx(0.2)
    assert found["ratio"]["usd"] == pytest.approx((100 + 200) / (100 + 1000))
    assert found["ratio"]["tflops"] is None  # of the mentor nobody knows the size
    assert (found["costs"][0]["latency"], found["costs"][0]["seconds"]) == (
        7.5,
        None,
    )  # of device time without profiles
    assert found["settings"] == [
        {"path": "strategy", "before": "mentor-only", "after": "tandem"},
        {"path": "dataset.problems", "before": 5, "after": 7},
    ]
    outcome = cli("runs", "diff", "a", "b")
    assert outcome.code == 0
    text = words(outcome.out)
    for said in (
        "strategy mentor-only -> tandem",
        "5 problems in common, 0 only in A, 2 only in B",
        "accuracy 0.500 -> 0.750 over the 4 that both graded",
        "difference +0.250 (95 % interval",
        "2 wrong in A, right in B: p2, p3",
        "1 right in A, wrong in B: p1",
        "mentor tokens 500 -> 100 (0.200 of A)",
        f"US$ {found['costs'][0]['usd']:.4g} -> {found['costs'][1]['usd']:.4g} (0.273 of A)",
        "seconds of latency 7.5 -> 7.5 (1.000 of A)",
    ):
        assert said in text


def test_diff_does_not_take_one_problem_for_another(cli: Cli, tmp_path: Path) -> None:
    run(tmp_path / "a", [record("p1", True), record("p2", False)])
    run(tmp_path / "b", [record("p1", False, reference="2"), record("p2", False)])
    run(tmp_path / "c", [record("p1", False, reference="3")])
    run(tmp_path / "d", [record("q1", False)])
    found = json.loads(cli("runs", "diff", "a", "b", "--json").out)
    assert (found["common"], found["other_reference"], found["flipped"]["lost"]) == (1, ["p1"], [])
    assert "same id and another reference" in cli("runs", "diff", "a", "b").out
    for other in ("c", "d"):
        outcome = cli("runs", "diff", "a", other)
        assert outcome.code == 2 and f"tandem: a and {other} have no problem in common" in outcome.err


def test_report_writes_a_table_and_a_row_for_every_problem(cli: Cli, tmp_path: Path) -> None:
    hostile = '=HYPERLINK("http://evil","x")'
    records = [
        record(hostile, True),
        record("-1+1", False),
        record("p,3", False, error='a "quote",\nand | <script>alert(1)</script> \x1b[31m'),
        record("p4", None),
    ]
    run(tmp_path / "a", records)
    outcome = cli("report", "a", "--json")
    assert outcome.code == 0 and json.loads(outcome.out)["n"] == 4
    assert outcome.err == "written: a/report.html, a/report.md, a/report.csv\n"
    with (tmp_path / "a" / "report.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == ["'" + hostile, "'-1+1", "p,3", "p4"]
    assert [row["correct"] for row in rows] == ["true", "false", "false", ""]
    assert (rows[0]["level"], rows[0]["mentor_tokens"], rows[0]["intern_tokens"]) == ("low", "50", "10")
    assert float(rows[0]["usd"]) == pytest.approx(600 / 1e6) and rows[0]["tflops"] == ""
    assert float(rows[0]["seconds"]) == 1.5 and rows[0]["truncated"] == "false"
    assert rows[2]["error"] == 'a "quote", and | <script>alert(1)</script>  [31m'
    page = (tmp_path / "a" / "report.md").read_text()
    assert page.startswith("# tandem: big + small\n") and "| accuracy | 0.333 " in page
    assert "<script>" not in page and "\\| &lt;script&gt;" in page and "\x1b" not in page
    assert "of the 3 that could be graded" in page


def test_report_of_a_run_that_stopped_says_so(cli: Cli, tmp_path: Path) -> None:
    run(tmp_path / "a", [record("p1", True)], total=4, ended=False).close()
    outcome = cli("report", "a")
    assert outcome.code == 0 and "the run is stopped: these are the figures of 1 problem\n" in outcome.err
    assert (tmp_path / "a" / "report.md").exists() and "problems │ 1" in words(outcome.out)
    (tmp_path / "a" / "report.md").unlink()
    (tmp_path / "a" / "report.md").mkdir()
    outcome = cli("report", "a")
    assert outcome.code == 1 and "tandem: cannot write a/report.md: Is a directory" in outcome.err
    assert "problems" in outcome.out  # the figures are shown where they cannot be written


def test_a_real_run_is_listed_shown_and_reported(cli: Cli, tmp_path: Path) -> None:
    own = dataset(tmp_path / "own.jsonl", 4)
    for strategy in ("tandem", "mentor-only"):
        out = f"runs/{strategy}"
        assert cli("run", *FAKES, "--dataset", own, "--strategy", strategy, "--out", out).code == 0
    found = json.loads(cli("runs", "list", "--json").out)
    assert {(Path(row["folder"]).name, row["state"], row["synthetic"]) for row in found} == {
        ("tandem", "finished", True),
        ("mentor-only", "finished", True),
    }
    difference = json.loads(cli("runs", "diff", "runs/mentor-only", "runs/tandem", "--json").out)
    assert difference["common"] == 4 and difference["difference"]["value"] == 0.0 and difference["synthetic"]
    assert "synthetic: a fake model took part" in cli("runs", "show", "runs/tandem").out
    summary = json.loads(cli("report", "runs/tandem", "--json").out)
    assert summary == json.loads((tmp_path / "runs" / "tandem" / "summary.json").read_text())
    assert len((tmp_path / "runs" / "tandem" / "report.csv").read_text().splitlines()) == 5


def test_a_run_ends_in_a_verdict_that_a_report_tells_again(cli: Cli, tmp_path: Path) -> None:
    own = dataset(tmp_path / "own.jsonl", 8)
    prices = tmp_path / "prices.yaml"
    prices.write_text("fake: {input: 10, output: 40, date: 2026-11-22}\n")
    asked = ("run", *FAKES, "--dataset", own, "--prices", str(prices), "--effort", "none,low,answer")
    outcome = cli(*asked, "--out", "a")
    told = next(line for line in outcome.out.splitlines() if line.startswith("On these 8 problems Tandem is right in "))
    assert "US$" in told and " per 1,000 problems instead of US$" in told and "Synthetic" in told
    saved = json.loads((tmp_path / "a" / "summary.json").read_text())
    assert saved["unit"] == saved["verdict"]["unit"] == "usd" and saved["verdict"]["sentence"] == told
    cost = saved["cost"]["usd"]
    assert cost["total"] == pytest.approx(cost["mentor"] + cost["intern"]) == pytest.approx(8 * cost["mean"])
    assert saved["verdict"]["per_1000"]["ours"] == pytest.approx(1000 * cost["mean"])
    assert words(outcome.out).index("│ US$") < words(outcome.out).index("│ TFLOPs")  # the run's unit comes first
    assert cli("report", "a").out.splitlines()[-1] == told
    for name in ("verdict", "cost", "unit"):  # as an earlier version wrote it
        del saved[name]
    (tmp_path / "a" / "summary.json").write_text(json.dumps(saved))
    assert cli("report", "a").out == outcome.out
    assert "per 1,000 problems instead of US$" in (tmp_path / "a" / "report.md").read_text()


def test_an_intern_on_own_hardware_beside_a_price_is_free_and_that_is_said(cli: Cli, tmp_path: Path) -> None:
    own = dataset(tmp_path / "own.jsonl", 3)
    (tmp_path / "prices.yaml").write_text(f"{script(tmp_path / 'm.json', rules=[])}: {{input: 1, output: 2}}\n")
    pair = ("--mentor", f"fake:{tmp_path / 'm.json'}", "--intern", "fake", "--prices", "prices.yaml")
    outcome = cli("run", *pair, "--dataset", own, "--effort", "none,answer", "--out", "a")
    assert outcome.code == 0, outcome.err
    assert "│ free" in words(outcome.out.replace("┃", "│")) and "fake on own hardware is counted as free" in outcome.out


@pytest.mark.parametrize("strategy", ["mentor-only", "intern-only"])
def test_a_model_alone_gets_no_verdict_on_itself(cli: Cli, tmp_path: Path, strategy: str) -> None:
    own = dataset(tmp_path / "own.jsonl", 2)
    outcome = cli("run", *FAKES, "--dataset", own, "--strategy", strategy, "--json")
    assert json.loads(outcome.out)["verdict"] is None


def test_a_corrected_grade_changes_the_verdict(cli: Cli, tmp_path: Path) -> None:
    own = dataset(tmp_path / "own.jsonl", 3)
    assert cli("run", *FAKES, "--dataset", own, "--out", "a").code == 0
    before = json.loads((tmp_path / "a" / "summary.json").read_text())["verdict"]["accuracy"]
    rows = [json.loads(line) | {"answer": "17"} for line in Path(own).read_text().splitlines()]
    Path(own).write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert cli("grade", "a", "--dataset", own, "--write").code == 0
    after = json.loads(cli("report", "a", "--json").out)
    assert (before, after["verdict"]["accuracy"], after["unit"]) == (1.0, 0.0, "tflops")
