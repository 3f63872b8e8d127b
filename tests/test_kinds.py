"""Operating points by unit, aim and kind at run time: each problem is solved by the ladder and policy of its kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pointed import point, script, write_card

from tandem import SolveOptions, Tandem
from tandem.errors import UsageError
from tandem.models.fake import FakeModel, Rule, Script
from tandem.runs.estimate import estimate
from tandem.runs.manifest import describe_run, differences
from tandem.runs.runner import run
from tandem.runs.store import RunStore
from tandem.spec import Prices
from tandem.sufficiency.policy import PolicyCard
from tandem.types import Problem, TaskKind

MATH, CODE, ALL = "question,high=30", "none,answer", "none,low=5,answer"
POINTS = {
    "tflops": {
        "accuracy": {"math": point(MATH, "of-math"), "code": point(CODE, "of-code"), "all": point(ALL, "of-all")},
        "gain": {"all": point("none,high=30", "of-all")},
    },
    "usd": {"accuracy": {"all": point("none,medium=12", "of-all", draft=2)}},
}
NEVER = dict.fromkeys(("question", "none", "low", "medium", "high"), 0.1)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_card(tmp_path / "card", POINTS)
    script(monkeypatch, {"": NEVER, "of-math": NEVER, "of-code": {"none": 0.9}, "of-all": {**NEVER, "low": 0.8}})
    return tmp_path / "card"


def pair(folder: Path, *, prices: Prices | None = None, **options: Any) -> Tandem:
    insight = Rule(text="Goal: " + "so " * 60, purpose="insight")
    models = (FakeModel(Script(rules=(insight,)), name="m", parameters=30e9), FakeModel(name="i", parameters=1e9))
    for model in models:
        model.spec = model.spec.model_copy(update={"prices": prices})
    return Tandem(*models, classifier=str(folder), pace="thrifty", **options)


def problem(kind: TaskKind, number: int = 0) -> Problem:
    return Problem.from_text(f"What is {number} plus 1?", id=f"{kind}-{number}", task=kind, reference="1")


KINDS: tuple[TaskKind, ...] = ("math", "code", "choice", "general")


async def test_a_run_over_mixed_kinds_takes_each_kinds_ladder_draft_and_model(folder: Path, tmp_path: Path) -> None:
    tandem = pair(folder)
    mixed = [problem(kind, n) for n in range(3) for kind in KINDS]
    store = RunStore.create(tmp_path / "run", describe_run(tandem.plan(), {"name": "mixed"}, mixed, {}))
    summary = await run(tandem, mixed, store, concurrency=3)
    records = {record["problem"]: record for record in store.records()}
    visited = {name: [d["level"] for d in record["trace"]] for name, record in records.items()}
    for n in range(3):
        assert visited[f"math-{n}"] == ["question", "high"] and records[f"math-{n}"]["level"] == "high"
        assert visited[f"code-{n}"] == ["none"] and records[f"code-{n}"]["answered_by"] == "intern"
        assert visited[f"choice-{n}"] == visited[f"general-{n}"] == ["none", "low"]  # neither has its own point
    decided = {record["task"]: {d["kind"] for d in record["trace"]} for record in records.values()}
    assert decided == {"math": {"math"}, "code": {"code"}, "choice": {"all"}, "general": {"all"}}
    assert summary["classifier"] == {"id": "pointed", "match": "exact", "unit": "tflops", "aim": "accuracy"}
    manifest = json.loads((tmp_path / "run" / "run.json").read_text())["run"]
    assert manifest["ladder"] == {"math": MATH, "code": CODE, "choice": ALL, "general": ALL}
    assert manifest["draft_tokens"] == 4 and manifest["point"] == {"unit": "tflops", "aim": "accuracy"}


def test_unit_and_aim_choose_the_point_of_an_engine_and_of_a_call(folder: Path) -> None:
    tandem = pair(folder)
    assert tandem.plan().points is not None and tandem.plan().points.unit == "tflops"
    assert tandem.plan(SolveOptions(aim="gain")).describe()["ladder"] == "none,high=30"
    assert tandem.plan(SolveOptions(unit="usd")).describe()["draft_tokens"] == 2
    assert pair(folder, aim="gain").plan().describe()["ladder"] == "none,high=30"
    with pytest.raises(
        UsageError, match=r"no operating point for the aim 'cost:0\.3' in TFLOPs; it has accuracy, gain"
    ):
        pair(folder, aim="cost:0.3")
    with pytest.raises(UsageError, match="unknown unit 'hours'"):
        pair(folder, unit="hours")


def test_the_default_unit_is_what_the_pair_is_paid_in_where_the_card_has_points_in_it(folder: Path) -> None:
    priced = Prices(input=1, output=5)
    assert pair(folder, prices=priced).plan().describe()["point"] == {"unit": "usd", "aim": "accuracy"}
    assert (
        pair(folder, prices=priced, unit="tflops").plan().for_kind("code").point == POINTS["tflops"]["accuracy"]["code"]
    )
    seconds = pair(folder, unit="seconds").plan()
    assert seconds.points is not None and "no operating points in device seconds" in seconds.points.note
    write_card(folder, {"tflops": POINTS["tflops"]})
    assert pair(folder, prices=priced).plan().describe()["point"] == {"unit": "tflops", "aim": "accuracy"}


def test_a_ladder_that_is_given_holds_for_every_kind_and_is_calibrated_where_the_kind_knows_its_levels(
    folder: Path,
) -> None:
    plan = pair(folder, effort="none,answer").plan()
    assert plan.describe()["ladder"] == "none,answer"
    own = {kind: plan.for_kind(kind).mismatch for kind in KINDS}
    assert own == {"math": ("ladder",), "code": (), "choice": (), "general": ()}
    assert plan.classifier_match is not None
    assert plan.classifier_match["match"] == "uncalibrated for math: another ladder"
    assert pair(folder, draft_tokens=9).plan().mismatch == ["draft length"]


async def test_an_uncalibrated_point_learns_from_problems_of_its_kind_alone_also_over_a_resume(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares = PolicyCard(thresholds={"none": 0.5}, stop_shares={"none": 0.5})
    write_card(
        folder, {"tflops": {"accuracy": {k: point("none,low=5", f"of-{k}", policy=shares) for k in ("math", "code")}}}
    )
    script(monkeypatch, {"of-math": {"none": 0.9, "low": 1.0}, "of-code": {"none": 0.2, "low": 1.0}})
    mixed = [problem(kind, n) for n in range(24) for kind in ("math", "code")]

    async def solved(store: RunStore, problems: list[Problem]) -> None:
        tandem = pair(folder, temperature=0.7)  # it was fitted at 0
        await run(tandem, problems, store, concurrency=1)

    manifest = describe_run(pair(folder, temperature=0.7).plan(), {"name": "mixed"}, mixed, {})
    whole, parts = RunStore.create(tmp_path / "whole", manifest), RunStore.create(tmp_path / "parts", manifest)
    await solved(whole, mixed)
    await solved(parts, mixed[:38])
    await solved(RunStore.reopen(tmp_path / "parts", manifest), mixed)
    records = sorted(whole.records(), key=lambda r: int(r["problem"].split("-")[1]))
    thresholds = {kind: [r["trace"][0]["threshold"] for r in records if r["task"] == kind] for kind in ("math", "code")}
    assert thresholds == {"math": [0.5] * 16 + [0.9] * 8, "code": [0.5] * 16 + [0.2] * 8}

    def decisions(store: RunStore) -> dict[str, Any]:
        return {r["problem"]: [(d["level"], d["action"], d["threshold"]) for d in r["trace"]] for r in store.records()}

    assert decisions(RunStore(tmp_path / "parts")) == decisions(whole)


def test_the_estimate_weighs_each_problem_by_the_shares_of_its_kind(folder: Path) -> None:
    def climbing(share: float, ladder: str) -> Any:
        return point(ladder, policy=PolicyCard(thresholds={}, stop_shares={"none": share}))

    points = {"math": climbing(0.75, "none,low=5"), "code": climbing(0.0, "none,high=30")}
    write_card(folder, {"tflops": {"accuracy": points}})
    plan = pair(folder).plan()
    for kinds, likely, most in ((["math"], 1.25, 5), (["code"], 30, 30), (["math", "code", "code"], 61.25, 65)):
        found = estimate(plan, [problem(kind) for kind in kinds])  # type: ignore[arg-type]
        assert found["likely"]["mentor_tokens"] == round(likely) and found["at_most"]["mentor_tokens"] == most


def test_a_run_of_one_ladder_for_all_kinds_is_described_as_earlier_versions_described_it(folder: Path) -> None:
    write_card(folder, {}, format=4)
    plan = pair(folder).plan()
    described = plan.describe()
    assert (described["ladder"], described["draft_tokens"]) == ("none,answer", 4)
    assert "point" not in described and not {"unit", "aim"} & described["settings"].keys()
    before = describe_run(plan, {"name": "d"}, [problem("math")], {})
    now = describe_run(pair(folder, unit="tflops").plan(), {"name": "d"}, [problem("math")], {})
    assert not differences(before["run"], now["run"])  # the unit of figures is not what decides


def test_runs_by_other_points_are_not_taken_for_the_same(folder: Path) -> None:
    one, other = (describe_run(pair(folder, aim=aim).plan(), {}, [], {}) for aim in ("accuracy", "gain"))
    named = [difference.path for difference in differences(one["run"], other["run"])]
    assert "point.aim" in named and any(path.startswith("ladder") for path in named)
