"""A run on fake models: what it writes, that a killed one goes on, and that nothing computed is lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tandem.engine import Tandem
from tandem.errors import TandemError, UsageError
from tandem.ledger import Ledger
from tandem.models.fake import FakeModel, Rule, Script
from tandem.runs.runner import run
from tandem.runs.store import RunStore
from tandem.runs.summary import summarise
from tandem.statistics.significance import wilson
from tandem.types import Problem

MANIFEST = {
    "run": {"strategy": "tandem", "mentor": {"name": "fake"}, "intern": {"name": "fake"}, "dataset": {}, "settings": {}}
}


def problems(n: int) -> list[Problem]:
    return [Problem.from_text(f"What is {i} plus nothing, {i}?", id=f"p{i}", reference=str(i)) for i in range(n)]


async def test_records_and_summary_agree(tmp_path: Path) -> None:
    store = RunStore.create(tmp_path / "run", MANIFEST)
    tandem = Tandem(FakeModel(Script()), FakeModel(Script()))
    summary = await run(tandem, problems(7), store, concurrency=3)
    records = list(store.records())
    assert sorted(r["problem"] for r in records) == [f"p{i}" for i in range(7)]
    assert summary["n"] == 7 and summary["accuracy"] == 1.0 and summary["synthetic"] is True
    assert summary["mentor_tokens"] == sum(Ledger.model_validate(r["ledger"]).mentor_tokens for r in records)
    assert sum(summary["levels"].values()) == 7
    assert json.loads((tmp_path / "run" / "summary.json").read_text()) == summary


async def test_one_failed_problem_is_a_record_and_is_retried_on_resume(tmp_path: Path) -> None:
    store = RunStore.create(tmp_path, MANIFEST)
    broken = FakeModel(Script(rules=(Rule(text="a b c", when="is 2 plus", fault="no luck", fault_after=2),)))
    summary = await run(Tandem(FakeModel(Script()), broken), problems(4), store)
    assert summary["errors"] == 1 and summary["accuracy"] == 0.75  # an error counts as wrong
    failed = next(r for r in store.records() if r["error"])
    assert failed["problem"] == "p2" and failed["error"] == "no luck"
    assert Ledger.model_validate(failed["ledger"]).intern_tokens == 2  # what was paid is kept
    mended = FakeModel(Script())
    again = await run(Tandem(FakeModel(Script()), mended), problems(4), RunStore.reopen(tmp_path, MANIFEST))
    assert again["errors"] == 0 and again["accuracy"] == 1.0 and again["n"] == 4
    assert all("is 2 plus" in c.messages[-1].content for c in mended.calls)  # only the failed one was asked again


async def test_a_bug_in_one_problem_does_not_end_the_run(tmp_path: Path) -> None:
    intern = FakeModel()

    def answer(request: Any) -> str:
        if "is 1 plus" in request.messages[-1].content:
            raise ZeroDivisionError("oops")
        return "\\boxed{0}"

    intern.answer = answer
    summary = await run(Tandem(FakeModel(), intern), problems(3), RunStore.create(tmp_path, MANIFEST))
    assert summary["n"] == 3 and summary["errors"] == 1


def test_a_folder_with_a_run_is_not_overwritten_and_another_run_is_named(tmp_path: Path) -> None:
    RunStore.create(tmp_path, MANIFEST)
    # A start that failed does not take the folder.
    RunStore.create(tmp_path, MANIFEST).append({"problem": "p0", "error": None})
    with pytest.raises(UsageError, match="--resume"):
        RunStore.create(tmp_path, MANIFEST)
    other = {"run": {"strategy": "tandem", "mentor": {"name": "gpt-4o"}}}
    with pytest.raises(UsageError, match=r"mentor\.name \('fake', now 'gpt-4o'\)"):
        RunStore.reopen(tmp_path, other)
    with pytest.raises(UsageError, match="holds no run"):
        RunStore.reopen(tmp_path / "nothing", MANIFEST)


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(TandemError, match="cannot create"):
        RunStore.create(blocked / "run", MANIFEST)


def test_wilson_interval() -> None:
    assert wilson(0, 0) is None
    low, high = wilson(8, 10) or (0, 0)
    assert (round(low, 4), round(high, 4)) == (0.4902, 0.9433)  # Wilson 1927, z = 1.96
    assert wilson(0, 5) is not None and wilson(0, 5)[0] == 0.0  # type: ignore[index]


def test_a_summary_without_references_has_no_accuracy() -> None:
    summary = summarise([], None)
    assert summary["accuracy"] is None and summary["accuracy_ci95"] is None and summary["n"] == 0
