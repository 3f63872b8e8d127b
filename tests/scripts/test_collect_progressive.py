"""The collecting script in processes of its own: killed, stopped and resumed with other workers, it ends the same."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from commands import dataset, script
from scripted_pair import INTERN, MENTOR, MODELS, respond, write_problems
from stub import Stub

from tandem.collection.plan import shard_of
from tandem.collection.rows import calls, files, key_of
from tandem.storage.jsonl import read_lines

SCRIPT = Path(__file__).parents[2] / "scripts" / "collect_progressive.py"
LADDER = "none,low=10,medium=30,high=200,answer"
ROWS = 8  # of a problem: the ladder and three hints

pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="signals"),
    pytest.mark.usefixtures("heard"),
    pytest.mark.slow,
]


@pytest.fixture
def heard() -> Any:
    """Let children hear Ctrl-C: tests that run in the background ignore it, and children inherit that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def command(model: str, own: str, out: Path, *more: str) -> list[str]:
    pair = ("--mentor", model, "--intern", model, "--dataset", own)
    asked = ("--effort", LADDER, "--hints", "--concurrency", "6", "--out", str(out))
    return [sys.executable, str(SCRIPT), *pair, *asked, *more]


def collected(out: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in files(out, "rows"))


def wait_for(process: subprocess.Popen[str], out: Path, rows: int) -> None:
    deadline = time.monotonic() + 120
    while collected(out) < rows:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)


def run(arguments: list[str], code: int = 0) -> subprocess.CompletedProcess[str]:
    ended = subprocess.run(arguments, check=False, capture_output=True, text=True, timeout=240)
    assert ended.returncode == code, ended.stderr
    return ended


def tables(out: Path) -> tuple[bytes, bytes]:
    return (out / "table.jsonl.gz").read_bytes(), (out / "table.parquet").read_bytes()


def test_kills_at_any_moment_leave_no_trace(tmp_path: Path) -> None:
    """SIGKILL to the parent, to a worker, to all; each time with another number of workers."""
    problems, draw = 60, random.Random(3)
    own, model = dataset(tmp_path / "own.jsonl", problems), script(tmp_path / "model.json")
    run(command(model, own, tmp_path / "whole"))
    script(tmp_path / "model.json", token_seconds=0.004)
    out, workers = tmp_path / "killed", iter(["3", None, "2", "4", "2"])
    for kill, number in enumerate(workers):
        more = ("--parallel", "--num-workers", number) if number else ()
        process = subprocess.Popen(
            command(model, own, out, *more), stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        wait_for(process, out, collected(out) + draw.randint(5, 40))
        time.sleep(draw.uniform(0, 0.1))
        children = [int(pid) for pid in _children(process.pid)]
        if number and kill % 2:
            os.kill(draw.choice(children), signal.SIGKILL)
            _, complained = process.communicate(timeout=120)
            assert process.returncode == 1 and "ended without a report" in complained
            continue
        for pid in (process.pid, *(children if kill else [])):
            os.kill(pid, signal.SIGKILL)
        process.communicate(timeout=120)
    script(tmp_path / "model.json")
    before = collected(out)
    assert 0 < before < problems * ROWS
    run(command(model, own, out))
    assert tables(out) == tables(tmp_path / "whole")
    keys = Counter(key_of(row) for path in files(out, "rows") for row in read_lines(path))
    assert len(keys) == problems * ROWS and set(keys.values()) == {1}
    _nothing_bought_twice(out)


def _nothing_bought_twice(out: Path) -> None:
    """Finished texts of the mentor are never written again, and what kills lost is a few tokens."""
    whole = Counter(
        (row["problem"], row["source"]) for p in files(out, "texts") for row in read_lines(p) if "counts" in row
    )
    assert set(whole.values()) == {1}
    ended = sum(row["completion"] for row in calls(out) if row["event"] == "end" and row["role"] == "mentor")
    assert ended <= 60 * (
        48 + 10
    )  # what killed calls had written, but for the last few tokens, was not asked for again


def _children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split() if sys.platform == "linux" else []


def test_two_workers_never_do_the_same(tmp_path: Path) -> None:
    own, out = dataset(tmp_path / "own.jsonl", 30), tmp_path / "out"
    said = run(command("fake", own, out, "--parallel", "--num-workers", "3", "--json"))
    summary = json.loads(said.stdout)
    assert (summary["rows"], summary["rows_in_table"], summary["problems_left"]) == (240, 240, 0)
    assert [path.name for path in files(out, "rows")] == ["rows-0.jsonl", "rows-1.jsonl", "rows-2.jsonl"]
    for number, path in enumerate(files(out, "rows")):
        assert {shard_of(row["problem"], 3) for row in read_lines(path)} == {number}
    asked = Counter((row["problem"], row["role"]) for row in calls(out) if row["event"] == "open")
    assert {asked[f"q{i}", "mentor"] for i in range(30)} == {2}
    assert {asked[f"q{i}", "intern"] for i in range(30)} == {7}  # four levels and three hints
    run(command("fake", own, tmp_path / "alone"))
    assert tables(out) == tables(tmp_path / "alone")


async def test_workers_share_the_endpoints(tmp_path: Path) -> None:
    """Two servers of the intern and one of the mentor, three workers: each problem's levels meet one server."""
    write_problems(tmp_path / "own.jsonl", 12)
    out = tmp_path / "out"
    async with (
        Stub(respond=respond, models=MODELS) as mentor,
        Stub(respond=respond, models=MODELS) as one,
        Stub(respond=respond, models=MODELS) as two,
    ):
        pair = ("--mentor", MENTOR, "--mentor-endpoint", mentor.url, "--intern", INTERN)
        where = ("--intern-endpoint", f"{one.url},{two.url}", "--dataset", str(tmp_path / "own.jsonl"))
        more = ("--effort", "none,low=10,medium=30,answer", "--parallel", "--num-workers", "3", "--json")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, str(SCRIPT), *pair, *where, *more, "--out", str(out)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        said, complained = await process.communicate()
        assert process.returncode == 0, complained.decode()
        asked = [[chat for chat in stub.chats if chat.body["model"] == INTERN] for stub in (mentor, one, two)]
    assert json.loads(said)["rows_in_table"] == 48
    assert not asked[0] and asked[1] and asked[2]


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("more", [(), ("--parallel", "--num-workers", "2")])
def test_an_interrupted_collection_says_how_to_go_on(
    tmp_path: Path, sent: signal.Signals, more: tuple[str, ...]
) -> None:
    model, own = script(tmp_path / "model.json", token_seconds=0.1), dataset(tmp_path / "own.jsonl", 40)
    out = tmp_path / "out"
    whole = command(model, own, out, *more, "--json")
    process = subprocess.Popen(whole, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(process, out, 12)
    refused = run(whole, code=2)
    assert f"is being written by another process ({process.pid}" in refused.stderr
    process.send_signal(sent)
    said, complained = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in complained
    summary = json.loads(said)
    assert summary["stopped"] == "interrupted" and 12 <= summary["rows_in_table"] < 320
    assert f"--out {out}" in complained and complained.endswith("tandem: interrupted\n")
    lost = sum(row["event"] == "open" for row in calls(out)) - sum(row["event"] == "end" for row in calls(out))
    assert lost == 0  # every call's end was written down
    script(tmp_path / "model.json")
    assert json.loads(run(whole).stdout)["problems_left"] == 0


def test_limits_failures_and_dry_runs(tmp_path: Path) -> None:
    own, out = dataset(tmp_path / "own.jsonl", 6), tmp_path / "out"
    dry = json.loads(run(command("fake", own, out, "--dry-run", "--json")).stdout)
    assert dry["calls"] == {"mentor": 12, "intern": 42} and not out.exists()
    slow = script(tmp_path / "model.json", token_seconds=0.05)
    stopped = run(command(slow, own, out, "--max-minutes", "0.02"))
    assert "--max-minutes 0.02 are over. Continue with the same command: python " in stopped.stderr
    script(tmp_path / "model.json", rules=[{"when": "What is 3+0", "text": "no", "fault": "no luck"}])
    failed = run(command(slow, own, out), code=1)
    assert "1 problem failed, see errors*.jsonl" in failed.stderr
    script(tmp_path / "model.json")
    run(command(slow, own, out))
    assert "problems to do: 0;" in run(command(slow, own, out, "--estimate")).stdout


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--samples", "2"), "at temperature 0 are all the same"),
        (("--mentor-type", "api"), "give --mentor-endpoint URL"),
        (("--hints", "60,20"), "rising percentages"),
        (("--max-usd", "0"), "0"),
    ],
)
def test_bad_wishes_are_refused_in_one_line(tmp_path: Path, more: tuple[str, ...], said: str) -> None:
    ended = run(command("fake", dataset(tmp_path / "own.jsonl", 2), tmp_path / "out", *more), code=2)
    assert said in ended.stderr and len(ended.stderr.splitlines()) == 1
