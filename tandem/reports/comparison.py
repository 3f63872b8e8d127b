"""compare.json: the runs of a comparison, checked to be of the same problems, and all figures of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tandem.errors import TandemError, UsageError
from tandem.reports.comparison_figures import oracle, reliability, shared_tokens, strategy_figures
from tandem.runs.compare import Part
from tandem.runs.manifest import ManifestDifference, differences, name_differences
from tandem.runs.outcomes import UNITS, RunOutcomes, outcomes_of
from tandem.runs.store import RUN, RunStore
from tandem.storage.files import write_whole
from tandem.storage.formats import read_stamped, stamped

COMPARE = "compare.json"
FORMAT = 1
# What two runs may differ in and still be compared: the method, and what only a method reads.
_OWN = ("strategy", "ladder", "draft_tokens", "classifier", "predictor", "settings.effort", "settings.pace")
_OWN_TOO = ("settings.draft_tokens", "settings.classifier", "settings.intern_logprobs")


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
            raise UsageError(f"no problem of {folder} was judged: compare runs with references, or grade them first")
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
    check_judged(runs)
    wanted = int(next(iter(manifests.values()))["run"]["dataset"].get("problems", 0))
    if any(run.priced for run in runs.values()):
        for run in runs.values():
            run.cost["usd"] = run.bill
    best = oracle(runs)
    figures = strategy_figures(runs, best, seed=seed)
    first = next(iter(manifests.values()))
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
        "oracle": {"accuracy": _mean(best), "cost": {unit: best.mean(unit) for unit in (*UNITS, "intern_tokens")}},
        "shared": shared_tokens(runs),
        "reliability": reliability(runs),
    }
    found = stamped(figures_of_all, FORMAT)
    write_whole(folder / COMPARE, json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    return found


def _row(part: Part, figures: Mapping[str, Mapping[str, Any]], wanted: int) -> dict[str, Any]:
    if part.reason is not None:
        return {"name": part.name, "folder": part.folder, "status": "skipped", "reason": part.reason}
    own = figures[part.name]
    status = "finished" if own["n"] >= wanted else "partial"
    return {"name": part.name, "folder": part.folder, "status": status, "reason": None, "offline": part.offline} | dict(
        own
    )


def _mean(outcomes: RunOutcomes) -> float | None:
    return float(outcomes.correct.mean()) if len(outcomes.ids) else None


def check_same(manifests: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise UsageError, with the difference, for manifests of runs that differ in more than their method."""
    (first, one), *others = manifests.items()
    for name, other in others:
        found = [d for d in differences(one["run"], other["run"]) if not _own(d)]
        if found:
            raise UsageError(f"{first} and {name} cannot be compared: they differ in {name_differences(found)}")


def _own(difference: ManifestDifference) -> bool:
    return any(difference.path == own or difference.path.startswith(own + ".") for own in (*_OWN, *_OWN_TOO))


def check_judged(runs: Mapping[str, RunOutcomes]) -> None:
    """Raise UsageError for runs of which one judged a problem by another reference or grader."""
    (first, one), *others = runs.items()
    for name, other in others:
        for problem in one.references.keys() & other.references.keys():
            if one.references[problem] != other.references[problem]:
                what = (
                    "another reference"
                    if one.references[problem][0] != other.references[problem][0]
                    else "another grader"
                )
                raise UsageError(f"{first} and {name} cannot be compared: {problem} was judged by {what}")
