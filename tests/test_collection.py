"""Progressive collection on fake models: every row once, whatever interrupts it, and a table without texts."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import dataset, script

from tandem.errors import UsageError
from tandem.evaluation.collection import Collector, export
from tandem.evaluation.jsonl import read_lines
from tandem.ladder import parse_ladder
from tandem.models.fake import FakeModel, Rule, Script
from tandem.sufficiency.signals import NAMES
from tandem.types import Problem

LADDER = "none,low=10,medium=30,high=200,answer"
LEVELS = ["none", "low", "medium", "high", "answer"]
SCRIPT = Path(__file__).parent.parent / "scripts" / "collect_progressive.py"


def problems(n: int) -> list[Problem]:
    return [Problem.from_text(f"Zebras number {i}, so how many?", id=f"p{i}", reference=str(i)) for i in range(n)]


def collector(out: Path, *, mentor: FakeModel | None = None, ladder: str = LADDER) -> Collector:
    return Collector(mentor or FakeModel(parameters=7e9), FakeModel(), parse_ladder(ladder), out)


async def test_a_row_for_every_problem_and_level_of_one_insight(tmp_path: Path) -> None:
    mentor = FakeModel()
    collected = collector(tmp_path, mentor=mentor)
    assert await collected.collect(problems(6), concurrency=3) == 0
    rows = list(read_lines(tmp_path / "rows.jsonl"))
    assert sorted((r["problem"], r["level"]) for r in rows) == sorted((f"p{i}", k) for i in range(6) for k in LEVELS)
    assert len(mentor.calls) == 12  # one insight and one answer a problem
    by_level = {r["level"]: r for r in rows if r["problem"] == "p3"}
    assert all(by_level[level]["correct"] and by_level[level]["extracted"] for level in LEVELS)
    assert [by_level[level]["insight_tokens"] for level in LEVELS[:4]] == [0, 10, 30, 48]
    assert by_level["high"]["insight"].startswith(by_level["low"]["insight"])
    assert [by_level[level]["insight_finished"] for level in LEVELS[1:4]] == [False, False, True]
    assert set(by_level["low"]["signals"]) == {"16", "32", "64", "128", "all"}
    assert set(by_level["low"]["signals"]["all"]) == set(NAMES)
    assert "signals" not in by_level["answer"]


async def test_levels_beyond_the_insights_end_are_marked_as_the_same(tmp_path: Path) -> None:
    collected = collector(tmp_path, ladder="low=20,medium=100,high=200")
    await collected.collect(problems(1))
    assert {r["level"]: r["same"] for r in collected.rows} == {"low": False, "medium": False, "high": True}


async def test_what_is_there_is_not_collected_again(tmp_path: Path) -> None:
    await collector(tmp_path).collect(problems(2))
    mentor = FakeModel()
    again = collector(tmp_path, mentor=mentor)
    assert await again.collect(problems(3)) == 0
    assert len(list(read_lines(tmp_path / "rows.jsonl"))) == 15
    assert len(mentor.calls) == 2  # of the third problem alone


async def test_a_failed_problem_is_written_down_and_made_up_for(tmp_path: Path) -> None:
    fault = Rule(text="Goal: a b c", when="number 1,", purpose="insight", fault="no luck", fault_after=2)
    broken = FakeModel(Script(rules=(fault,)))
    assert await collector(tmp_path, mentor=broken).collect(problems(3)) == 1
    assert list(read_lines(tmp_path / "errors.jsonl")) == [{"problem": "p1", "error": "no luck"}]
    assert await collector(tmp_path).collect(problems(3)) == 0
    pairs = [(r["problem"], r["level"]) for r in read_lines(tmp_path / "rows.jsonl")]
    assert len(pairs) == len(set(pairs)) == 15


async def test_no_problem_starts_after_the_time(tmp_path: Path) -> None:
    collected = collector(tmp_path)
    assert await collected.collect(problems(3), max_seconds=0) == 0
    assert collected.rows == []


def test_another_ladder_or_pair_is_refused_by_name(tmp_path: Path) -> None:
    collector(tmp_path)
    with pytest.raises(UsageError, match="another ladder; take another --out"):
        collector(tmp_path, ladder="none,low=20,answer")
    with pytest.raises(UsageError, match="another mentor"):
        collector(tmp_path, mentor=FakeModel(name="other"))


async def test_the_table_has_no_text_of_anybody(tmp_path: Path) -> None:
    collected = collector(tmp_path)
    await collected.collect(problems(4))
    words = {w for r in collected.rows for w in f"{r['text']} {r.get('insight', '')}".split() if len(w) > 3}
    assert {"equation", "numbers", "\\boxed{3}"} <= words  # the rows have them
    assert export(collected.rows, tmp_path / "a" / "table.jsonl.gz") == 20
    packed = (tmp_path / "a" / "table.jsonl.gz").read_bytes()
    table = [json.loads(line) for line in gzip.decompress(packed).decode().splitlines()]
    assert [(r["problem"], r["level"]) for r in table] == sorted((f"p{i}", k) for i in range(4) for k in LEVELS)
    strings = {(key, value) for row in table for key, value in row.items() if isinstance(value, str)}
    assert {key for key, _ in strings} == {"problem", "level"}  # ids and level names; all else is numbers
    assert b"Zebras" not in gzip.decompress(packed)
    export(reversed(collected.rows), tmp_path / "b.gz")
    assert (tmp_path / "b.gz").read_bytes() == packed  # the order of arrival does not show


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_a_killed_collection_goes_on_and_no_row_is_there_twice(tmp_path: Path) -> None:
    slow = script(tmp_path / "model.json", token_seconds=0.01)
    out, own = tmp_path / "out", dataset(tmp_path / "own.jsonl", 12)
    command = [sys.executable, str(SCRIPT), "--mentor", slow, "--intern", slow, "--dataset", own]
    command += ["--effort", LADDER, "--concurrency", "2", "--out", str(out)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    rows = out / "rows.jsonl"
    deadline = time.monotonic() + 240
    while not (rows.exists() and rows.read_bytes().count(b"\n") >= 7):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = list(read_lines(rows))
    assert 7 <= len(before) < 60
    script(tmp_path / "model.json")  # the same model, in a hurry now
    ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=240)
    assert ended.returncode == 0
    assert f"60rowsin{out / 'table.jsonl.gz'}" in "".join(ended.stderr.split())  # however the line was wrapped
    after = list(read_lines(rows))
    assert after[: len(before)] == before
    expected = sorted((f"q{i}", level) for i in range(12) for level in LEVELS)
    assert sorted((r["problem"], r["level"]) for r in after) == expected
    table = gzip.decompress((out / "table.jsonl.gz").read_bytes()).decode().splitlines()
    assert sorted((r["problem"], r["level"]) for r in map(json.loads, table)) == expected


async def test_collecting_can_be_cancelled(tmp_path: Path) -> None:
    mentor = FakeModel(Script(token_seconds=0.05))
    collected = collector(tmp_path, mentor=mentor)
    task = asyncio.create_task(collected.collect(problems(2)))
    while not mentor.calls:  # noqa: ASYNC110 (there is no event to wait for)
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(mentor.aborted) == len(mentor.calls)  # nothing writes on
