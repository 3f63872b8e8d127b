"""Two runs side by side, over the problems that both have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tandem.errors import UsageError
from tandem.runs.manifest import differences
from tandem.runs.outcomes import LATENCY, MEASURES
from tandem.runs.store import RunStore
from tandem.runs.summary import Summary
from tandem.statistics.significance import mcnemar, paired_bootstrap


def compare(a: RunStore, b: RunStore) -> dict[str, Any]:
    """Return what two runs have in common and where they differ; B is compared with A.

    Figures are over the common problems: the same id and the same reference. `accuracy` and `flipped` leave out those
    that one run did not grade; an error is wrong. `difference` is B's accuracy minus A's with its paired bootstrap
    interval and the p-value of McNemar's exact test; `costs` are totals in every unit, latency and the intern's tokens,
    `ratio` is B's over A's (None where it is unknown or nothing). Raises UsageError if no problem is common.
    """
    theirs = set(b.ids())
    ids = [problem for problem in a.ids() if problem in theirs]
    sums = Summary(), Summary()
    graded, right = 0, [0, 0]
    gained: list[str] = []
    lost: list[str] = []
    other: list[str] = []
    for one, two in zip(a.records(ids), b.records(ids), strict=True):
        if one.get("reference") != two.get("reference"):
            other.append(one["problem"])
            continue
        for figures, record in zip(sums, (one, two), strict=True):
            figures.add(record)
        if one["correct"] is None or two["correct"] is None:
            continue
        graded += 1
        right[0] += one["correct"]
        right[1] += two["correct"]
        if one["correct"] != two["correct"]:
            (gained if two["correct"] else lost).append(one["problem"])
    common = len(ids) - len(other)
    if not common:
        same_ids = f" ({len(other)} ids are the same, with other references)" if other else ""
        raise UsageError(f"{a.folder} and {b.folder} have no problem in common{same_ids}")
    manifests = a.manifest(), b.manifest()
    billed = any(figures.result(None)["usd"] is not None for figures in sums)  # own hardware then counts 0
    results = [figures.result(None, "usd" if billed else None) for figures in sums]
    costs = [_costs(result) for result in results]
    return {
        "folders": [str(a.folder), str(b.folder)],
        "settings": [found._asdict() for found in differences(manifests[0]["run"], manifests[1]["run"])],
        "versions": [manifest.get("version") for manifest in manifests],
        "common": common,
        "only": [len(a.ids()) - len(ids), len(theirs) - len(ids)],
        "other_reference": other,
        "judged": graded,
        "accuracy": [count / graded for count in right] if graded else None,
        "difference": {
            "value": (right[1] - right[0]) / graded,
            "ci95": list(paired_bootstrap(len(gained), len(lost), graded) or ()),
            "mcnemar_p": mcnemar(len(gained), len(lost)),
        }
        if graded
        else None,
        "costs": costs,
        "ratio": {name: _ratio(costs[0][name], costs[1][name]) for name in MEASURES},
        "errors": [result["errors"] for result in results],
        "flipped": {"gained": gained, "lost": lost},
        "synthetic": any(result["synthetic"] for result in results),
    }


def _costs(result: Mapping[str, Any]) -> dict[str, float | None]:
    totals = {unit: own["total"] for unit, own in result["cost"].items()}
    return {**totals, LATENCY: result["seconds"], "intern_tokens": result["intern_tokens"]}


def _ratio(before: float | None, after: float | None) -> float | None:
    return after / before if before and after is not None else None
