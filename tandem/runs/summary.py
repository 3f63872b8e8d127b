"""Figures of a run, computed from its records alone, one at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from tandem.costs import UNITS, Unit
from tandem.ladder import by_level
from tandem.ledger import Ledger, Role
from tandem.runs.cut import CutAnswers
from tandem.statistics.significance import wilson

DATASET = "dataset"  # in a problem's metadata: which of a run's several data sets it is from
_JUDGED = ("n", "graded", "accuracy", "accuracy_ci95", "errors", "levels")
_OF_A_DATASET = (*_JUDGED, "mentor_tokens", "intern_tokens", "cost")
_ROLES: tuple[Role | None, ...] = (None, "mentor", "intern")


class Summary:
    """The summary of a run, fed record by record; none is kept."""

    def __init__(self) -> None:
        self._n = self._graded = self._right = self._errors = self._failed_calls = 0
        self._tokens: Counter[str] = Counter()
        self._levels: Counter[str] = Counter()
        self._answers = CutAnswers(*(Counter({"mentor": 0, "intern": 0}) for _ in range(2)))
        self._cost: dict[tuple[Unit, Role | None], _Total] = {(u, role): _Total() for u in UNITS for role in _ROLES}
        self._usd_bound, self._usd_paid = _Total(), _Total()
        self._seconds = 0.0
        self._synthetic = False
        self._assumed: set[Unit] = set()
        self._datasets: dict[str, Summary] = {}  # of a run over several

    def add(self, record: Mapping[str, Any]) -> None:
        """Add one record; it must be the last one of its problem."""
        if (dataset := (record.get("metadata") or {}).get(DATASET)) is not None:
            self._datasets.setdefault(dataset, Summary())._add(record)
        self._add(record)

    def _add(self, record: Mapping[str, Any]) -> None:
        self._n += 1
        if record["correct"] is not None:
            self._graded += 1
            self._right += bool(record["correct"])
        self._errors += record["error"] is not None
        self._seconds += record["seconds"]
        self._synthetic |= record["synthetic"]
        if record["level"]:
            self._levels[record["level"]] += 1
        if record["answered_by"]:
            self._answers.add(record["answered_by"], record["truncated"])
        self._charge(Ledger.model_validate(record["ledger"]))

    def _charge(self, ledger: Ledger) -> None:
        entries = ledger.entries
        self._tokens["mentor"] += ledger.mentor_tokens
        self._tokens["intern"] += ledger.intern_tokens
        self._tokens["probe"] += ledger.probe_tokens
        self._failed_calls += sum(entry.error is not None for entry in entries)
        self._assumed |= {unit for unit in UNITS if ledger.assumes(unit)}
        billed = any(not entry.local for entry in entries)  # so that a missing price means unknown
        self._usd_bound.add(ledger.usd_bound, billed)
        self._usd_paid.add(0.0 if ledger.usd is not None else None, False)  # all of it may be from the cache
        paid = Ledger.model_construct(entries=[entry for entry in entries if entry.paid])
        self._usd_paid.add(paid.usd, any(not entry.local for entry in paid.entries))
        for role in _ROLES:
            part = ledger if role is None else Ledger.model_construct(entries=ledger.select(role))
            for unit in UNITS:
                self._cost[unit, role].add(part.cost(unit), _matters(part, unit))

    def result(self, classifier: Mapping[str, Any] | None, unit: Unit | None = None) -> dict[str, Any]:
        """Return the summary. Errors count as wrong; accuracy is None if no problem has a reference.

        `unit` is what the run's cost is counted in. `cost` has, by unit, the mean over problems, the total, and the
        totals of mentor and intern (None: not known; in US$ an intern on own hardware); `assumed` has the units in
        which it rests on a size or a speed that the user assumed. `datasets` has the main figures of each, where there
        are several. Tokens, TFLOPs and US$ are sums over all records; `seconds` is the sum of the problems' own times.
        `usd_bound` is the worst case, `usd_paid` leaves out what came from the response cache.
        """
        interval = wilson(self._right, self._graded)
        if unit == "usd":  # the mentor has a price; where nobody asked it, nothing is billed
            for total in (self._usd_bound, self._usd_paid, self._cost["usd", None], self._cost["usd", "mentor"]):
                total.add(0.0, False)
        return {
            "n": self._n,
            "graded": self._graded,
            "accuracy": self._right / self._graded if self._graded else None,
            "accuracy_ci95": list(interval) if interval else None,
            "mentor_tokens": self._tokens["mentor"],
            "intern_tokens": self._tokens["intern"],
            "probe_tokens": self._tokens["probe"],
            "unit": unit,
            "cost": {name: self._split(name) for name in UNITS},
            "assumed": [name for name in UNITS if name in self._assumed],
            "tflops": self._cost["tflops", None].value,
            "tflops_assumed": "tflops" in self._assumed,
            "tflops_published": self._cost["tflops_published", None].value,
            "usd": self._cost["usd", None].value,
            "usd_bound": self._usd_bound.value,
            "usd_paid": self._usd_paid.value,
            "seconds": self._seconds,
            "levels": by_level(self._levels),
            "answers": dict(self._answers.answers),
            "truncated": dict(self._answers.cut),
            "errors": self._errors,
            "failed_calls": self._failed_calls,
            "classifier": dict(classifier) if classifier else None,
            "synthetic": self._synthetic,
            **({"datasets": self._by_dataset()} if self._datasets else {}),
        }

    def _by_dataset(self) -> dict[str, dict[str, Any]]:
        found = {name: part.result(None) for name, part in self._datasets.items()}
        return {name: {key: part[key] for key in _OF_A_DATASET} for name, part in found.items()}

    def _split(self, unit: Unit) -> dict[str, float | None]:
        total, mentor, intern = (self._cost[unit, role].value for role in _ROLES)
        mean = total / self._n if total is not None and self._n else None
        return {"mean": mean, "total": total, "mentor": mentor, "intern": intern}


def summarise(
    records: Iterable[Mapping[str, Any]], classifier: Mapping[str, Any] | None, unit: Unit | None = None
) -> dict[str, Any]:
    summary = Summary()
    for record in records:
        summary.add(record)
    return summary.result(classifier, unit)


def _matters(ledger: Ledger, unit: Unit) -> bool:
    """Whether a cost that is missing is unknown; without a call, or without one that is billed, there is none."""
    if unit == "usd":
        return any(not entry.local for entry in ledger.entries)
    return any(unit != "tflops_published" or entry.purpose != "probe" for entry in ledger.entries)


class _Total:
    """A sum that is None if a part is unknown, or if there is none."""

    def __init__(self) -> None:
        self._sum = 0.0
        self._seen = self._unknown = False

    def add(self, value: float | None, matters: bool) -> None:
        if value is not None:
            self._sum, self._seen = self._sum + value, True
        elif matters:
            self._unknown = True

    @property
    def value(self) -> float | None:
        return self._sum if self._seen and not self._unknown else None
