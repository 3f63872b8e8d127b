"""Replays against runs: a row is what a run at that threshold really comes to; what is not known is not guessed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from swept import INTERN, LADDER, LEVELS, MENTOR, THRESHOLDS, comparison, edited, made

from tandem.costs import UNITS
from tandem.errors import UsageError
from tandem.reports.sweep import runs_of_comparison, runs_of_folders, sweep
from tandem.runs.outcomes import OWN_HARDWARE, outcomes_of
from tandem.runs.store import RunStore


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """All runs of the tests, made once."""
    folder = tmp_path_factory.mktemp("runs")
    names = (INTERN, MENTOR, *LEVELS, "cascade:0.5", "route:0.45", "random-mix:0.4", "tandem")
    return {name: made(folder / name.replace(":", "-"), name) for name in names}


def swept(runs: dict[str, Path], name: str, *levels: Path) -> dict[str, Any]:
    found = sweep(runs_of_folders(runs[name], runs[INTERN], runs[MENTOR], levels or [runs[one] for one in LEVELS]))
    json.dumps(found, allow_nan=False)
    (only,) = found["sweeps"]
    return only  # type: ignore[no-any-return]


def really(folder: Path) -> dict[str, Any]:
    """Return what a run came to."""
    run = outcomes_of(RunStore.open_for_reading(folder).records())
    return {"accuracy": float(run.correct.mean()), "cost": {unit: run.mean(unit) for unit in UNITS}}


def figures(row: dict[str, Any]) -> dict[str, Any]:
    return {"accuracy": row["accuracy"], "cost": {unit: row["cost"][unit] for unit in UNITS}}


def alike(row: dict[str, Any], run: dict[str, Any]) -> None:
    row = figures(row)
    assert row["accuracy"] == pytest.approx(run["accuracy"])
    for unit, value in run["cost"].items():
        assert row["cost"][unit] == (None if value is None else pytest.approx(value)), unit


@pytest.mark.parametrize("name", ["cascade:0.5", "route:0.45", "random-mix:0.4"])
def test_a_row_is_what_a_run_at_that_threshold_comes_to(name: str, runs: dict[str, Path], tmp_path: Path) -> None:
    found = swept(runs, name)
    rows = found["rows"]
    assert [row["threshold"] for row in rows] == sorted({row["threshold"] for row in rows}) and len(rows) > 3
    assert (rows[0]["threshold"], rows[-1]["threshold"]) == (0.0, 1.0)
    (own,) = (row for row in rows if row["own"])
    assert own["threshold"] == float(name.partition(":")[2]) == found["own_threshold"]
    alike(own, really(runs[name]))
    assert found["as_run"]["accuracy"] == own["accuracy"] and found["differently_in_the_run"] == 0
    assert len({json.dumps(figures(row)) for row in rows}) > 3  # or nothing would be tested below
    for row in (rows[1], rows[len(rows) // 2], rows[-2]):
        again = made(tmp_path / f"{row['threshold']}", f"{name.partition(':')[0]}:{row['threshold']:.17g}")
        alike(row, really(again))


def test_the_ends_of_a_sweep_are_the_anchors_and_a_discarded_answer_is_paid(runs: dict[str, Path]) -> None:
    mix = swept(runs, "random-mix:0.4")["rows"]
    alike(mix[0], really(runs[INTERN]))
    alike(mix[-1], really(runs[MENTOR]))
    assert (mix[0]["mentor_answers"], mix[-1]["mentor_answers"]) == (0.0, 1.0)
    for row in (mix[0], mix[-1]):
        assert row["gain_over_chord"]["tflops"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    cascade = swept(runs, "cascade:0.5")["rows"]
    intern, mentor, last = really(runs[INTERN]), really(runs[MENTOR]), cascade[-1]
    if last["mentor_answers"] == 1.0:
        assert last["cost"]["tflops"] == pytest.approx(intern["cost"]["tflops"] + mentor["cost"]["tflops"])
    assert last["cost"]["tflops_published"] <= mentor["cost"]["tflops_published"] + 1e-9  # no probes in that formula


def test_the_gain_is_over_the_chord_of_the_same_problems(runs: dict[str, Path]) -> None:
    (row,) = (row for row in swept(runs, "random-mix:0.4")["rows"] if row["own"])
    (c0, a0), (c1, a1) = (
        (found["cost"]["tflops"], found["accuracy"]) for found in (really(runs[INTERN]), really(runs[MENTOR]))
    )
    by_hand = row["accuracy"] - (a0 + (a1 - a0) * (row["cost"]["tflops"] - c0) / (c1 - c0))
    gain = row["gain_over_chord"]["tflops"]
    assert gain["value"] == pytest.approx(by_hand, abs=1e-4) and gain["low"] < gain["value"] < gain["high"]
    assert row["gain_over_chord"]["usd"] == {"value": None, "low": None, "high": None}  # no prices
    low, high = row["accuracy_ci95"]
    assert low < row["accuracy"] < high


# The climb


def test_a_climb_that_stops_earlier_is_what_a_run_with_lower_thresholds_comes_to(
    runs: dict[str, Path], tmp_path: Path
) -> None:
    found = swept(runs, "tandem")
    rows = found["rows"]
    assert found["own_threshold"] == max(THRESHOLDS.values()) == rows[-1]["threshold"] and rows[-1]["own"]
    alike(rows[-1], really(runs["tandem"]))
    assert all(row["undetermined"] == 0 for row in rows) and len(rows) > 10
    alike(rows[0], really(runs[INTERN]))  # at the lowest of all every draft is good enough
    levels = {record["level"] for record in RunStore.open_for_reading(runs["tandem"]).records()}
    assert levels == {"none", "low", "high", "answer"}  # so that every kind of step is among them
    for row in rows[1 :: len(rows) // 4]:
        lower = {level: min(own, row["threshold"]) for level, own in THRESHOLDS.items()}
        alike(row, really(made(tmp_path / f"{row['threshold']}", "tandem", thresholds=lower)))


def test_a_climb_from_the_question_alone_pays_nothing_before_it_stops(runs: dict[str, Path], tmp_path: Path) -> None:
    own = THRESHOLDS | {"question": 0.75}
    first = {"effort": f"question,{LADDER}", "thresholds": own}
    mine = made(tmp_path / "own", "tandem", **first)
    rows = swept(runs | {"tandem": mine}, "tandem")["rows"]
    levels = {record["level"] for record in RunStore.open_for_reading(mine).records()}
    assert {"question", "none", "answer"} <= levels
    alike(rows[-1], really(mine))
    alike(rows[0], really(runs[INTERN]))
    for row in rows[1 :: len(rows) // 3]:
        lower = {level: min(threshold, row["threshold"]) for level, threshold in own.items()}
        again = made(tmp_path / f"{row['threshold']}", "tandem", **first | {"thresholds": lower})
        alike(row, really(again))


def test_a_level_that_nobody_ran_leaves_rows_without_figures(runs: dict[str, Path]) -> None:
    whole = {row["threshold"]: row for row in swept(runs, "tandem")["rows"]}
    rows = swept(runs, "tandem", runs[LEVELS[0]])["rows"]  # without high
    unknown = [row for row in rows if row["undetermined"]]
    assert unknown and any(not row["undetermined"] for row in rows[:-1]) and rows[-1]["undetermined"] == 0
    for row in rows:
        if row["undetermined"]:
            assert row["accuracy"] is None and set(row["cost"].values()) == {None}
        else:
            assert figures(row) == figures(whole[row["threshold"]])


def test_what_an_eager_mentor_would_have_written_is_not_guessed(runs: dict[str, Path], tmp_path: Path) -> None:
    eager = made(tmp_path / "eager", "tandem", pace="eager")
    rows = swept(runs | {"tandem": eager}, "tandem")["rows"]
    assert rows[-1]["undetermined"] == 0  # as it was run
    assert rows[0]["undetermined"] > 0 and rows[0]["accuracy"] is None


def test_an_uncalibrated_climb_says_so(runs: dict[str, Path], tmp_path: Path) -> None:
    def uncalibrated(record: dict[str, Any]) -> None:
        for decision in record["trace"]:
            decision["calibrated"] = False

    assert swept(runs, "tandem")["uncalibrated"] is False
    other = edited(runs["tandem"], tmp_path / "other", uncalibrated)
    assert swept(runs | {"tandem": other}, "tandem")["uncalibrated"] is True


# What is left out, and what is refused


def test_problems_that_failed_or_were_not_judged_are_counted_and_left_out(
    runs: dict[str, Path], tmp_path: Path
) -> None:
    def some(record: dict[str, Any]) -> None:
        if record["problem"] == "p3":
            record |= {"error": "no luck", "trace": [], "correct": False, "level": None, "answered_by": None}
        if record["problem"] == "p5":
            record["correct"] = None

    other = edited(runs["cascade:0.5"], tmp_path / "other", some)
    found = swept(runs | {"cascade:0.5": other}, "cascade:0.5")
    assert (found["n"], found["failed"], found["not_judged"]) == (28, 1, 1)


def test_answers_that_differ_from_those_of_the_run_are_counted(runs: dict[str, Path], tmp_path: Path) -> None:
    def flip(record: dict[str, Any]) -> None:
        if record["problem"] in ("p1", "p2"):
            record["correct"] = not record["correct"]

    other = edited(runs["random-mix:0.4"], tmp_path / "other", flip)
    assert swept(runs | {"random-mix:0.4": other}, "random-mix:0.4")["differently_in_the_run"] == 2


def set_seed(manifest: dict[str, Any]) -> None:
    manifest["run"]["settings"]["sampling"]["seed"] = 7


def set_data(manifest: dict[str, Any]) -> None:
    manifest["run"]["dataset"]["problems_sha256"] = "0" * 64


def set_grader(record: dict[str, Any]) -> None:
    record["grader"] = "other"


def set_reference(record: dict[str, Any]) -> None:
    record["reference"] = "0"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"manifest": set_seed}, "cannot be compared: they differ in settings.sampling.seed"),
        ({"manifest": set_data}, "cannot be compared: they differ in dataset.problems_sha256"),
        ({"record": set_grader}, "p[0-9]+ was graded by another grader"),
        ({"record": set_reference}, "p[0-9]+ was graded by another reference"),
        ({"record": lambda record: record.update(correct=None)}, "no problem of cascade:0.5 was graded"),
    ],
)
def test_runs_that_do_not_belong_together(
    runs: dict[str, Path], tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    other = edited(runs[MENTOR], tmp_path / "other", **changes)
    with pytest.raises(UsageError, match=said):
        swept(runs | {MENTOR: other}, "cascade:0.5")


def no_decision(record: dict[str, Any]) -> None:
    record["trace"] = []


def no_sufficiency(record: dict[str, Any]) -> None:
    for decision in record["trace"]:
        decision["sufficiency"] = None


@pytest.mark.parametrize("name", ["cascade:0.5", "tandem"])
@pytest.mark.parametrize("change", [no_decision, no_sufficiency])
def test_a_run_without_decisions(runs: dict[str, Path], tmp_path: Path, name: str, change: Any) -> None:
    other = edited(runs[name], tmp_path / "other", change)
    with pytest.raises(UsageError, match=f"'{name}' cannot be swept: .*nothing to sweep"):
        swept(runs | {name: other}, name)


def test_a_run_that_is_not_finished(runs: dict[str, Path], tmp_path: Path) -> None:
    for name in (INTERN, "cascade:0.5"):
        other = edited(runs[name], tmp_path / name, manifest=lambda m: m["run"]["dataset"].update(problems=31))
        with pytest.raises(UsageError, match=f"{name} in .* is stopped at 30 problems: finish it first"):
            swept(runs | {name: other}, "cascade:0.5")


def test_runs_of_other_strategies(runs: dict[str, Path]) -> None:
    with pytest.raises(UsageError, match="is a run of 'mentor-only', and one of 'intern-only' is needed"):
        runs_of_folders(runs["cascade:0.5"], runs[MENTOR], runs[MENTOR], [])
    with pytest.raises(UsageError, match=r"give --intern-run DIR and --mentor-run DIR$"):
        runs_of_folders(runs["cascade:0.5"], runs[INTERN], None, [])
    with pytest.raises(UsageError, match="strategy 'fixed:low=4' has no threshold that can be replayed; cascade, "):
        sweep(runs_of_folders(runs[LEVELS[0]], runs[INTERN], runs[MENTOR], []))


# A comparison


def test_a_comparison_is_swept_run_by_run(runs: dict[str, Path], tmp_path: Path) -> None:
    folder = comparison(tmp_path / "compared", runs)
    found = sweep(runs_of_comparison(folder, None))
    assert [one["strategy"] for one in found["sweeps"]] == ["cascade:0.5", "route:0.45", "random-mix:0.4", "tandem"]
    assert found["sweeps"][0] == swept(runs, "cascade:0.5") and found["sweeps"][3] == swept(runs, "tandem")
    assert found["synthetic"] is True and "on the test set" in found["warning"]
    (only,) = sweep(runs_of_comparison(folder, "route:0.45"))["sweeps"]
    assert only["strategy"] == "route:0.45"
    for name, said in (
        ("delegate", "'delegate' was not run in .*compared: no tools"),
        ("route", "'route' was not run in .*compared: it has runs of intern-only, "),
        ("fixed:low=4", "no threshold that can be replayed"),
    ):
        with pytest.raises(UsageError, match=said):
            sweep(runs_of_comparison(folder, name))
    with pytest.raises(UsageError, match="has no run of mentor-only, which a replay needs"):
        few = {name: runs[name] for name in (INTERN, "cascade:0.5")}
        runs_of_comparison(comparison(tmp_path / "few", few), None)
    with pytest.raises(UsageError, match="has no run of a strategy that can be swept: cascade, "):
        runs_of_comparison(comparison(tmp_path / "none", {name: runs[name] for name in (INTERN, MENTOR)}), None)


@pytest.mark.parametrize("name", ["cascade:0.5", "random-mix:0.4", "tandem"])
def test_us_dollars_are_known_where_the_mentor_has_a_price(name: str, tmp_path: Path) -> None:
    """Problems that the intern solves alone have no bill: they cost US$ 0, and no row is unknown for their sake."""
    made_of = {one: made(tmp_path / str(k), one, priced=True) for k, one in enumerate((INTERN, MENTOR, *LEVELS, name))}
    runs = runs_of_folders(made_of[name], made_of[INTERN], made_of[MENTOR], [made_of[one] for one in LEVELS])
    found = sweep(runs)
    assert found["unit"] == "usd" and found["notes"] == [OWN_HARDWARE]
    (only,) = found["sweeps"]
    assert only["anchors"][INTERN]["cost"]["usd"] == 0.0
    bills = [record["ledger"]["entries"] for record in RunStore.open_for_reading(made_of[MENTOR]).records()]
    bill = sum((2.5 * e["usage"]["prompt"] + 10 * e["usage"]["completion"]) / 1e6 for entries in bills for e in entries)
    assert only["anchors"][MENTOR]["cost"]["usd"] == pytest.approx(bill / 30)
    known = [row for row in only["rows"] if not row["undetermined"]]
    assert len(known) > 3 and all(row["gain_over_chord"]["usd"]["value"] is not None for row in known)
    (own,) = (row for row in known if row["own"])
    really_paid = outcomes_of(RunStore.open_for_reading(made_of[name]).records()).mean("usd")
    assert own["cost"]["usd"] == pytest.approx(really_paid)
    if name == "random-mix:0.4":  # by hand: on the chord's line the mix's cost is that of the problems the mentor got
        by_mentor = [r for r in RunStore.open_for_reading(made_of[name]).records() if r["answered_by"] == "mentor"]
        assert really_paid == pytest.approx(sum(e["usd"] for r in by_mentor for e in r["ledger"]["entries"]) / 30)
