"""`tandem profile`: measured, kept, shown, and what a run then counts by."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from commands import Cli, dataset
from stub import Reply, Stub

QUICK = ("--concurrency", "2", "--prompt-tokens", "40", "--answer-tokens", "8", "--seconds", "0.5")


def timed() -> Stub:
    """A server with a prefix cache: 1 ms for a new word of a prompt, 10 ms for a token."""
    seen: set[str] = set()

    def respond(body: dict[str, Any]) -> Reply:
        text = str(body["messages"])
        count, again = len(text.split()), text in seen
        seen.add(text)
        cap = min(int(body.get("max_tokens") or 8), 8)
        usage = {"prompt_tokens": count, "cached_tokens": count - 1 if again else 0}
        delay = 0.0 if again else 0.001 * count
        said = ("\\boxed{1}", *("7 ",) * (cap - 1))
        return replace(Reply(), tokens=said, first_delay=delay, token_delay=0.01, finish="length", **usage)

    return Stub(respond=respond, models=[{"id": "mentor"}, {"id": "intern"}])


@pytest.fixture
def stub(serve: Callable[[Stub], Stub]) -> Stub:
    return serve(timed())


def test_a_profile_is_measured_kept_and_shown(cli: Cli, stub: Stub, tmp_path: Path) -> None:
    outcome = cli("profile", "intern", "--endpoint", stub.url, *QUICK, "--json")
    assert outcome.code == 0, outcome.err
    found = json.loads(outcome.out)
    its = found["profile"]
    assert (its["model"], its["concurrency"], its["prompt_tokens"], its["completion_tokens"]) == ("intern", 2, 40, 8)
    assert its["endpoint"] == stub.url.removeprefix("http://") and its["devices"] == 1
    assert 0 < its["uncached"] < its["written"] and its["cached"] <= its["uncached"]
    assert len(found["cycles"]) >= 2 and len(found["notes"]) == 1
    assert Path(found["file"]).parent == tmp_path / "home" / "profiles"
    assert "taken for 1 device (how many there are: --devices N)" in outcome.err
    shown = cli("models", "show", "intern")
    assert shown.code == 0 and found["id"] in shown.out and "device-ms a token" in shown.out
    (row,) = json.loads(cli("models", "show", "intern", "--json").out)["profiles"]
    assert row["id"] == found["id"] and row["written"] == its["written"]


def test_it_is_printed_for_people_with_its_spread_and_what_devices_there_are(cli: Cli, stub: Stub) -> None:
    outcome = cli("profile", "intern", "--endpoint", stub.url, *QUICK, "--devices", "2", "--out", "its.json")
    assert outcome.code == 0, outcome.err
    for part in ("2 devices", "written token", "uncached prompt token", "±", "a written token takes as long as"):
        assert part in outcome.out
    assert "--devices N" not in outcome.err and "written to its.json" in outcome.err
    assert not Path("home/profiles").exists()


@pytest.mark.slow
def test_a_run_counts_device_time_and_own_us_dollars_by_it(cli: Cli, stub: Stub, tmp_path: Path) -> None:
    for role in ("mentor", "intern"):
        assert cli("profile", role, "--endpoint", stub.url, *QUICK).code == 0
    pair = ("--mentor", "mentor", "--mentor-endpoint", stub.url, "--intern", "intern", "--intern-endpoint", stub.url)
    run = (
        "run",
        *pair,
        "--strategy",
        "fixed:low",
        "--dataset",
        dataset(tmp_path / "own.jsonl", 2),
        "--concurrency",
        "2",
    )
    assert cli(*run, "--usd-per-device-hour", "3600", "--out", "out").code == 0
    kept = {
        role: json.loads(next(Path("home/profiles").glob(f"{role}-*.json")).read_text())
        for role in ("mentor", "intern")
    }
    records = map(json.loads, Path("out/records.jsonl").read_text().splitlines())
    entries = [entry for record in records for entry in record["ledger"]["entries"]]
    assert entries
    for entry in entries:
        usage, its = entry["usage"], kept[entry["role"]]["profile"]
        seconds = (usage["prompt"] - usage["cached"]) * its["uncached"] + usage["cached"] * its["cached"]
        seconds += usage["completion"] * its["written"]
        assert entry["device_seconds"] == pytest.approx(seconds)
        assert entry["usd"] == pytest.approx(seconds)  # at US$ 3600 an hour
    told = json.loads(Path("out/run.json").read_text())
    assert told["profile"]["mentor"]["model"] == "mentor" and told["usd_per_device_hour"]["intern"] == 3600
    again = cli(*run, "--usd-per-device-hour", "1", "--resume", "out")  # another price is no other run
    assert again.code == 0, again.err


def test_a_profile_of_another_model_is_used_with_a_warning(cli: Cli, stub: Stub, tmp_path: Path) -> None:
    assert cli("profile", "intern", "--endpoint", stub.url, *QUICK, "--out", "its.json").code == 0
    pair = ("--mentor", "mentor", "--mentor-endpoint", stub.url, "--intern", "intern", "--intern-endpoint", stub.url)
    data = ("--dataset", dataset(tmp_path / "own.jsonl", 1), "--strategy", "mentor-only", "--out", "out")
    outcome = cli("run", *pair, *data, "--mentor-profile", "its.json")
    assert outcome.code == 0 and "is of intern, not of mentor: it is used, and marked" in outcome.err
    told = json.loads(Path("out/run.json").read_text())
    assert told["profile"]["mentor"]["note"] == "of another model, intern"


def test_what_cannot_be_measured_is_refused_in_a_line(cli: Cli, stub: Stub) -> None:
    vendor = cli("profile", "gpt-4o")
    assert vendor.code == 2 and "paid for by the token" in vendor.err and "tandem models show gpt-4o" in vendor.err
    assert cli("profile", "fake").code == 2
    unknown = cli("profile", "qwen2.5-coder-1.6b")
    assert unknown.code == 2 and "Did you mean" in unknown.err
    assert cli("profile", "nobody", "--endpoint", stub.url).code == 1
    missing = cli("solve", "--mentor", "fake", "--intern", "fake", "--intern-profile", "missing.json", "What is 1+1?")
    assert missing.code == 2 and "there is no speed profile at missing.json" in missing.err


@pytest.mark.slow
def test_a_dead_server_leaves_no_profile(cli: Cli) -> None:
    outcome = cli("profile", "intern", "--endpoint", "http://127.0.0.1:9/v1", *QUICK)
    assert outcome.code == 1 and "127.0.0.1:9" in outcome.err and outcome.err.count("\n") <= 2
    assert not Path("home/profiles").exists()
