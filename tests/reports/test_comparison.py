"""Comparisons on fake models: what is shared, that a row says what a run alone says, and what is refused."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tandem.config import SolveOptions
from tandem.engine import Tandem
from tandem.errors import TandemError, UsageError
from tandem.ladder import parse_ladder
from tandem.ledger import Ledger
from tandem.models.base import Request
from tandem.models.fake import FakeModel, Script
from tandem.reports.comparison import finished_parts, oracle, report, strategy_figures
from tandem.runs.compare import Comparison, carry_out, check_unseen, folders_of, strategies_of
from tandem.runs.manifest import describe_run
from tandem.runs.outcomes import MEASURES, OWN_HARDWARE, RunOutcomes
from tandem.runs.runner import Progress, run
from tandem.runs.store import RunStore
from tandem.runs.work import Limits
from tandem.spec import Prices, SpeedProfile
from tandem.types import Problem

NAMES = ["mentor-only", "intern-only", "fixed:low=10", "budget-forcing:5", "random-mix:0.5", "tandem"]
LADDER = "none,low=10,medium=20"  # of its own: what a shipped classifier would climb is no matter here
DATA = {"name": "sums", "split": "test"}
ENDPOINTS = {"mentor": None, "intern": None}


def problems(n: int = 8) -> list[Problem]:
    return [Problem.from_text(f"What is {i}+{i}?", id=f"p{i}", reference=str(2 * i), task="math") for i in range(n)]


def answer(right: float, request: Request) -> str:
    """Answer rightly on a share of the problems, after some words."""
    asked = next(m.content for m in request.messages if "What is" in m.content)
    i = int(asked.partition("What is ")[2].partition("+")[0])
    if request.purpose == "insight":
        return "Goal: add. " + " ".join(f"note{k}" for k in range(30))
    return (
        f"Well, {i} and {i} : "
        + " ".join(f"word{k}" for k in range(12))
        + f" \\boxed{{{2 * i if i < 8 * right else -1}}}"
    )


def pair(**script: Any) -> tuple[FakeModel, FakeModel]:
    mentor, intern = FakeModel(name="big", parameters=8e9), FakeModel(Script(**script), name="small")
    mentor.answer = lambda request: answer(0.9, request)
    intern.answer = lambda request: answer(0.5, request)
    mentor.address, intern.address = "big", "small"
    return mentor, intern


@contextmanager
def silent(name: str, store: RunStore, total: int) -> Iterator[Progress]:
    yield lambda record: None


def compare(
    folder: Path, names: list[str], models: tuple[FakeModel, FakeModel], *, n: int = 8, **job: Any
) -> dict[str, Any]:
    async def work() -> dict[str, Any]:
        async with Tandem(*models, strategy="fixed:low", effort=LADDER) as engine:
            parts = await carry_out(engine, names, Comparison(folder, DATA, problems(n), ENDPOINTS, **job), silent)
        return report(folder, parts)

    return asyncio.run(work())


def alone(folder: Path, name: str, models: tuple[FakeModel, FakeModel]) -> dict[str, Any]:
    """Run one strategy by itself, as `tandem run` does."""

    async def work() -> dict[str, Any]:
        async with Tandem(*models, strategy=name, pace="thrifty", effort=LADDER) as engine:
            await engine.prepare()
            with RunStore.create(folder, describe_run(engine.plan(), DATA, problems(), ENDPOINTS)) as store:
                return await run(engine, problems(), store)

    return asyncio.run(work())


def row(found: dict[str, Any], name: str) -> dict[str, Any]:
    (one,) = [row for row in found["strategies"] if row["name"] == name]
    return one


@pytest.mark.parametrize("at_once", [1, 4])
def test_a_row_says_what_a_run_alone_says_and_equal_calls_are_made_once(tmp_path: Path, at_once: int) -> None:
    models = pair()
    found = compare(tmp_path / "all", NAMES, models, at_once=at_once)
    asked = sum(len(model.calls) for model in models)
    charged = made = 0
    for name in NAMES:
        own = pair()
        summary = alone(tmp_path / name.replace(":", "-"), name, own)
        one = row(found, name)
        made += sum(len(model.calls) for model in own)
        charged += summary["mentor_tokens"] + summary["intern_tokens"]
        assert one["status"] == "finished" and one["n"] == 8
        assert one["accuracy"] == summary["accuracy"] and one["levels"] == summary["levels"]
        for unit in ("mentor_tokens", "intern_tokens", "tflops", "tflops_published"):
            assert one["cost"][unit] == pytest.approx(summary[unit] / 8), (name, unit)
    assert asked < made and found["shared"]["charged_tokens"] == charged
    written = found["shared"]["generated_tokens"]
    assert found["shared"]["share"] == round(written / charged, 4) < 0.7
    # mentor-only, intern-only and the two calls of fixed serve all but the cues of budget-forcing, and what tandem's
    # mentor writes behind the level that fixed bought.
    assert len(models[1].calls) <= 8 * 4


def test_one_s_own_hardware_sends_no_bill_where_the_other_model_has_a_price(tmp_path: Path) -> None:
    assert row(compare(tmp_path / "free", ["mentor-only", "intern-only"], pair()), "intern-only")["cost"]["usd"] is None
    mentor, intern = pair()
    mentor.spec = mentor.spec.model_copy(update={"prices": Prices(input=1.0, output=10.0), "local": False})
    found = compare(tmp_path / "billed", ["mentor-only", "intern-only", "random-mix:0.5"], (mentor, intern))
    assert row(found, "intern-only")["cost"]["usd"] == 0.0 and row(found, "mentor-only")["cost"]["usd"] > 0.0
    assert row(found, "random-mix:0.5")["gain_over_chord"]["usd"]["value"] is not None
    assert found["unit"] == "usd" and found["notes"] == [OWN_HARDWARE]


def test_device_seconds_are_those_of_the_profiles_and_latency_that_of_the_clock(tmp_path: Path) -> None:
    models = pair()
    for model, written in zip(models, (0.2, 0.01), strict=True):
        profile = SpeedProfile(model=model.spec.name, uncached=0.001, cached=0.0, written=written)
        model.spec = model.spec.model_copy(update={"profile": profile})
    found = compare(tmp_path, ["mentor-only", "intern-only", "tandem"], models)
    assert found["unit"] == "seconds"  # nobody has a price
    for name, written in (("mentor-only", 0.2), ("intern-only", 0.01)):
        records = [*RunStore.open_for_reading(tmp_path / name).records()]
        usage = [entry["usage"] for record in records for entry in record["ledger"]["entries"]]
        by_hand = sum(0.001 * (u["prompt"] - u["cached"]) + written * u["completion"] for u in usage) / 8
        assert row(found, name)["cost"]["seconds"] == pytest.approx(by_hand) != row(found, name)["cost"]["latency"]
        assert row(found, name)["cost"]["latency"] == pytest.approx(sum(r["seconds"] for r in records) / 8)
    assert row(found, "tandem")["gain_over_chord"]["seconds"]["value"] is not None
    assert found["verdict"]["unit"] == "seconds" and "device seconds per 1,000 problems" in found["verdict"]["sentence"]


def test_a_device_hour_has_a_price_and_nothing_is_free_then(tmp_path: Path) -> None:
    mentor, intern = pair()
    mentor.spec = mentor.spec.model_copy(update={"prices": Prices(input=1.0, output=10.0), "local": False})
    profile = SpeedProfile(model="small", uncached=0.001, cached=0.0, written=0.01)
    intern.spec = intern.spec.model_copy(update={"profile": profile, "usd_per_device_hour": 3.6})
    found = compare(tmp_path, ["mentor-only", "intern-only", "random-mix:0.5"], (mentor, intern))
    cost = row(found, "intern-only")["cost"]
    assert cost["usd"] == pytest.approx(cost["seconds"] / 1000) and cost["usd"] > 0
    assert found["unit"] == "usd" and found["notes"] == []
    assert row(found, "mentor-only")["cost"]["seconds"] is None  # the mentor's device time is nobody's business


def test_a_strategy_that_cannot_begin_does_not_take_the_others_with_it(tmp_path: Path) -> None:
    (tmp_path / "random-mix-0.5").write_text("somebody's notes")
    found = compare(tmp_path, ["mentor-only", "intern-only", "random-mix:0.5", "fixed:low=10"], pair(), at_once=1)
    assert [one["status"] for one in found["strategies"]] == ["finished", "finished", "skipped", "finished"]
    assert "random-mix-0.5" in row(found, "random-mix:0.5")["reason"]
    assert (tmp_path / "random-mix-0.5").read_text() == "somebody's notes"


def test_both_anchors_bound_the_chord(tmp_path: Path) -> None:
    found = compare(tmp_path, ["mentor-only", "intern-only", "random-mix:0.5"], pair())
    assert row(found, "mentor-only")["accuracy"] == 1.0 and row(found, "intern-only")["accuracy"] == 0.5
    for anchor in ("mentor-only", "intern-only"):
        assert row(found, anchor)["gain_over_chord"]["tflops"]["value"] == pytest.approx(0.0, abs=1e-9)
    assert row(found, "mentor-only")["against_mentor"]["mcnemar_p"] == 1.0
    against = row(found, "intern-only")["against_mentor"]
    assert (against["won"], against["lost"], against["value"]) == (0, 4, -0.5)
    assert found["oracle"]["accuracy"] == 1.0
    assert found["oracle"]["cost"]["tflops"] < row(found, "mentor-only")["cost"]["tflops"]
    assert json.loads((tmp_path / "compare.json").read_text()) == found


def test_a_strategy_that_the_pair_cannot_run_is_listed_with_the_reason(tmp_path: Path) -> None:
    found = compare(tmp_path, ["mentor-only", "intern-only", "tandem", "published"], pair(logprobs=False))
    skipped = {one["name"]: one["reason"] for one in found["strategies"] if one["status"] == "skipped"}
    assert set(skipped) == {"tandem", "published"}
    assert "log-probabilities" in skipped["tandem"] and "folder" in skipped["published"]


def test_it_goes_on_where_it_stopped_and_takes_more_strategies(tmp_path: Path) -> None:
    first = pair()
    compare(tmp_path, ["mentor-only", "intern-only"], first)
    with (tmp_path / "intern-only" / "records.jsonl").open("r+b") as file:
        file.truncate(len(file.read()) // 2)  # the disk lost the rest
    second = pair()
    found = compare(tmp_path, ["mentor-only", "intern-only", "fixed:low=10"], second)
    assert [one["status"] for one in found["strategies"]] == ["finished"] * 3
    assert not [c for c in second[0].calls if c.purpose == "answer"]  # the mentor's answers are there
    assert all(c.prefix or "note" in str(c.messages) for c in second[1].calls)  # and the intern's own: all were shared


def test_a_limit_ends_it_and_the_rest_is_done_later(tmp_path: Path) -> None:
    models = pair()
    found = compare(tmp_path, ["mentor-only", "intern-only"], models, at_once=1, limits=Limits(seconds=0.0))
    assert [(one["name"], one["status"], one["n"]) for one in found["strategies"]] == [("mentor-only", "partial", 0)]
    assert found["oracle"]["accuracy"] is None
    found = compare(tmp_path, ["mentor-only", "intern-only"], models, at_once=1)
    assert [one["status"] for one in found["strategies"]] == ["finished"] * 2


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"seed": 1}, r"settings.sampling.seed"),
        ({"temperature": 0.5}, r"settings.sampling.temperature"),
        ({"n": 5}, r"dataset.problems"),
        ({"name": "bigger"}, r"mentor.name"),
        ({"reference": "1"}, r"p0 was graded by another reference"),
        ({"grader": "exact"}, r"p0 was graded by another grader"),
    ],
)
def test_a_finished_run_of_another_thing_is_left_out_by_name(tmp_path: Path, other: dict[str, Any], named: str) -> None:
    def make(folder: Path, strategy: str, *, n: int = 8, name: str = "big", **wishes: Any) -> None:
        judged = {key: wishes.pop(key) for key in ("reference", "grader") if key in wishes}
        few = [p.model_copy(update=judged if p.id == "p0" else {}) for p in problems(n)]
        mentor, intern = pair()
        mentor.spec = mentor.spec.model_copy(update={"name": name})

        async def work() -> None:
            async with Tandem(mentor, intern, strategy=strategy, **wishes) as engine:
                await engine.prepare()
                with RunStore.create(folder, describe_run(engine.plan(), DATA, few, ENDPOINTS)) as store:
                    await run(engine, few, store)

        asyncio.run(work())

    make(tmp_path / "a", "mentor-only")
    make(tmp_path / "b", "intern-only")
    make(tmp_path / "c", "random-mix:0.5", **other)
    out = tmp_path / "out"
    out.mkdir()
    found = report(out, finished_parts([tmp_path / "a", tmp_path / "b"]))
    assert row(found, "intern-only")["accuracy"] == 0.5
    found = report(out, finished_parts([tmp_path / x for x in "abc"]), finished=True)
    assert [one["status"] for one in found["strategies"]] == ["finished", "finished", "skipped"]
    assert re.search(f"cannot be compared with mentor-only: .*{named}", row(found, "random-mix:0.5")["reason"])
    assert row(found, "intern-only")["accuracy"] == 0.5
    with pytest.raises(TandemError, match=f"nothing can be compared: .*{named}"):
        report(out, finished_parts([tmp_path / x for x in "ac"]), finished=True)


def test_what_all_stands_for_and_its_order() -> None:
    ladder = parse_ladder("none,low=10,high=40,answer")
    names = strategies_of("all", ladder)
    assert names[:4] == ["mentor-only", "intern-only", "fixed:high=40", "fixed:low=10"]
    assert {"tandem", "cascade", "route", "random-mix", "delegate", "blueprint", "spec-reason", "best-route"} <= set(
        names
    )
    assert strategies_of("tandem", ladder) == ["mentor-only", "intern-only", "tandem"]
    for wrong, said in (("tandm", "tandem"), ("tandem,tandem", "twice"), (",", "no strategy")):
        with pytest.raises(UsageError, match=said):
            strategies_of(wrong, ladder)


def test_a_folder_that_holds_another_strategy_is_not_taken() -> None:
    before = {"a-b": {"strategy": "a:b"}, "c": {"strategy": "c"}}
    assert folders_of(["a/b", "a:b", "c"], before) == {"a/b": "a-b-2", "a:b": "a-b", "c": "c"}


def test_folders_are_plain_and_never_the_same() -> None:
    found = folders_of(["a:b", "a/b", "..", "fixed:low=10", "ünïcode"])
    assert len(set(found.values())) == 5
    assert all("/" not in folder and not folder.startswith(".") for folder in found.values())


def test_problems_that_a_predictor_was_fitted_on_are_refused() -> None:
    class Learned(FakeModel):
        pass

    engine = Tandem(Learned(), Learned(), strategy="fixed:low")
    card = engine.plan(SolveOptions(strategy="tandem")).card
    assert card is not None
    check_unseen(engine, ["tandem"], problems())
    import gzip

    from tandem.paths import shipped

    table = next(shipped("classifiers").iterdir()) / "table.jsonl.gz"
    seen = json.loads(gzip.decompress(table.read_bytes()).splitlines()[0])["problem"]
    one = Problem.from_text("What is 1+1?", id=seen)
    with pytest.raises(UsageError, match=f"'tandem' was fitted on 1 of these 1 problems .such as {seen}"):
        check_unseen(engine, ["mentor-only", "tandem"], [one])


def made(correct: list[int], tflops: list[float], tokens: list[float] | None = None) -> RunOutcomes:
    ids = [f"p{i}" for i in range(len(correct))]
    cost: dict[str, Any] = dict.fromkeys(MEASURES)
    cost |= {"tflops": np.array(tflops), "mentor_tokens": np.array(tokens or tflops)}
    return RunOutcomes(ids, np.array(correct, dtype=float), cost)


def test_gain_ace_and_headroom_by_hand() -> None:
    runs = {
        "intern-only": made([1, 0, 0, 0], [1, 1, 1, 1]),
        "mentor-only": made([1, 1, 1, 0], [3, 3, 3, 3]),
        "ours": made([1, 1, 0, 0], [1, 3, 1, 1]),  # 1.5 each
    }
    best = oracle(runs, "tflops")
    assert best.correct.tolist() == [1, 1, 1, 0] and best.costs("tflops").tolist() == [1, 3, 3, 1]
    found = strategy_figures(runs, best)["ours"]
    # The chord at 1.5 is .25 + .5 * .25; the oracle's, at 2.0, is .5.
    assert found["gain_over_chord"]["tflops"]["value"] == pytest.approx(0.5 - 0.375)
    assert found["ace"]["tflops"]["value"] == pytest.approx((0.25 / 0.5) * (2.0 / 0.5))
    assert found["headroom_share"]["tflops"]["value"] == pytest.approx(0.125 / 0.25)
    assert found["gain_over_chord"]["usd"]["value"] is None and found["cost"]["usd"] is None


def test_the_oracle_is_the_cheapest_in_the_unit_that_is_paid() -> None:
    one, other = made([1, 1, 0], [1, 1, 1]), made([1, 0, 0], [2, 2, 2])
    one.cost["usd"], other.cost["usd"] = np.array([5.0, 5.0, 5.0]), np.array([4.0, 4.0, 4.0])
    runs = {"one": one, "other": other}
    assert oracle(runs, "tflops").costs("usd").tolist() == [5, 5, 5]
    assert oracle(runs, "usd").costs("usd").tolist() == [4, 5, 4]
    other.cost["usd"] = None  # then only the one whose cost is known can be chosen
    assert oracle(runs, "usd").costs("tflops").tolist() == [1, 1, 1]


def test_a_run_that_was_stopped_is_compared_over_its_own_problems() -> None:
    runs = {
        "intern-only": made([0, 0, 0, 0], [1, 1, 1, 1]),
        "mentor-only": made([1, 1, 0, 0], [3, 3, 3, 3]),
        "stopped": made([1, 1], [1, 1]),
    }
    best = oracle(runs, "tflops")
    assert len(best.ids) == 4 and best.correct.tolist() == [1, 1, 0, 0]
    found = strategy_figures(runs, best)
    assert (found["stopped"]["n"], found["mentor-only"]["n"]) == (2, 4)
    assert found["stopped"]["gain_over_chord"]["tflops"]["value"] == 1.0  # over two problems that the intern got wrong
    assert found["stopped"]["against_mentor"]["value"] == 0.0 and found["mentor-only"]["against_mentor"]["value"] == 0.0


def test_beyond_the_mentor_the_chord_is_flat_and_equal_ends_have_no_ace() -> None:
    runs = {
        "intern-only": made([1, 0], [1, 1]),
        "mentor-only": made([0, 1], [2, 2]),
        "expensive": made([1, 1], [9, 9]),
    }
    found = strategy_figures(runs, oracle(runs, "tflops"))["expensive"]
    assert found["gain_over_chord"]["tflops"]["value"] == pytest.approx(0.5)
    assert found["ace"]["tflops"]["value"] is None


def test_the_ledger_of_a_shared_call_says_that_nobody_was_paid_again(tmp_path: Path) -> None:
    compare(tmp_path, ["mentor-only", "intern-only", "budget-forcing:5"], pair(), at_once=1)
    records = RunStore.open_for_reading(tmp_path / "budget-forcing-5").records()
    for record in records:
        first, second = Ledger.model_validate(record["ledger"]).entries
        assert (first.paid, second.paid) == (False, True) and first.usage.completion == 5
