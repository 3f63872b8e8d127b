"""Ctrl-C during a run: it stops at once, says how to go on, and keeps what was done."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import Cli, dataset, script

pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="signals to another process"),
    pytest.mark.usefixtures("heard"),
    pytest.mark.slow,
]


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_says_how_to_go_on_and_resume_completes_it(
    cli: Cli, tmp_path: Path, sent: signal.Signals
) -> None:
    slow = script(tmp_path / "model.json", token_seconds=0.02)
    pair = ("--mentor", slow, "--intern", slow, "--strategy", "intern-only")
    arguments = ("run", *pair, "--dataset", dataset(tmp_path / "own.jsonl", 40), "--concurrency", "2")
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-m", "tandem", *arguments, "--out", str(out), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    records = out / "records.jsonl"
    deadline = time.monotonic() + 240
    while not (records.exists() and records.read_bytes().count(b"\n") >= 3):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(sent)
    said, complained = process.communicate(timeout=120)
    assert process.returncode == 130
    partial = json.loads(said)
    assert partial["stopped"] == "interrupted"
    assert f"--resume {out}" in complained and complained.endswith("tandem: interrupted\n")
    assert "Traceback" not in complained
    done = len(records.read_text().splitlines())
    summary = json.loads((out / "summary.json").read_text())
    assert 3 <= done < 40 and (summary["n"], summary["errors"]) == (done, 0) and summary == partial

    script(tmp_path / "model.json")  # the same model, in a hurry now
    outcome = cli(*arguments, "--resume", str(out), "--json")
    assert outcome.code == 0
    summary = json.loads(outcome.out)
    assert (summary["n"], summary["errors"], summary["accuracy"]) == (40, 0, 1.0)
    assert len(records.read_text().splitlines()) == 40  # none was solved twice


@pytest.mark.skipif(sys.platform != "linux", reason="the sandbox")
def test_an_interrupt_while_code_is_judged_leaves_no_noise_and_no_process(cli: Cli, tmp_path: Path) -> None:
    rows = [{"problem": f"Write f{i}.", "tests": f"assert f{i}() == 1", "entry_point": f"f{i}"} for i in range(6)]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    endless = script(tmp_path / "model.json", rules=[{"text": "```python\nwhile True: pass\n```"}])
    pair = ("--mentor", endless, "--intern", endless, "--strategy", "intern-only")
    arguments = ("run", *pair, "--dataset", "own.jsonl", "--allow-code-execution", "--sandbox", "process")
    process = subprocess.Popen(
        [sys.executable, "-m", "tandem", *arguments, "--out", "out"], stderr=subprocess.PIPE, text=True, cwd=tmp_path
    )
    calls = tmp_path / "out" / "calls.jsonl"
    deadline = time.monotonic() + 120
    while not (calls.exists() and calls.read_text().count('"event":"end"') == 6):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(1.0)  # two of them are being judged
    process.send_signal(signal.SIGINT)
    complained = process.communicate(timeout=8)[1]  # sooner than the deadline of the first one
    assert process.returncode == 130
    assert [text for text in complained.splitlines() if text] == [
        "getting both models ready",
        "stopped; what is done is in out. Continue with the same command and --resume out",
        "tandem: interrupted",
    ]
