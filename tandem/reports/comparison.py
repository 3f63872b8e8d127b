"""compare.json: the runs of a comparison, checked to be of the same problems, and all figures of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from tandem.costs import LABELS, Unit
from tandem.errors import TandemError, UsageError
from tandem.ladder import by_level
from tandem.reports.verdict import verdict
from tandem.runs.compare import Part, runs_in
from tandem.runs.manifest import incomparable
from tandem.runs.outcomes import (
    AXES,
    LATENCY,
    MEASURES,
    OWN_HARDWARE,
    RunOutcomes,
    count_own_hardware,
    outcomes_of,
    unit_of,
)
from tandem.runs.store import COMPARE, RUN, RunStore
from tandem.statistics.chord import ace, chord, quotient
from tandem.statistics.intervals import UNKNOWN, Bootstrap, interval
from tandem.statistics.reliability import reliability_bins
from tandem.statistics.significance import mcnemar, wilson
from tandem.storage.files import write_whole
from tandem.storage.formats import read_stamped, stamped

FORMAT = 2  # 1: `seconds` was latency, and there was no `unit`
INTERN_ONLY, MENTOR_ONLY = "intern-only", "mentor-only"
UPPER_BOUND = ("shepherding:oracle",)  # looks at the reference: no method, and no part of the oracle's choice
_BOUND = "looks at the reference: an upper bound, no method"
_BINS = 5  # of a reliability table
_BY_AXIS = ("cost", "gain_over_chord", "ace", "headroom_share")


def check_readable(folder: Path) -> None:
    """Raise TandemError if a folder holds a comparison, or a run of one, that this version cannot read."""
    if (folder / COMPARE).is_file():
        read_compared(folder, instead="take another --out")
    for path in sorted(folder.glob(f"*/{RUN}")):
        RunStore.open_for_reading(path.parent)


def read_compared(folder: Path, *, instead: str) -> dict[str, Any]:
    """Return compare.json as it was written, of any format that this version can read; else raise TandemError."""
    return read_stamped(folder / COMPARE, FORMAT, needs=["strategies"], instead=instead)


def as_format_2(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return compare.json as this version writes it: in format 1 `seconds` is the time by the clock."""
    if raw.get("format", 1) != 1:
        return dict(raw)

    def by_axis(value: Any) -> Any:
        return {LATENCY if k == "seconds" else k: v for k, v in value.items()} if isinstance(value, Mapping) else value

    def renamed(row: Any) -> Any:
        if not isinstance(row, Mapping):
            return row
        return {**row, **{name: by_axis(row[name]) for name in _BY_AXIS if name in row}}

    units, rows = raw.get("units"), raw.get("strategies")
    return {
        **raw,
        "units": [LATENCY if one == "seconds" else one for one in units] if isinstance(units, list) else units,
        "strategies": [renamed(row) for row in rows] if isinstance(rows, list) else rows,
        "oracle": renamed(raw.get("oracle")),
    }


def finished_parts(folders: Sequence[Path]) -> list[Part]:
    """Return the parts of a comparison of runs that were made before, each named by its strategy."""
    parts: list[Part] = []
    for folder in folders:
        name = str(RunStore.open_for_reading(folder).manifest()["run"].get("strategy", folder.name))
        if any(part.name == name for part in parts):
            name = f"{name} ({folder.name})"
        graded = any(record["correct"] is not None for record in RunStore.open_for_reading(folder).records())
        reason = None if graded else "no problem of it was graded: compare runs with references, or grade them first"
        parts.append(Part(name, str(folder.resolve()), reason))
    return parts


def earlier_parts(folder: Path, parts: Sequence[Part]) -> list[Part]:
    """Return the parts of a comparison that was continued with other strategies: what was run stays in it."""
    raw = read_compared(folder, instead="take another --out") if (folder / COMPARE).is_file() else {}
    rows = {str(row["name"]): row for row in raw.get("strategies", ()) if isinstance(row, Mapping) and "name" in row}
    names = {part.name for part in parts}
    found: dict[str, Part] = {}
    for name, manifest in runs_in(folder).items():
        own = str(manifest["strategy"])
        if own not in names:
            found[own] = Part(own, name, offline=rows.get(own, {}).get("offline"))
    for name, row in rows.items():
        if name not in names and name not in found and row.get("reason"):
            found[name] = Part(name, str(row.get("folder", name)), reason=str(row["reason"]))
    return list(found.values())


@dataclass(frozen=True, slots=True)
class _Held:
    manifest: Mapping[str, Any]
    run: RunOutcomes
    warnings: Sequence[str] = ()  # of damaged records


def report(
    folder: Path,
    parts: Sequence[Part],
    *,
    unit: Unit | None = None,
    finished: bool = False,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Any]:
    """Write compare.json over the parts' runs and return it.

    A run that cannot be compared with the others (over other problems, with another seed, grader or model, or without
    a single solved problem) is left out, with its reason. `unit` is what costs are compared in (None: the first one
    that is known for the runs); runs that were `finished` before must know it. `level` is that of the verdict's
    intervals. Raises TandemError where nothing is left to compare, which of finished runs takes two.
    """
    held, reasons = _open(folder, parts)
    kept = _comparable(held, reasons)
    if len(kept) < 1 + finished:
        raise TandemError("nothing can be compared: " + "; ".join(f"{name}: {why}" for name, why in reasons.items()))
    runs = {name: one.run for name, one in kept.items()}
    first = next(iter(kept.values())).manifest
    wanted = int(first["run"]["dataset"].get("problems", 0))
    notes = [OWN_HARDWARE] if count_own_hardware(runs.values()) else []
    anchors = [runs[name] for name in (INTERN_ONLY, MENTOR_ONLY) if name in runs] or list(runs.values())
    known = unit_of(anchors)
    told = unit or known
    if any(run.cost[told] is None for run in anchors if run.ids):
        missing = f"the cost in {LABELS[told]} is not known of every run"
        if finished:
            raise UsageError(f"{missing}; take another --unit, such as {known.replace('_', '-')}")
        told = known
        notes.append(f"{missing}: they are compared in {LABELS[told]}")
    best = oracle(runs, told)
    figures = strategy_figures(runs, best, seed=seed)
    figures_of_all = {
        "started": first.get("started") or datetime.now(UTC).isoformat(timespec="seconds"),
        "pair": {role: first["run"][role]["name"] for role in ("mentor", "intern")},
        "dataset": first["run"]["dataset"],
        "settings": first["run"]["settings"],
        "synthetic": any(run.synthetic for run in runs.values()),
        "n": wanted,
        "graded": len(best.ids),
        "unit": told,
        "units": list(AXES),
        "notes": notes,
        "verdict": _verdict(kept, told, level),
        "strategies": [_row(part, figures, kept, reasons, wanted) for part in parts],
        "oracle": {
            "accuracy": float(best.correct.mean()) if best.ids else None,
            "cost": {name: best.mean(name) for name in MEASURES},
        },
        "shared": shared_tokens(runs),
        "reliability": reliability(runs),
    }
    found = stamped(figures_of_all, FORMAT)
    write_whole(folder / COMPARE, json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    return found


def _verdict(held: Mapping[str, _Held], unit: Unit, level: float) -> dict[str, Any] | None:
    """Return the verdict on the first run of Tandem itself against the mentor alone; None without both."""
    ours = next((one for one in held.values() if one.manifest["run"]["strategy"] == "tandem"), None)
    if ours is None or MENTOR_ONLY not in held:
        return None
    free = ours.manifest["run"]["intern"]["name"] if ours.run.priced and ours.run.unpriced else None
    found = verdict(ours.run, held[MENTOR_ONLY].run, unit, level=level, free=free)
    return None if found is None else found.model_dump(mode="json")


def _open(folder: Path, parts: Sequence[Part]) -> tuple[dict[str, _Held], dict[str, str]]:
    """Return the parts' runs, and why the others have none."""
    held: dict[str, _Held] = {}
    reasons = {part.name: part.reason for part in parts if part.reason is not None}
    for part in parts:
        if part.name in reasons:
            continue
        try:
            store = RunStore.open_for_reading(folder / part.folder)
            one = _Held(store.manifest(), outcomes_of(store.records()), store.warnings)
        except TandemError as error:
            reasons[part.name] = str(error)
        except Exception as fault:  # records that nobody foresaw: the others' figures must not be lost with them
            reasons[part.name] = f"its records cannot be counted ({type(fault).__name__}: {fault})"
        else:
            if one.run.ids and one.run.errors == len(one.run.ids):
                failed = next(str(record["error"]) for record in store.records() if record["error"])
                reasons[part.name] = f"every problem failed; the first error: {failed}"
            else:
                held[part.name] = one
    return held, reasons


def _comparable(held: Mapping[str, _Held], reasons: dict[str, str]) -> dict[str, _Held]:
    """Return the largest group of runs that can be compared with each other; the others get their reasons."""
    groups: list[dict[str, _Held]] = []
    for name, one in held.items():
        group = next((g for g in groups if not any(_differ(o, one) for o in g.values())), None)
        if group is None:
            groups.append(group := {})
        group[name] = one
    kept = max(groups, key=len, default={})
    for name, one in held.items():
        if name not in kept:
            other, why = next((o, why) for o, k in kept.items() if (why := _differ(k, one)))
            reasons[name] = f"it cannot be compared with {other}: {why}"
    return kept


def _differ(one: _Held, other: _Held) -> str | None:
    found = incomparable(one.manifest["run"], other.manifest["run"])
    return found or graded_otherwise(one.run, other.run)


def graded_otherwise(one: RunOutcomes, other: RunOutcomes) -> str | None:
    """Return, in words, a problem that two runs graded by another reference or grader; None where there is none."""
    for problem, how in one.references.items():
        if problem in other.references and how != (theirs := other.references[problem]):
            return f"{problem} was graded by another {'reference' if how[0] != theirs[0] else 'grader'}"
    return None


def _row(
    part: Part,
    figures: Mapping[str, Mapping[str, Any]],
    held: Mapping[str, _Held],
    reasons: Mapping[str, str],
    wanted: int,
) -> dict[str, Any]:
    row = {"name": part.name, "folder": part.folder, "status": "skipped", "reason": reasons.get(part.name)}
    if part.name in reasons:
        return row
    own = figures[part.name]
    status = "finished" if own["n"] >= wanted else "partial"
    notes = [*([part.note] if part.note else []), *own["notes"], *held[part.name].warnings]
    return row | {"status": status, "offline": part.offline, **own, "notes": notes}


def strategy_figures(runs: Mapping[str, RunOutcomes], best: RunOutcomes, *, seed: int = 0) -> dict[str, dict[str, Any]]:
    """Return accuracy and cost of each run over its own problems, and what compares over those that both anchors ended.

    `best` is the oracle. Intervals are 95 %: Wilson's for an accuracy, a paired bootstrap over problems for the rest.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, run in runs.items():
        n, right = len(run.ids), int(run.correct.sum())
        found[name] = {
            "n": n,
            "accuracy": right / n if n else None,
            "accuracy_ci95": list(wilson(right, n) or ()) or None,
            "cost": {name: run.mean(name) for name in MEASURES},
            "levels": by_level(run.levels),
            "truncated": run.truncated,
            "errors": run.errors,
            "upper_bound": name in UPPER_BOUND,
            "notes": [*run.notes, *([_BOUND] if name in UPPER_BOUND else [])],
        }
        if INTERN_ONLY in runs and MENTOR_ONLY in runs:
            four = (run, runs[INTERN_ONLY], runs[MENTOR_ONLY], best)
            if common := shared_ids(four):
                found[name] |= _against(Bootstrap(len(common), seed=seed), *(one.of(common) for one in four))
    return found


def shared_ids(runs: Sequence[RunOutcomes]) -> list[str]:
    """Return the problems that all of these ended, in the order of the first."""
    first, *others = runs
    theirs = [set(run.ids) for run in others]
    return [one for one in first.ids if all(one in ids for ids in theirs)]


def _against(
    boot: Bootstrap, ours: RunOutcomes, cheap: RunOutcomes, expensive: RunOutcomes, best: RunOutcomes
) -> dict[str, Any]:
    right, theirs = ours.correct, expensive.correct
    won, lost = int((right > theirs).sum()), int((right < theirs).sum())
    gains, aces, shares = (dict.fromkeys(AXES, UNKNOWN) for _ in range(3))
    for unit in AXES:
        if any(run.cost[unit] is None for run in (ours, cheap, expensive)):
            continue
        ends = [(boot.mean(run.costs(unit)), boot.mean(run.correct)) for run in (cheap, expensive)]
        cost, accuracy = boot.mean(ours.costs(unit)), boot.mean(right)
        gain = accuracy - chord(cost, *ends)
        gains[unit], aces[unit] = interval(gain), interval(ace(cost, accuracy, *ends))
        oracle = boot.mean(best.correct) - chord(boot.mean(best.costs(unit)), *ends)
        shares[unit] = interval(quotient(gain, oracle))
    return {
        "gain_over_chord": gains,
        "ace": aces,
        "headroom_share": shares,
        "against_mentor": interval(boot.mean(right) - boot.mean(theirs))
        | {"won": won, "lost": lost, "mcnemar_p": mcnemar(won, lost)},
    }


def oracle(runs: Mapping[str, RunOutcomes], unit: Unit) -> RunOutcomes:
    """Return, for each problem, the cheapest strategy in `unit` that is right, else the cheapest.

    Of strategies whose cost is known and that ended as many problems as any: one that was stopped early would take
    problems from all of them.
    """
    most = max(len(run.ids) for run in runs.values())
    whole = [run for name, run in runs.items() if name not in UPPER_BOUND and len(run.ids) == most]
    whole = [run for run in whole if run.cost[unit] is not None] or whole
    common = shared_ids(whole)
    methods = [run.of(common) for run in whole]
    price = np.vstack([run.costs(unit) for run in methods])
    correct = np.vstack([run.correct for run in methods])
    choice = np.argmin(price + np.where(correct > 0, 0.0, price.sum() + 1.0), axis=0)
    each = np.arange(len(common))
    cost = {
        name: None
        if any(run.cost[name] is None for run in methods)
        else np.vstack([run.costs(name) for run in methods])[choice, each]
        for name in MEASURES
    }
    return RunOutcomes(list(common), correct[choice, each], cost)


def shared_tokens(runs: Mapping[str, RunOutcomes]) -> dict[str, float | None]:
    charged = sum(run.charged_tokens for run in runs.values())
    written = sum(run.written_tokens for run in runs.values())
    return {
        "charged_tokens": charged,
        "generated_tokens": written,
        "share": round(written / charged, 4) if charged else None,
    }


def reliability(runs: Mapping[str, RunOutcomes]) -> dict[str, list[dict[str, float]]]:
    """Return, for strategies that predict how likely the intern is right, the outcomes, in five bins.

    Only predictions whose outcome some run of the comparison shows: the intern alone, under a fixed level, or the
    answer that was given.
    """
    found = {}
    for name, run in runs.items():
        if pairs := [*run.predictions(runs)]:
            rows = reliability_bins(pairs, _BINS)
            found[name] = [row | {key: round(row[key], 4) for key in ("predicted", "observed")} for row in rows]
    return found
