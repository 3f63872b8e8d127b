"""A warning where a cap cut more than one answer in twenty: in a run, a comparison and a collection."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from commands import Cli, dataset
from hypothesis import given
from hypothesis import strategies as st
from stub import Stub
from thinking import INTERN, SERVED, intern, respond

from tandem.runs.cut import CutAnswers, cut_warnings

CAPS = {"mentor": 4096, "intern": 32768}
SAID = "2 of 2 answers of the intern (100%) were cut at their cap of 4 tokens"
RAISES = "--intern-max-tokens N raises it"


@given(st.integers(0, 200), st.integers(0, 200))
def test_the_warning_begins_above_a_twentieth(whole: int, cut: int) -> None:
    found = CutAnswers()
    for k in range(whole + cut):
        found.add("intern", k < cut)
    lines = cut_warnings(found, CAPS)  # type: ignore[arg-type]
    assert bool(lines) == (cut * 20 > whole + cut)
    assert all(f"{cut} of {whole + cut} answers of the intern" in line and "32,768" in line for line in lines)


def command(stub: Stub, tmp_path: Path, *more: str) -> tuple[str, ...]:
    at = ("--mentor", "fake", "--intern", INTERN, "--intern-endpoint", stub.url)
    return (*at, "--dataset", dataset(tmp_path / "own.jsonl", 2), *more)


def test_a_run_says_so_once(cli: Cli, serve: Callable[[Stub], Stub], tmp_path: Path) -> None:
    stub = serve(intern())
    run = ("run", *command(stub, tmp_path, "--strategy", "intern-only", "--json"))
    fine = cli(*run, "--out", "fine")
    assert fine.code == 0 and "were cut" not in fine.err and json.loads(fine.out)["accuracy"] == 1.0
    cut = cli(*run, "--intern-max-tokens", "4", "--out", "cut")
    assert cut.code == 0 and cut.err.count(SAID) == 1 and RAISES in cut.err and "of the mentor" not in cut.err
    summary = json.loads(cut.out)
    assert summary["answers"] == {"mentor": 0, "intern": 2} and summary["truncated"]["intern"] == 2
    assert summary["accuracy"] == 0.0  # the thought has a number, and is no answer
    shown = cli("runs", "show", "cut")
    assert "intern 2 (100% of its answers)" in shown.out


def test_an_answer_that_ends_in_its_thought_counts(cli: Cli, serve: Callable[[Stub], Stub], tmp_path: Path) -> None:
    stub = serve(Stub(respond=lambda body: respond(body, closes=False), models=SERVED))
    done = cli("run", *command(stub, tmp_path, "--strategy", "intern-only", "--json"))
    assert json.loads(done.out)["accuracy"] == 0.0
    assert "2 of 2 answers of the intern (100%) were cut at their cap of 32,768 tokens" in done.err


def test_a_context_that_is_shorter_than_the_cap_is_named(
    cli: Cli, serve: Callable[[Stub], Stub], tmp_path: Path
) -> None:
    stub = serve(Stub(respond=respond, models=[SERVED[0] | {"max_model_len": 200}]))
    done = cli("run", *command(stub, tmp_path, "--strategy", "intern-only"))
    assert done.code == 0 and "were cut" not in done.err  # the answers fit
    stub.respond = lambda body: replace(respond(body), finish="length")
    done = cli("run", *command(stub, tmp_path, "--strategy", "intern-only"))
    assert "cut at the model's context of 200 tokens" in done.err and "--max-model-len" in done.err


def test_a_collection_and_a_comparison_say_so(cli: Cli, serve: Callable[[Stub], Stub], tmp_path: Path) -> None:
    stub = serve(intern())
    ladder = ("--effort", "none,low=5,answer")
    collected = cli("collect", *command(stub, tmp_path, *ladder, "--out", "rows", "--intern-max-tokens", "4"))
    assert collected.code == 0 and "4 of 4 answers of the intern (100%) were cut at their cap of 4" in collected.err
    names = ("--strategies", "intern-only,fixed:low=5")
    compared = cli("compare", *command(stub, tmp_path, *names, "--intern-max-tokens", "4", "--out", "both"))
    assert compared.code == 0, compared.err
    assert compared.err.count(SAID) == 1 and "intern-only: 2 of 2" in compared.err


@pytest.mark.parametrize("parsed", [False, True])
def test_what_is_enough_is_not_warned_of(cli: Cli, serve: Callable[[Stub], Stub], tmp_path: Path, parsed: bool) -> None:
    stub = serve(intern(apart=parsed))
    collected = cli("collect", *command(stub, tmp_path, "--effort", "none,answer", "--out", "rows", "--json"))
    assert collected.code == 0 and "were cut" not in collected.err
    rows = [json.loads(line) for line in Path("rows/rows.jsonl").read_text().splitlines()]
    ours = [row for row in rows if row["level"] == "none"]
    assert len(ours) == 2 and all(row["correct"] and not row["truncated"] for row in ours)
    assert all(row["text"].startswith("<think>") and "</think>" in row["text"] for row in ours)
