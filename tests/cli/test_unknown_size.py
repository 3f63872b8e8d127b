"""gpt-4o's size is not published: that hinders TFLOPs and nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import thinking
from commands import Cli
from stub import Reply, Stub

from tandem.costs import default_unit
from tandem.training.data import rated_pair

NEEDED = "the cost of gpt-4o in TFLOPs is not known; it needs its size: --mentor-parameters"


def respond(body: dict[str, Any]) -> Reply:
    question = next(m["content"] for m in body["messages"] if m["role"] == "user")
    api = Reply(prompt_tokens=40, continuous=False, refuses=("continue_final_message",))
    if "Action" in json.dumps(body["messages"]):
        return replace(api, tokens=("Goal:", " add", "\n", "Action:", " add"))
    return replace(api, tokens=("It", " is", " \\boxed{", re.findall(r"\d+", question)[-1], "}"))


@pytest.fixture
def mentor(serve: Callable[[Stub], Stub]) -> Stub:
    return serve(Stub(respond=respond, models=[{"id": "gpt-4o"}]))


@pytest.fixture
def pair(serve: Callable[[Stub], Stub], mentor: Stub, tmp_path: Path) -> tuple[str, ...]:
    intern = serve(thinking.intern())
    rows = [{"id": f"q{k}", "problem": f"What is {k} plus 1? It is {k + 1}", "answer": str(k + 1)} for k in range(6)]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    at = ("--mentor-endpoint", mentor.url, "--intern-endpoint", intern.url)
    return "--mentor", "gpt-4o", "--intern", "deepseek-7b", *at, "--dataset", "own.jsonl"


@pytest.mark.parametrize("command", ["run", "compare"])
def test_a_unit_that_needs_the_size_is_refused_before_anything_is_sent(
    cli: Cli, pair: tuple[str, ...], mentor: Stub, command: str
) -> None:
    outcome = cli(command, *pair, "--unit", "tflops", "--out", "out")
    assert outcome.code == 2 and NEEDED in outcome.err and outcome.err.count("\n") == 1
    assert not mentor.seen and not Path("out").exists()


def test_estimates_are_in_dollars_and_name_whose_size_is_missing(cli: Cli, pair: tuple[str, ...], mentor: Stub) -> None:
    shown = cli("run", *pair, "--estimate")
    assert shown.code == 0 and "no size of gpt-4o" in shown.out
    found = json.loads(cli("run", *pair, "--estimate", "--json").out)["at_most"]
    assert found["usd"] > 0 and found["tflops"] is None
    found = json.loads(cli("collect", *pair, "--dry-run", "--out", "c", "--json").out)["at_most"]
    assert found["usd"] > 0 and found["tflops"] is None
    assert not mentor.seen


def test_everything_from_a_collection_to_a_sweep_is_told_in_dollars(cli: Cli, pair: tuple[str, ...]) -> None:
    done = cli("collect", *pair, "--out", "c", "--max-usd", "1", "--json")
    assert done.code == 0 and json.loads(done.out)["rows_in_table"] == 30, done.err
    mentor, intern = rated_pair(json.loads(Path("c/collection.json").read_text()))
    assert mentor.prices and not mentor.local and default_unit(mentor, intern) == "usd"
    compared = cli("compare", *pair, "--out", "cmp", "--json")
    assert compared.code == 0, compared.err
    for command in (("report", "cmp"), ("runs", "list", "cmp"), ("runs", "diff", "cmp/mentor-only", "cmp/intern-only")):
        shown = cli(*command)
        assert shown.code == 0, (command, shown.err)
        assert "US$" in shown.out or "usd" in shown.out.lower(), command
    swept = cli("sweep", "cmp", "--strategy", "cascade")
    assert swept.code == 0 and "US$" in swept.out, swept.err
    unknown = cli("sweep", "cmp", "--strategy", "cascade", "--unit", "tflops")
    assert unknown.code == 0 and "TFLOPs" in unknown.out and "unknown" in unknown.out, unknown.err


def test_a_run_that_never_asked_the_mentor_cost_nothing_and_says_so(cli: Cli, pair: tuple[str, ...]) -> None:
    outcome = cli("run", *pair, "--strategy", "intern-only", "--out", "out")
    assert outcome.code == 0, outcome.err
    summary = json.loads(Path("out/summary.json").read_text())
    assert (summary["unit"], summary["usd"], summary["usd_bound"], summary["usd_paid"]) == ("usd", 0.0, 0.0, 0.0)
    assert summary["cost"]["usd"] == {"mean": 0.0, "total": 0.0, "mentor": 0.0, "intern": None}
    (line,) = [line for line in outcome.out.splitlines() if "US$" in line and "│" in line]
    assert "not known" not in line
