"""A collection takes over from another one what no insight has a part in, and buys the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tandem.collection.collector import Collector
from tandem.collection.manifest import describe_collection, open_manifest
from tandem.collection.plan import CollectionPlan
from tandem.collection.reuse import reuse
from tandem.collection.rows import Folder
from tandem.errors import UsageError
from tandem.ladder import parse_ladder
from tandem.models.fake import FakeModel, Rule, Script
from tandem.types import Problem

PROBLEMS = [Problem.from_text(f"Zebras number {i}, so how many?", id=f"p{i}", reference=str(i)) for i in range(4)]
LONG = "one two three four five six seven eight nine ten , so \\boxed{7}"


def mentor_of(mode: str) -> FakeModel:
    model = FakeModel(Script(rules=(Rule(text="Goal: some notes", purpose="insight"), Rule(text=LONG))))
    model.spec = model.spec.model_copy(update={"insight_mode": mode})
    return model


def plan(ladder: str, **more: Any) -> CollectionPlan:
    return CollectionPlan(ladder=parse_ladder(ladder), **more)


def _manifest(out: Path, of: CollectionPlan, mentor: FakeModel) -> dict[str, Any]:
    out.mkdir(exist_ok=True)
    return open_manifest(out, describe_collection(of, mentor, FakeModel()))


async def collected(out: Path, of: CollectionPlan, mentor: FakeModel, intern: FakeModel) -> Path:
    _manifest(out, of, mentor)
    assert (await Collector(mentor, intern, of, out).collect(PROBLEMS)).failed == 0
    return out


def taken(source: Path, out: Path, of: CollectionPlan, mentor: FakeModel) -> int:
    manifest = _manifest(out, of, mentor)
    return reuse(source, out, manifest, {key for problem in PROBLEMS for key in of.keys(problem.id)})


async def test_the_other_mode_buys_no_answer_twice(tmp_path: Path) -> None:
    first, of = tmp_path / "gpra", plan("none,low=2,answer", hints=(40,), budgets=(3,))
    await collected(first, of, mentor_of("gpra"), FakeModel())
    mentor, intern = mentor_of("prefix"), FakeModel()
    out, other = tmp_path / "prefix", plan("none,low=3,medium=6,answer", hints=(40,))
    assert taken(first, out, other, mentor) == 12  # none, answer and the hint of four problems; no budget was wanted
    await collected(out, other, mentor, intern)
    assert not mentor.calls and len(intern.calls) == 8  # low and medium, from the answers that are there
    rows = {row["level"]: row for row in Folder(out, write=False).rows() if row["problem"] == "p1"}
    assert rows["medium"]["insight"] == "one two three four five six" and set(rows) == {
        *("none", "low", "medium", "answer", "hint-40")
    }


async def test_taking_over_twice_changes_nothing(tmp_path: Path) -> None:
    of = plan("none,answer")
    await collected(tmp_path / "a", of, mentor_of("gpra"), FakeModel())
    assert taken(tmp_path / "a", tmp_path / "b", of, mentor_of("gpra")) == 8
    before = [path.read_bytes() for path in sorted((tmp_path / "b").glob("*.jsonl"))]
    assert taken(tmp_path / "a", tmp_path / "b", of, mentor_of("gpra")) == 0
    assert [path.read_bytes() for path in sorted((tmp_path / "b").glob("*.jsonl"))] == before


async def test_another_set_up_is_refused_by_name(tmp_path: Path) -> None:
    await collected(tmp_path / "a", plan("none,answer"), mentor_of("gpra"), FakeModel())
    with pytest.raises(UsageError, match=r"max_tokens .*nothing can be reused"):
        taken(tmp_path / "a", tmp_path / "b", plan("none,answer", max_tokens=99), mentor_of("gpra"))
    with pytest.raises(UsageError, match="no collection"):
        taken(tmp_path / "c", tmp_path / "d", plan("none,answer"), mentor_of("gpra"))
