"""One run's records as arrays: the outcome of every problem and its cost in each unit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tandem.costs import LABELS, UNITS, Unit
from tandem.ladder import QUESTION
from tandem.ledger import Ledger

LATENCY = "latency"  # seconds that a problem took, by the clock: what a user waits for and nobody is billed for
AXES: tuple[str, ...] = (*UNITS, LATENCY)  # what accuracy is compared at
AXIS_LABELS: dict[str, str] = {unit: LABELS[unit] for unit in UNITS} | {LATENCY: "seconds of latency"}
MEASURES = (*AXES, "intern_tokens")
OWN_HARDWARE = "Calls on own hardware count US$ 0 (--usd-per-device-hour gives them a price)"


@dataclass
class RunOutcomes:
    """Problems (n,) in the order of `ids`: 1.0 for correct, and the cost by each of MEASURES (None: unknown for one).

    US$ are those of billed calls: calls on own hardware without a price count 0 where any call of the run has one, and
    where `count_own_hardware` is told of runs that have one.
    """

    ids: list[str]
    correct: np.ndarray
    cost: dict[str, np.ndarray | None]
    levels: dict[str, int] = field(default_factory=dict)
    truncated: dict[str, int] = field(default_factory=lambda: {"mentor": 0, "intern": 0})
    errors: int = 0
    notes: list[str] = field(default_factory=list)
    charged_tokens: int = 0
    written_tokens: int = 0
    synthetic: bool = False
    priced: bool = False  # some call has a price in US$
    unpriced: bool = False  # some call on own hardware has none
    bill: np.ndarray | None = None  # US$, own hardware counted as free; for comparison with a priced run
    references: dict[str, tuple[str | None, str | None]] = field(default_factory=dict)  # reference and grader
    predicted: dict[str, list[tuple[str, float, bool]]] = field(
        default_factory=dict
    )  # level, sufficiency, did it answer so

    def costs(self, unit: str) -> np.ndarray:
        found = self.cost[unit]
        assert found is not None
        return found

    def mean(self, unit: str) -> float | None:
        found = self.cost[unit]
        return None if found is None or not len(found) else float(found.mean())

    def of(self, ids: Sequence[str]) -> RunOutcomes:
        place = {one: k for k, one in enumerate(self.ids)}
        order = np.asarray([place[one] for one in ids], dtype=int)
        cost = {unit: None if values is None else values[order] for unit, values in self.cost.items()}
        return RunOutcomes(list(ids), self.correct[order], cost)

    def predictions(self, runs: Mapping[str, RunOutcomes]) -> Iterator[tuple[float, float]]:
        """Yield predictions about the intern with the true outcome, for problems where some run shows it."""
        by_level = dict.fromkeys((QUESTION, "none"), runs.get("intern-only"))
        for name, run in runs.items():
            base, _, level = name.partition(":")
            if base == "fixed":
                by_level[level.partition("=")[0]] = run
        right = {level: run.truth() for level, run in by_level.items() if run is not None}
        own = self.truth()
        for problem, predictions in self.predicted.items():
            for level, p, answered in predictions:
                truth = own.get(problem) if answered else right.get(level, {}).get(problem)
                if truth is not None:
                    yield p, truth

    def truth(self) -> dict[str, float]:
        return dict(zip(self.ids, self.correct.tolist(), strict=True))


def count_own_hardware(runs: Iterable[RunOutcomes]) -> bool:
    """Where one of these runs has a price in US$, count all runs' calls on own hardware as free.

    Return whether there are such calls, which is to be said (OWN_HARDWARE).
    """
    runs = list(runs)
    if not any(run.priced for run in runs):
        return False
    for run in runs:
        run.cost["usd"] = run.bill
    return any(run.unpriced for run in runs)


def unit_of(runs: Iterable[RunOutcomes]) -> Unit:
    """Return the first unit in which the cost of all these runs is known, in the order of `tandem.costs.UNITS`."""
    runs = [run for run in runs if run.ids]
    return next(unit for unit in UNITS if all(run.cost[unit] is not None for run in runs))


def outcomes_of(records: Iterable[Mapping[str, Any]], *, graded: bool = True) -> RunOutcomes:
    """Read the graded records of a run. An error counts as wrong.

    Without `graded` all records are read, for their costs alone; `correct` is then nan.
    """
    ids: list[str] = []
    correct: list[float] = []
    costs: dict[str, list[float | None]] = {name: [] for name in MEASURES}
    found = RunOutcomes(ids, np.empty(0), {})
    levels: Counter[str] = Counter()
    bills: list[float | None] = []
    tools: list[float] = []
    uncalibrated = 0
    for record in records:
        if graded and record["correct"] is None and record["error"] is None:
            continue
        ids.append(record["problem"])
        correct.append(float(bool(record["correct"])) if graded else float("nan"))
        ledger = Ledger.model_validate(record["ledger"])
        for unit in UNITS:
            costs[unit].append(ledger.cost(unit))
        costs["intern_tokens"].append(float(ledger.intern_tokens))
        shared = any(not entry.paid for entry in ledger)  # answered from calls of before: as long as they took
        waited = sum(entry.seconds for entry in ledger) if shared else record["seconds"]
        costs[LATENCY].append(None if record.get("replayed") else waited)  # nobody waited for a replayed one
        bills.append(ledger.usd if ledger.usd is not None or not all(entry.local for entry in ledger) else 0.0)
        found.priced |= ledger.usd is not None
        found.unpriced |= any(entry.local and entry.usd is None for entry in ledger)
        found.charged_tokens += sum(entry.usage.completion for entry in ledger)
        found.written_tokens += sum(entry.usage.completion for entry in ledger if entry.paid)
        found.errors += record["error"] is not None
        found.synthetic |= record["synthetic"]
        found.references[record["problem"]] = (record.get("reference"), record.get("grader"))
        if record["level"]:
            levels[record["level"]] += 1
        if record["truncated"] and record["answered_by"]:
            found.truncated[record["answered_by"]] += 1
        trace = record.get("trace", [])
        uncalibrated += any(not decision["calibrated"] for decision in trace)
        tools += [d["signals"]["valid_calls"] for d in trace[-1:] if "valid_calls" in d["signals"]]
        intern_answered = record["answered_by"] == "intern"
        found.predicted[record["problem"]] = [
            (d["level"], float(d["sufficiency"]), d["action"] == "stop" and intern_answered)
            for d in trace
            if d["sufficiency"] is not None
        ]
    found.correct = np.asarray(correct)
    found.cost = {
        unit: None if any(value is None for value in values) else np.asarray(values, dtype=float)
        for unit, values in costs.items()
    }
    found.bill = None if any(bill is None for bill in bills) else np.asarray(bills, dtype=float)
    count_own_hardware([found])
    found.levels = dict(levels)
    if uncalibrated:
        found.notes.append(
            f"uncalibrated in {uncalibrated} of {len(ids)} problems: what decides was trained for another use"
        )
    if tools:
        found.notes.append(f"a valid tool call in {sum(n > 0 for n in tools)} of {len(ids)} problems")
    return found
