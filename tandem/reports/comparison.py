"""compare.json: the runs of a comparison, checked to be of the same problems, and all figures of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from tandem.errors import TandemError, UsageError
from tandem.runs import UNITS
from tandem.runs.compare import Part
from tandem.runs.manifest import differences, name_differences
from tandem.runs.outcomes import RunOutcomes, outcomes_of
from tandem.runs.store import RUN, RunStore
from tandem.statistics.chord import ace, chord, quotient
from tandem.statistics.intervals import UNKNOWN, Bootstrap, interval
from tandem.statistics.reliability import reliability_bins
from tandem.statistics.significance import mcnemar, wilson
from tandem.storage.files import write_whole
from tandem.storage.formats import read_stamped, stamped

COMPARE = "compare.json"
FORMAT = 1
INTERN_ONLY, MENTOR_ONLY = "intern-only", "mentor-only"
UPPER_BOUND = ("shepherding:oracle",)  # looks at the reference: no method, and no part of the oracle's choice
_BOUND = "looks at the reference: an upper bound, no method"
_BINS = 5  # of a reliability table
# What two runs may differ in and still be compared: the method, and what only a method reads.
_OWN = (
    *("strategy.", "ladder.", "draft_tokens.", "classifier.", "predictor.", "settings.effort.", "settings.pace."),
    *("settings.draft_tokens.", "settings.classifier.", "settings.intern_logprobs."),
)


def check_readable(folder: Path) -> None:
    """Raise TandemError if a folder holds a comparison, or a run of one, that this version cannot read."""
    if (folder / COMPARE).is_file():
        read_stamped(folder / COMPARE, FORMAT, needs=["strategies"], instead="take another --out")
    for path in sorted(folder.glob(f"*/{RUN}")):
        RunStore.open_for_reading(path.parent)


def finished_parts(folders: Sequence[Path]) -> list[Part]:
    """Return the parts of a comparison of runs that were made before, each named by its strategy."""
    parts: list[Part] = []
    for folder in folders:
        name = str(RunStore.open_for_reading(folder).manifest()["run"].get("strategy", folder.name))
        if any(part.name == name for part in parts):
            name = f"{name} ({folder.name})"
        if not any(record["correct"] is not None for record in RunStore.open_for_reading(folder).records()):
            raise UsageError(f"no problem of {folder} was graded: compare runs with references, or grade them first")
        parts.append(Part(name, str(folder.resolve())))
    return parts


def report(folder: Path, parts: Sequence[Part], *, seed: int = 0) -> dict[str, Any]:
    """Write compare.json over the parts' runs and return it.

    Raises UsageError for runs over other problems, with another seed, grader or model: the difference is named.
    """
    stores = {part.name: RunStore.open_for_reading(folder / part.folder) for part in parts if part.reason is None}
    if not stores:
        raise TandemError("no strategy could be run: " + "; ".join(f"{part.name}: {part.reason}" for part in parts))
    manifests = {name: store.manifest() for name, store in stores.items()}
    check_same(manifests)
    runs = {name: outcomes_of(store.records()) for name, store in stores.items()}
    check_graded(runs)
    first = next(iter(manifests.values()))
    wanted = int(first["run"]["dataset"].get("problems", 0))
    if any(run.priced for run in runs.values()):
        for run in runs.values():
            run.cost["usd"] = run.bill
    best = oracle(runs)
    figures = strategy_figures(runs, best, seed=seed)
    figures_of_all = {
        "started": first.get("started") or datetime.now(UTC).isoformat(timespec="seconds"),
        "pair": {role: first["run"][role]["name"] for role in ("mentor", "intern")},
        "dataset": first["run"]["dataset"],
        "settings": first["run"]["settings"],
        "synthetic": any(run.synthetic for run in runs.values()),
        "n": wanted,
        "graded": len(best.ids),
        "units": list(UNITS),
        "strategies": [_row(part, figures, wanted) for part in parts],
        "oracle": {
            "accuracy": float(best.correct.mean()) if best.ids else None,
            "cost": {unit: best.mean(unit) for unit in (*UNITS, "intern_tokens")},
        },
        "shared": shared_tokens(runs),
        "reliability": reliability(runs),
    }
    found = stamped(figures_of_all, FORMAT)
    write_whole(folder / COMPARE, json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    return found


def _row(part: Part, figures: Mapping[str, Mapping[str, Any]], wanted: int) -> dict[str, Any]:
    row = {"name": part.name, "folder": part.folder, "status": "skipped", "reason": part.reason}
    if part.reason is not None:
        return row
    own = figures[part.name]
    status = "finished" if own["n"] >= wanted else "partial"
    return row | {"status": status, "offline": part.offline, **own}


def check_same(manifests: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise UsageError, with the difference, for manifests of runs that differ in more than their method."""
    (first, one), *others = manifests.items()
    for name, other in others:
        found = [d for d in differences(one["run"], other["run"]) if not f"{d.path}.".startswith(_OWN)]
        if found:
            raise UsageError(f"{first} and {name} cannot be compared: they differ in {name_differences(found)}")


def check_graded(runs: Mapping[str, RunOutcomes]) -> None:
    """Raise UsageError for runs of which one graded a problem by another reference or grader."""
    (first, one), *others = runs.items()
    for name, other in others:
        for problem in one.references.keys() & other.references.keys():
            if one.references[problem] != other.references[problem]:
                what = "reference" if one.references[problem][0] != other.references[problem][0] else "grader"
                raise UsageError(f"{first} and {name} cannot be compared: {problem} was graded by another {what}")


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
            "cost": {unit: run.mean(unit) for unit in (*UNITS, "intern_tokens")},
            "levels": run.levels,
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
    gains, aces, shares = (dict.fromkeys(UNITS, UNKNOWN) for _ in range(3))
    for unit in UNITS:
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


def oracle(runs: Mapping[str, RunOutcomes]) -> RunOutcomes:
    """Return, for each problem, the cheapest strategy that is right, else the cheapest (TFLOPs, or mentor tokens).

    Of strategies that ended as many problems as any: one that was stopped early would take problems from all of them.
    """
    most = max(len(run.ids) for run in runs.values())
    whole = [run for name, run in runs.items() if name not in UPPER_BOUND and len(run.ids) == most]
    common = shared_ids(whole)
    methods = [run.of(common) for run in whole]
    unit = "tflops" if all(run.cost["tflops"] is not None for run in methods) else "mentor_tokens"
    price = np.vstack([run.costs(unit) for run in methods])
    correct = np.vstack([run.correct for run in methods])
    choice = np.argmin(price + np.where(correct > 0, 0.0, price.sum() + 1.0), axis=0)
    each = np.arange(len(common))
    cost = {
        u: None
        if any(run.cost[u] is None for run in methods)
        else np.vstack([run.costs(u) for run in methods])[choice, each]
        for u in (*UNITS, "intern_tokens")
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
