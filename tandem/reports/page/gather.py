"""What a report is made of: a comparison's figures made safe, and its runs' records problem by problem."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tandem.costs import UNITS
from tandem.errors import TandemError
from tandem.reports.comparison import as_format_2, read_compared
from tandem.reports.page.records import Record, number
from tandem.runs.outcomes import AXES, AXIS_LABELS
from tandem.runs.store import COMPARE, PROBLEMS, RUN, RunStore
from tandem.storage.jsonl import read_lines

_SPREAD = ("value", "low", "high")
_RAN = ("finished", "partial")


@dataclass
class ReportedProblem:
    """One problem with each strategy's record of it, by the strategy's number."""

    id: str
    question: str | None
    records: Mapping[int, Record]


@dataclass
class SavedComparison:
    """A comparison on disk. `figures` holds compare.json with only what the page knows, every number finite or None."""

    figures: dict[str, Any]
    raw: dict[str, Any]
    stores: dict[int, RunStore]
    questions: dict[str, str]
    warnings: list[str] = field(default_factory=list)

    def problems(self) -> Iterator[ReportedProblem]:
        """Yield the problems that any strategy has a record of; one of them is in memory at a time."""
        known = {place: store.ids() for place, store in self.stores.items()}
        for store in self.stores.values():
            self.warnings += store.warnings
        order = list(dict.fromkeys(problem for ids in known.values() for problem in ids))
        has = {place: set(ids) for place, ids in known.items()}
        streams = {
            place: store.records([problem for problem in order if problem in has[place]])
            for place, store in self.stores.items()
        }
        for problem in order:
            rows = {place: next(streams[place]) for place in streams if problem in has[place]}
            yield ReportedProblem(problem, self.questions.get(problem), rows)


def is_comparison(folder: Path) -> bool:
    return (folder / COMPARE).is_file()


def read_comparison(folder: Path) -> SavedComparison:
    """Open a comparison. A strategy whose run cannot be read keeps its figures, and `warnings` names it.

    Raises TandemError if compare.json cannot be read.
    """
    raw = read_compared(folder, instead="compare its runs again")
    found = SavedComparison(figures(as_format_2(raw)), raw, {}, read_questions(folder))
    for place, strategy in enumerate(found.figures["strategies"]):
        if strategy["status"] in _RAN:
            try:
                found.stores[place] = RunStore.open_for_reading(_run_folder(folder, strategy["folder"]))
                found.stores[place].ids()
            except TandemError as error:
                found.stores.pop(place, None)
                found.warnings.append(f"the records of {strategy['name']} are left out: {error}")
    return found


def read_questions(folder: Path) -> dict[str, str]:
    rows = read_lines(folder / PROBLEMS)
    return {str(row["problem"]): str(row["question"]) for row in rows if "problem" in row and "question" in row}


def figures(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the page shows of compare.json. Whatever is missing or of a wrong kind becomes None or empty."""
    strategies = [_strategy(one) for one in _list(raw.get("strategies")) if isinstance(one, dict)]
    oracle = _dict(raw.get("oracle"))
    known = [unit for unit in UNITS if any(_dict(one.get("cost")).get(unit) is not None for one in strategies)]
    unit = raw.get("unit")
    return {
        "kind": "compare",
        "version": _text(raw.get("version")),
        "started": _text(raw.get("started")),
        "pair": {role: _text(_dict(raw.get("pair")).get(role)) or "unknown" for role in ("mentor", "intern")},
        "dataset": {key: _text(_dict(raw.get("dataset")).get(key)) for key in ("name", "split")},
        "synthetic": raw.get("synthetic") is True,
        "n": number(raw.get("n")),
        "graded": number(raw.get("graded")),
        "unit": unit if unit in known else next(iter(known), "tflops"),
        "axes": {axis: AXIS_LABELS[axis] for axis in AXES},
        "notes": [str(note) for note in _list(raw.get("notes"))],
        "verdict": _text(_dict(raw.get("verdict")).get("sentence")),
        "strategies": strategies,
        "oracle": {"accuracy": number(oracle.get("accuracy")), "cost": _costs(oracle.get("cost"))},
        "shared": _numbers(raw.get("shared")),
        "reliability": {
            str(name): [_numbers(one) for one in bins if isinstance(one, dict)]
            for name, bins in _dict(raw.get("reliability")).items()
            if isinstance(bins, list)
        },
    }


def _strategy(raw: Mapping[str, Any]) -> dict[str, Any]:
    status = raw.get("status")
    found: dict[str, Any] = {
        "name": _text(raw.get("name")) or "unnamed",
        "status": status if status in _RAN else "skipped",
        "reason": _text(raw.get("reason")),
    }
    if found["status"] == "skipped":
        return found
    interval = [number(end) for end in _list(raw.get("accuracy_ci95"))]
    against = raw.get("against_mentor")
    by_unit = {name: _dict(raw.get(name)) for name in ("gain_over_chord", "ace", "headroom_share")}
    return found | {
        "folder": _text(raw.get("folder")) or found["name"],
        "n": number(raw.get("n")),
        "accuracy": number(raw.get("accuracy")),
        "interval": interval if len(interval) == 2 and None not in interval else None,
        "cost": _costs(raw.get("cost")) | {"intern_tokens": number(_dict(raw.get("cost")).get("intern_tokens"))},
        **{name: {axis: _spread(values.get(axis)) for axis in AXES} for name, values in by_unit.items()},
        "against_mentor": _numbers(against) if isinstance(against, dict) else None,
        "levels": {str(k): v for k, v in _numbers(raw.get("levels")).items() if v},
        "truncated": {role: number(_dict(raw.get("truncated")).get(role)) or 0 for role in ("mentor", "intern")},
        "errors": number(raw.get("errors")) or 0,
        "upper_bound": raw.get("upper_bound") is True,
        "notes": [str(note) for note in _list(raw.get("notes"))],
        "offline": _numbers(raw.get("offline")) or None,
    }


def _run_folder(folder: Path, name: str) -> Path:
    """Return where a run is: in the comparison's folder or, where a path leads there from here, by that path."""
    inside = folder / name
    return inside if (inside / RUN).is_file() or not (Path(name) / RUN).is_file() else Path(name)


def finite(value: Any) -> Any:
    """Return JSON data with None for every number that JSON does not know."""
    if isinstance(value, dict):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, list):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _spread(raw: Any) -> dict[str, Any]:
    values = _numbers(raw) if isinstance(raw, dict) else {"value": number(raw)}
    return {key: values.get(key) for key in _SPREAD}


def _costs(raw: Any) -> dict[str, Any]:
    return {axis: number(_dict(raw).get(axis)) for axis in AXES}


def _numbers(raw: Any) -> dict[str, Any]:
    return {str(key): number(value) for key, value in _dict(raw).items()}


def _dict(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
