"""A run that is killed again and again ends like one that nobody disturbed, and pays for no finished call twice."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from scripted_pair import INTERN, MENTOR, MODELS, PROBE, respond, write_classifier, write_problems
from stub import Stub

from tandem.storage.jsonl import read_lines

PROBLEMS, KILLS = 200, 20


def command(stub: Stub, tmp_path: Path, *more: str) -> list[str]:
    pair = ("--mentor", MENTOR, "--mentor-endpoint", stub.url, "--intern", INTERN, "--intern-endpoint", stub.url)
    run = (sys.executable, "-m", "tandem", "run", *pair, "--dataset", str(tmp_path / "own.jsonl"), "--json")
    # Thrifty: an eager mentor writes on by the clock, so that its overshoot differs from run to run.
    return [*run, "--classifier", str(tmp_path / "scripted"), "--pace", "thrifty", "--concurrency", "8", *more]


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def asked(stub: Stub) -> int:
    """Return how many calls the server has seen, the probes at a run's start not counted."""
    return sum(not chat.body["messages"][0]["content"].startswith(PROBE) for chat in stub.chats)


def essence(record: dict[str, Any]) -> dict[str, Any]:
    """Drop what the clock and the order of the calls decide."""
    kept = {k: v for k, v in record.items() if k != "seconds"}
    clock = ("seconds", "call")
    kept["ledger"] = [{k: v for k, v in e.items() if k not in clock} for e in record["ledger"]["entries"]]
    return kept


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_twenty_kills_leave_no_trace(serve: Callable[[Stub], Stub], tmp_path: Path) -> None:
    stub = serve(Stub(respond=partial(respond, token_delay=0.001), models=MODELS))
    write_problems(tmp_path / "own.jsonl", PROBLEMS)
    write_classifier(tmp_path / "scripted")
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    whole = subprocess.run(command(stub, tmp_path, "--out", str(undisturbed)), capture_output=True, check=True)
    asked_once = asked(stub)

    draw, kills, calls = random.Random(7), 0, killed / "calls.jsonl"
    process = subprocess.Popen(command(stub, tmp_path, "--out", str(killed)), stdout=subprocess.PIPE)
    while kills < KILLS:
        enough = lines(calls) + draw.randint(1, 60)
        while lines(calls) < enough:
            assert process.poll() is None, f"the run ended after {kills} kills"
            time.sleep(0.005)
        time.sleep(draw.uniform(0, 0.02))
        process.kill()
        process.communicate()
        kills += 1
        process = subprocess.Popen(command(stub, tmp_path, "--resume", str(killed)), stdout=subprocess.PIPE)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0

    got = {r["problem"]: essence(r) for r in read_lines(killed / "records.jsonl")}
    expected = {r["problem"]: essence(r) for r in read_lines(undisturbed / "records.jsonl")}
    assert got == expected and len(got) == PROBLEMS
    assert len({r["level"] for r in expected.values()}) >= 3  # the climb was a real one
    assert lines(killed / "records.jsonl") == PROBLEMS  # no problem twice

    journal = list(read_lines(calls))
    ends = [(row["problem"], row["digest"], row["occurrence"]) for row in journal if row["event"] == "end"]
    assert max(Counter(ends).values()) == 1  # no finished call repeated
    events = Counter(row["event"] for row in journal)
    assert events["open"] == events["end"] + events["lost"] and events["end"] == asked_once
    assert asked(stub) - asked_once <= events["open"]  # the server saw no call that is not in the journal
    summary, reference = json.loads(said), json.loads(whole.stdout)
    assert summary["lost"]["calls"] == events["lost"] > 0 and reference["lost"]["calls"] == 0
    same = ("n", "accuracy", "levels", "mentor_tokens", "intern_tokens", "probe_tokens", "errors")
    assert {k: summary[k] for k in same} == {k: reference[k] for k in same}
