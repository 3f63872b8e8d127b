"""`tandem grade`: a run graded again without a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from commands import FAKES, Cli, dataset


@pytest.fixture
def run(cli: Cli, tmp_path: Path) -> Path:
    """Return the folder of a run over own.jsonl, whose four answers are right."""
    outcome = cli("run", *FAKES, "--dataset", dataset(tmp_path / "own.jsonl", 4), "--out", "out")
    assert outcome.code == 0
    return tmp_path / "out"


def references(tmp_path: Path, **answers: str) -> None:
    """Give some problems of own.jsonl other references."""
    path = tmp_path / "own.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps({**r, "answer": answers.get(r["id"], r["answer"])}) + "\n" for r in rows))


def verdicts(folder: Path) -> dict[str, tuple[Any, Any]]:
    """Return (correct, reference) of each problem's last record."""
    lines = (folder / "records.jsonl").read_text().splitlines()
    return {r["problem"]: (r["correct"], r["reference"]) for r in map(json.loads, lines)}


def put(folder: Path, record: dict[str, Any]) -> None:
    """Append a record, as an older version wrote it: without a checksum."""
    with (folder / "records.jsonl").open("a") as file:
        file.write(json.dumps(record) + "\n")


def record_of(folder: Path, problem: str) -> dict[str, Any]:
    lines = map(json.loads, (folder / "records.jsonl").read_text().splitlines())
    found: dict[str, Any] = next(r for r in lines if r["problem"] == problem)
    found.pop("crc32", None)
    return found


def test_nothing_changes_where_nothing_changed(cli: Cli, run: Path) -> None:
    before = (run / "records.jsonl").read_bytes()
    for path in ("out", "out/records.jsonl"):
        outcome = cli("grade", path, "--write")
        assert (outcome.code, outcome.err) == (0, "")
        assert outcome.out.startswith("4 records, 0 changed\naccuracy 1.000 -> 1.000")
    assert (run / "records.jsonl").read_bytes() == before


def test_what_changed_is_shown_and_only_written_where_asked(cli: Cli, run: Path, tmp_path: Path) -> None:
    references(tmp_path, q2="7", q3="3.0")
    before = (run / "records.jsonl").read_bytes()
    outcome = cli("grade", "out", "--verbose")
    assert outcome.out.startswith("4 records, 1 changed (0 now right, 1 now wrong)\naccuracy 1.000 -> 0.750")
    assert "q2: right -> wrong, answer 2, reference 7" in outcome.out and "--write" in outcome.err
    assert (run / "records.jsonl").read_bytes() == before

    shown = json.loads(cli("grade", "out", "--json", "--write").out)
    assert shown["changed"] == [{"problem": "q2", "before": True, "after": False}]
    assert (shown["n"], shown["accuracy_before"], shown["accuracy"], shown["written"]) == (4, 1.0, 0.75, True)
    assert (run / "records.jsonl").read_bytes().startswith(before)  # appended
    assert verdicts(run)["q2"] == (False, "7") and verdicts(run)["q1"] == (True, "1")
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["n"], summary["accuracy"]) == (4, 0.75)
    assert cli("grade", "out").out.startswith("4 records, 0 changed\naccuracy 0.750 -> 0.750")


def test_the_corrected_run_is_still_the_same_run(cli: Cli, run: Path, tmp_path: Path) -> None:
    references(tmp_path, q2="7")
    assert cli("grade", "out", "--write").code == 0
    outcome = cli("run", *FAKES, "--dataset", str(tmp_path / "own.jsonl"), "--resume", "out", "--json")
    assert outcome.code == 0
    assert json.loads(outcome.out)["accuracy"] == 0.75


def test_without_its_data_set_the_records_references_count(cli: Cli, run: Path, tmp_path: Path) -> None:
    put(run, {**record_of(run, "q1"), "correct": False})
    (tmp_path / "own.jsonl").unlink()
    outcome = cli("grade", "out")
    assert outcome.code == 0 and "own.jsonl: no such file" in outcome.err
    assert outcome.out.startswith("4 records, 1 changed (1 now right, 0 now wrong)")


def test_another_data_set_may_be_named_and_must_fit(cli: Cli, run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.jsonl"
    other.write_text('{"id": "q0", "problem": "What?", "answer": "9"}\n')
    outcome = cli("grade", "out", "--dataset", str(other), "--json")
    assert [change["problem"] for change in json.loads(outcome.out)["changed"]] == ["q0"]
    other.write_text('{"id": "z", "problem": "What?", "answer": "9"}\n')
    outcome = cli("grade", "out", "--dataset", str(other))
    assert (outcome.code, outcome.out) == (2, "") and "none of the 4 problems" in outcome.err
    outcome = cli("grade", "out", "--split", "test")
    assert outcome.code == 2 and "give that too" in outcome.err


def test_a_failed_problem_stays_wrong_and_a_text_without_reference_unjudged(cli: Cli, run: Path) -> None:
    put(run, {**record_of(run, "q1"), "correct": None, "error": "the endpoint is down"})
    put(run, {**record_of(run, "q2"), "problem": "new", "correct": None, "reference": None})
    shown = json.loads(cli("grade", "out", "--json").out)
    assert shown["changed"] == [{"problem": "q1", "before": None, "after": False}]
    assert (shown["n"], shown["not_judged"], shown["accuracy"]) == (5, 1, 0.75)


def test_a_damaged_record_is_named_and_passed_over(cli: Cli, run: Path) -> None:
    path = run / "records.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([lines[0].replace('"level"', '"lavel"'), *lines[1:]]))
    outcome = cli("grade", "out")
    assert outcome.out.startswith("3 records, 0 changed") and "line 1" in outcome.err


def test_bad_paths(cli: Cli, run: Path, tmp_path: Path) -> None:
    for path, said in (("nowhere", "no such folder or file"), (".", "holds no run")):
        outcome = cli("grade", path)
        assert (outcome.code, outcome.out, outcome.err.count("\n")) == (2, "", 1) and said in outcome.err
    alone = tmp_path / "alone.jsonl"
    alone.write_bytes((run / "records.jsonl").read_bytes())
    assert cli("grade", "alone.jsonl").out.startswith("4 records, 0 changed")
    outcome = cli("grade", "alone.jsonl", "--write")
    assert outcome.code == 2 and "needs the run's folder" in outcome.err
    alone.write_text('{"a": 1}\n')
    outcome = cli("grade", "alone.jsonl")
    assert outcome.code == 2 and "does not hold records of a run" in outcome.err
    alone.write_text("")
    assert "holds no records" in cli("grade", "alone.jsonl").err


CODE = [
    {"id": "c0", "problem": "Write f: twice x.", "task": "code", "tests": "assert f(2) == 4", "entry_point": "f"},
    {"id": "c1", "problem": "Write g: x plus 1.", "task": "code", "tests": "assert g(2) == 3", "entry_point": "g"},
]


def test_code_is_run_only_where_that_is_allowed(cli: Cli, run: Path, tmp_path: Path) -> None:
    (tmp_path / "code.jsonl").write_text("".join(json.dumps(row) + "\n" for row in CODE))
    answers = {"c0": "```python\ndef f(x):\n    return 2 * x\n```", "c1": "```python\ndef g(x):\n    return x\n```"}
    template = record_of(run, "q0")
    records = [{**template, "problem": id, "text": text, "correct": None} for id, text in answers.items()]
    (tmp_path / "alone.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    outcome = cli("grade", "alone.jsonl", "--dataset", "code.jsonl")
    assert outcome.code == 2 and "allow that with --allow-code-execution" in outcome.err
    allowed = ("--allow-code-execution", "--sandbox", "process", "--json")
    shown = json.loads(cli("grade", "alone.jsonl", "--dataset", "code.jsonl", *allowed).out)
    assert {change["problem"]: change["after"] for change in shown["changed"]} == {"c0": True, "c1": False}
