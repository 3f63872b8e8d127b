"""`tandem tune` against two scripted endpoints: plan, bill, verdict, kills, and what it refuses before it sends."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import Cli
from scripted_vendors import INTERN, LADDER, MENTOR, World, bill, vendors, write_csv
from stub import Stub

from tandem.collection.rows import calls
from tandem.storage.jsonl import read_lines

KILLS = 10


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch, apart: Path) -> None:
    monkeypatch.setenv("TANDEM_MENTOR_API_KEY", "for-tests")


def command(stubs: tuple[Stub, Stub], *more: str) -> tuple[str, ...]:
    mentor, intern = stubs
    pair = ("--mentor", MENTOR, "--mentor-endpoint", mentor.url, "--intern", INTERN, "--intern-endpoint", intern.url)
    return ("tune", *pair, "--dataset", "mine.csv", "--effort", LADDER, "--out", "tuned", *more)


def chats(stubs: tuple[Stub, Stub]) -> int:
    return sum(len(stub.chats) for stub in stubs)


def paid(folder: Path) -> list[dict[str, Any]]:
    return [call for part in ("collected", "holdout") for call in calls(folder / part)]


@pytest.mark.slow
def test_a_pair_that_pays(cli: Cli, serve: Callable[[Stub], Stub], tmp_path: Path) -> None:
    stubs = vendors(serve, World())
    write_csv(tmp_path / "mine.csv", 200)
    outcome = cli(*command(stubs, "--yes", "--json"))
    assert outcome.code == 0, outcome.err
    result = json.loads(outcome.out)
    assert result["pays"] is True and result["serves"] == "tandem" and result["sentence"].startswith("Tandem pays.")
    verdict = result["verdict"]
    assert verdict["level"] == 0.9 and verdict["unit"] == "usd" and verdict["cost_ratio"]["high"] < 1
    assert verdict["accuracy_difference"]["low"] <= 0 <= verdict["accuracy_difference"]["high"] or (
        verdict["accuracy_difference"]["low"] > 0
    )
    # To the cent, and beyond: only the question that finds out what an endpoint can is in no record.
    assert result["tuning"]["usd"] == pytest.approx(bill(stubs[0].chats), abs=1e-4)
    saved = (verdict["per_1000"]["mentor"] - verdict["per_1000"]["ours"]) / 1000
    assert result["paid_back"] == pytest.approx(result["tuning"]["usd"] / saved, abs=1)
    files = result["files"]
    assert all(Path(path).exists() for path in files.values())
    assert "report.html" in files["page"]
    served = result["serve"]
    assert f"--classifier {files['classifier']}" in served and f"--intern-endpoint {stubs[1].url}" in served
    held = json.loads((tmp_path / "tuned" / "collected" / "collection.json").read_text())["holdout"]
    assert result["problems"]["held_out"] == len(held)
    card = json.loads((Path(files["classifier"]) / "card.json").read_text())
    assert card["unit"] == "usd"

    # The same again sends nothing, and says the same.
    before = chats(stubs)
    again = cli(*command(stubs, "--json"))  # and there is nothing to ask about
    assert json.loads(again.out) == result and chats(stubs) == before
    # What was held out is what a run may take, by the tuned classifier.
    run = [*command(stubs)[1:9], "--dataset", "mine.csv", "--classifier", files["classifier"], "--estimate"]
    assert cli("run", *run).code == 2
    assert cli("run", *run, "--holdout-of", files["collection"]).code == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("world", "serves", "said"),
    [
        (World(easy=0.25, helped=0.0, sure=0.0), "mentor-only", "Tandem does not pay here"),
        (World(easy=1.0), "intern-only", "Tandem was not tuned: every answer of the intern is right"),
        (World(easy=0.0, helped=0.0), "mentor-only", "Tandem was not tuned: every answer of the intern is wrong"),
    ],
)
def test_pairs_that_do_not_pay(
    cli: Cli, serve: Callable[[Stub], Stub], tmp_path: Path, world: World, serves: str, said: str
) -> None:
    stubs = vendors(serve, world)
    write_csv(tmp_path / "mine.csv", 80)
    outcome = cli(*command(stubs, "--yes", "--json"))
    assert outcome.code == 0, outcome.err
    result = json.loads(outcome.out)
    assert (result["pays"], result["serves"], result["serve"], result["paid_back"]) == (False, serves, None, None)
    assert result["sentence"].startswith(said) and f"--strategy {serves}" in result["sentence"]
    assert result["tuning"]["usd"] == pytest.approx(bill(stubs[0].chats), abs=1e-4)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ten_kills_cost_nothing_twice(serve: Callable[[Stub], Stub], tmp_path: Path) -> None:
    stubs = vendors(serve, World(delay=0.0005))
    write_csv(tmp_path / "mine.csv", 200)
    words = [sys.executable, "-m", "tandem", *command(stubs, "--yes", "--json", "--concurrency", "16")]

    def begun() -> subprocess.Popen[bytes]:
        return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(os.environ))

    draw, process = random.Random(5), begun()
    for at in [*sorted(draw.sample(range(20, 1150), KILLS - 2)), 0, 0]:
        while chats(stubs) < at:
            assert process.poll() is None, f"it ended before request {at}"
            time.sleep(0.002)
        if not at:  # all is collected: while it trains
            assert process.stderr is not None
            assert any(line.startswith(b"draft") for line in process.stderr), "it ended before it had trained"
        process.kill()
        process.communicate()
        process = begun()
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err.decode()
    result = json.loads(out)

    made = paid(tmp_path / "tuned")
    events = Counter(call["event"] for call in made)
    assert events["lost"] > 0 and events["open"] == events["end"] + events["lost"]
    rows = [row for part in ("collected", "holdout") for row in read_lines(tmp_path / "tuned" / part / "rows.jsonl")]
    keys = Counter((row["problem"], row["level"]) for row in rows)
    assert max(keys.values()) == 1 and len({problem for problem, _ in keys}) == 200
    # An answer that had ended was asked for once: what the server saw beyond that was in flight at a kill.
    assert events["end"] == 1200 and chats(stubs) <= 1200 + events["lost"] + 3
    # What the vendor bills lies between what is recorded as paid, and that with the calls in flight at their caps.
    billed = bill(stubs[0].chats)
    assert result["tuning"]["usd"] - 1e-9 <= billed <= result["tuning"]["usd_bound"] + 1e-4
    assert result["sentence"]


@pytest.mark.slow
def test_a_budget_stops_it_in_time_and_a_larger_one_goes_on(
    cli: Cli, serve: Callable[[Stub], Stub], tmp_path: Path
) -> None:
    stubs = vendors(serve, World(mentor_tokens=700))  # far more than usual, so that the plan seems to fit
    write_csv(tmp_path / "mine.csv", 80)
    outcome = cli(*command(stubs, "--yes", "--max-usd", "0.4", "--concurrency", "4"))
    assert outcome.code == 1 and "--max-usd 0.4" in outcome.err and "Continue with" in outcome.err
    first = bill(stubs[0].chats)
    assert 0 < first <= 0.4
    outcome = cli(*command(stubs, "--yes", "--json"))
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["tuning"]["usd"] == pytest.approx(bill(stubs[0].chats), abs=1e-4)


def test_what_is_refused_is_refused_before_the_first_request(
    cli: Cli, serve: Callable[[Stub], Stub], tmp_path: Path
) -> None:
    stubs = vendors(serve, World())
    write_csv(tmp_path / "mine.csv", 200)
    write_csv(tmp_path / "few.csv", 30)
    write_csv(tmp_path / "questions.csv", 200, answers=False)
    for more, said in (
        (("--yes", "--max-usd", "0.1"), "--max-usd 0.1 leaves US$ 0.10"),
        (("--dataset", "questions.csv", "--yes"), "have no answers"),
        (("--dataset", "few.csv", "--yes"), "30 problems are too few"),
        (("--aim", "regret:0.02", "--yes"), "problems would do"),
        (("--unit", "tflops", "--yes"), "gpt-4o"),
        (("--aim", "cheap", "--yes"), "unknown aim 'cheap'"),
        (("--holdout", "1.2", "--yes"), "--holdout takes"),
        (("--effort", "none,low", "--yes"), "answer"),
        (("--effort", "low,answer", "--yes"), "none"),
        ((), "add --yes"),  # no terminal is there to ask
    ):
        outcome = cli(*command(stubs, *more))
        assert outcome.code == 2 and said in outcome.err.splitlines()[-1], outcome.err
    assert not stubs[0].seen and not stubs[1].seen and not (tmp_path / "tuned").exists()


def test_the_plan_is_said_before_it_is_asked(cli: Cli, serve: Callable[[Stub], Stub], tmp_path: Path) -> None:
    stubs = vendors(serve, World())
    write_csv(tmp_path / "mine.csv", 200)
    outcome = cli(*command(stubs))
    assert "400 calls of the mentor and 800 of the intern" in outcome.err
    assert "held out" in outcome.err and "US$" in outcome.err and "device time" in outcome.err
    write_csv(tmp_path / "mine.csv", 1000)
    outcome = cli(*command(stubs))
    assert re.search(r"likely \d+\.\d minutes of device time, at most [12]\d\d\.\d ", outcome.err), outcome.err


def test_a_budget_that_a_part_fits_names_it(cli: Cli, serve: Callable[[Stub], Stub], tmp_path: Path) -> None:
    stubs = vendors(serve, World())
    write_csv(tmp_path / "mine.csv", 400)
    outcome = cli(*command(stubs, "--yes", "--max-usd", "1"))
    limit = outcome.err.partition("--limit ")[2].split()[0]
    assert outcome.code == 2 and 100 < int(limit) < 400
    outcome = cli(*command(stubs, "--max-usd", "1", "--limit", limit))
    assert "add --yes" in outcome.err  # the budget is not in its way
