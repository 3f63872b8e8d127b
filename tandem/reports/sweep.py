"""Thresholds replayed on the records of a finished run, beside those of both models alone: no model is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tandem.errors import UsageError
from tandem.ladder import parse_ladder
from tandem.reports.comparison import COMPARE, check_judged, check_same
from tandem.reports.comparison_figures import CHEAP, DEAR
from tandem.reports.page.gather import read_comparison
from tandem.reports.sweep_choices import SWEPT, SweepChoices, ways_of
from tandem.runs.listing import current_summary, state
from tandem.runs.outcomes import UNITS, RunOutcomes, outcomes_of
from tandem.runs.store import Record, RunStore
from tandem.statistics.chord import chords
from tandem.statistics.intervals import Bootstrap, interval
from tandem.statistics.significance import wilson

WARNING = (
    "these are the problems that the figures are of: a threshold that is chosen here is chosen on the test set; "
    "choose on some problems, report on others"
)
_CHUNK = 256  # thresholds at once


@dataclass
class Runs:
    """The finished runs of one sweep, by the names of their strategies; `swept` are those whose thresholds are meant.

    Both anchors are among them.
    """

    stores: dict[str, RunStore]
    swept: list[str]
    folder: Path
    warnings: list[str] = field(default_factory=list)

    def strategy(self, name: str) -> str:
        """Return a run's own strategy: a comparison of several runs of one gives them names of its own."""
        return str(self.stores[name].manifest()["run"]["strategy"])


def runs_of_comparison(folder: Path, strategy: str | None) -> Runs:
    """Return the runs of a comparison; `strategy` names the one to sweep (None: all that can be).

    Raises UsageError where none can be, or an anchor is missing.
    """
    comparison = read_comparison(folder)
    rows = comparison.figures["strategies"]
    stores = {rows[place]["name"]: store for place, store in comparison.stores.items()}
    all_runs = Runs(stores, [], folder, list(comparison.warnings))
    base = {name: _base(all_runs.strategy(name)) for name in stores}
    if strategy is not None and strategy not in stores:
        why = next((row.get("reason") for row in rows if row["name"] == strategy), None)
        raise UsageError(f"'{strategy}' was not run in {folder}: {why or 'it has runs of ' + ', '.join(stores)}")
    swept = [strategy] if strategy else [name for name in stores if base[name] in SWEPT]
    if not swept:
        raise UsageError(f"{folder} has no run of a strategy that can be swept: {', '.join(SWEPT)}")
    for anchor in (CHEAP, DEAR):
        if anchor not in stores:
            raise UsageError(f"{folder} has no run of {anchor}, which a replay needs")
    needed = {CHEAP, DEAR, *swept, *(name for name in stores if base[name] == "fixed")}
    kept = {name: store for name, store in stores.items() if name in needed}
    return _checked(Runs(kept, swept, folder, all_runs.warnings))


def runs_of_folders(folder: Path, intern: Path | None, mentor: Path | None, levels: Sequence[Path]) -> Runs:
    """Return a run with those of both models alone, and of fixed levels (which only `tandem` needs).

    Raises UsageError for missing ones, and for runs of another strategy.
    """
    own = RunStore.open_for_reading(folder)
    name = own.manifest()["run"]["strategy"]
    if intern is None or mentor is None:
        beside = folder.resolve().parent
        hint = f" (or sweep the comparison: {beside})" if (beside / COMPARE).is_file() else ""
        raise UsageError(f"a replay needs both models alone: give --intern-run DIR and --mentor-run DIR{hint}")
    stores = {name: own}
    for path, wanted in ((intern, CHEAP), (mentor, DEAR), *((path, "fixed") for path in levels)):
        store = RunStore.open_for_reading(path)
        found = store.manifest()["run"]["strategy"]
        if _base(found) != wanted:
            raise UsageError(f"{path} is a run of '{found}', and one of '{wanted}' is needed")
        stores[found] = store
    return _checked(Runs(stores, [name], folder))


def _base(name: str) -> str:
    return name.partition(":")[0]


def _checked(runs: Runs) -> Runs:
    """Raise UsageError for runs that are not finished, or differ in more than their strategy."""
    for name, store in runs.stores.items():
        summary = current_summary(store)
        if (now := state(store, summary)) != "finished":
            raise UsageError(
                f"{name} in {store.folder} is {now} at {summary['n']} problems: finish it first (--resume)"
            )
    check_same({name: store.manifest() for name, store in runs.stores.items()})
    return runs


def sweep(runs: Runs, *, seed: int = 0) -> dict[str, Any]:
    """Return the figures of every threshold that changes something, for each run that is swept.

    Costs are means of a problem in the units of a comparison, gains in accuracy over the chord between both models
    alone at equal cost, with paired 95 % intervals. Raises UsageError for a run that cannot be replayed.
    """
    records = {name: {r["problem"]: r for r in store.records()} for name, store in runs.stores.items()}
    check_judged({name: outcomes_of(own.values()) for name, own in records.items()})
    for store in runs.stores.values():
        runs.warnings += store.warnings
    first = next(iter(runs.stores.values())).manifest()["run"]
    tossed = first["settings"]["sampling"]["seed"] or 0
    strategies = {name: runs.strategy(name) for name in runs.stores}
    return {
        "folder": str(runs.folder),
        "pair": {role: first[role]["name"] for role in ("mentor", "intern")},
        "dataset": first["dataset"],
        "units": list(UNITS),
        "synthetic": any(record["synthetic"] for own in records.values() for record in own.values()),
        "warning": WARNING,
        "sweeps": [_figures(name, records, strategies, tossed, seed) for name in runs.swept],
    }


def _figures(
    name: str,
    records: Mapping[str, Mapping[str, Record]],
    strategies: Mapping[str, str],
    sampling: int,
    seed: int,
) -> dict[str, Any]:
    """Return one run's sweep; `sampling` is the seed that coins were tossed with."""
    own, anchors = records[name], [records[key] for key in (CHEAP, DEAR)]
    failed = sum(record["error"] is not None for record in own.values())
    ids = [one for one, record in own.items() if record["error"] is None and _judged(one, own, *anchors)]
    if not ids:
        raise UsageError(f"no problem of {name} was judged in it and in both models' own runs")
    fixed = {_level(strategies[key]): found for key, found in records.items() if _base(strategies[key]) == "fixed"}
    swept = {one: own[one] for one in ids}
    try:
        ways = ways_of(strategies[name], swept, anchors[0], anchors[1], fixed, sampling)
    except UsageError as error:
        raise UsageError(f"'{name}' cannot be swept: {error}") from None
    run, cheap, dear = (outcomes_of(found[one] for one in ids) for found in (swept, *anchors))
    at_own = _taken(ways, [ways.own])
    return {
        "strategy": name,
        "rule": ways.rule,
        "n": len(ids),
        "failed": failed,  # problems without a decision: in no figure
        "not_judged": len(own) - failed - len(ids),
        "own_threshold": ways.own,
        "as_run": _point(run),
        "differently_in_the_run": int((at_own.correct[:, 0] != run.correct).sum()),
        "uncalibrated": any(not decision["calibrated"] for record in swept.values() for decision in record["trace"]),
        "anchors": {CHEAP: _point(cheap), DEAR: _point(dear)},
        "rows": _rows(ways, cheap, dear, seed),
    }


def _judged(problem: str, *runs: Mapping[str, Record]) -> bool:
    return all(problem in run and run[problem]["correct"] is not None for run in runs)


def _level(name: str) -> str:
    (level,) = parse_ladder(name.partition(":")[2])
    return level.name


def _point(run: RunOutcomes) -> dict[str, Any]:
    return {"accuracy": float(run.correct.mean()), "cost": {unit: run.mean(unit) for unit in UNITS}}


@dataclass(frozen=True)
class _Taken:
    """What problems come to at several thresholds, (problems, thresholds) each; None for a cost that is not known."""

    correct: np.ndarray
    by_mentor: np.ndarray
    known: np.ndarray
    cost: Mapping[str, np.ndarray | None]


def _taken(ways: SweepChoices, thresholds: Sequence[float]) -> _Taken:
    choice = np.stack([ways.choose(threshold) for threshold in thresholds], axis=1)
    each = np.arange(len(ways.ids))[:, None]

    def take(by_way: Sequence[np.ndarray]) -> np.ndarray:
        found: np.ndarray = np.stack(by_way)[choice, each]
        return found

    unknown = {unit for unit in UNITS if any(end.cost[unit] is None for end in ways.ends)}
    cost = {unit: None if unit in unknown else take([end.costs(unit) for end in ways.ends]) for unit in UNITS}
    return _Taken(take([end.correct for end in ways.ends]), take(ways.by_mentor), take(ways.known), cost)  # type: ignore[arg-type]


def _rows(ways: SweepChoices, cheap: RunOutcomes, dear: RunOutcomes, seed: int) -> list[dict[str, Any]]:
    boot = Bootstrap(len(ways.ids), seed=seed)
    right = [boot.mean(run.correct)[:, None] for run in (cheap, dear)]
    rows: list[dict[str, Any]] = []
    for at in range(0, len(ways.grid), _CHUNK):
        part = ways.grid[at : at + _CHUNK]
        taken = _taken(ways, part)
        accuracy = boot.mean(taken.correct)
        gains: dict[str, np.ndarray] = {}
        for unit, cost in taken.cost.items():
            if cost is not None and cheap.cost[unit] is not None and dear.cost[unit] is not None:
                ends = [(boot.mean(run.costs(unit))[:, None], a) for run, a in zip((cheap, dear), right, strict=True)]
                gains[unit] = accuracy - chords(boot.mean(cost), *ends)
        rows += [_row(ways, threshold, taken, gains, k) for k, threshold in enumerate(part)]
    return rows


def _row(
    ways: SweepChoices, threshold: float, taken: _Taken, gains: Mapping[str, np.ndarray], k: int
) -> dict[str, Any]:
    undetermined = int((~taken.known[:, k]).sum())
    row: dict[str, Any] = {"threshold": threshold, "own": threshold == ways.own, "undetermined": undetermined}
    if undetermined:  # figures of the others would be of other problems than those of the next row
        return row | {"mentor_answers": None, "accuracy": None, "accuracy_ci95": None} | _nothing()
    n, right = len(ways.ids), int(taken.correct[:, k].sum())
    return row | {
        "mentor_answers": float(taken.by_mentor[:, k].mean()),
        "accuracy": right / n,
        "accuracy_ci95": list(wilson(right, n) or ()),
        "cost": {unit: None if cost is None else float(cost[:, k].mean()) for unit, cost in taken.cost.items()},
        "gain_over_chord": {unit: interval(gains[unit][:, k]) if unit in gains else _NONE for unit in UNITS},
    }


def _nothing() -> dict[str, Any]:
    return {"cost": dict.fromkeys(UNITS), "gain_over_chord": dict.fromkeys(UNITS, _NONE)}


_NONE: dict[str, float | None] = {"value": None, "low": None, "high": None}
