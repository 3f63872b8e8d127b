"""What `estimate`, `compare` and `tune` return: typed, readable in a terminal and a notebook, and as a DataFrame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict

from tandem.costs import LABELS, UNITS, Unit, amount, figure
from tandem.display import brief, table_html
from tandem.errors import MissingPackageError
from tandem.reports.tune_verdict import HeldOutOutcome
from tandem.reports.verdict import IntervalEstimate, Verdict

if TYPE_CHECKING:
    from pandas import DataFrame  # type: ignore[import-not-found,import-untyped,unused-ignore]


class StrategyTable(BaseModel):
    """A result with a row for each strategy."""

    model_config = ConfigDict(frozen=True)

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each strategy, by column; None where a value is not known."""
        raise NotImplementedError

    def to_dataframe(self) -> DataFrame:
        """Return the rows as a DataFrame of pandas. Raises MissingPackageError where pandas is not installed."""
        try:
            from pandas import DataFrame
        except ImportError:
            raise MissingPackageError("a DataFrame", "pandas") from None
        return DataFrame(self.rows())

    def _heading(self) -> str:
        raise NotImplementedError

    def _cells(self) -> tuple[Sequence[str], list[list[str]]]:
        """Return headings and rows as they are shown."""
        raise NotImplementedError

    def __str__(self) -> str:
        """Return the table, with its heading, as plain text."""
        headings, rows = self._cells()
        widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
        lines = [
            "  ".join(cell.rjust(width) if place else cell.ljust(width) for place, (cell, width) in enumerate(pairs))
            for pairs in (list(zip(row, widths, strict=True)) for row in (headings, *rows))
        ]
        return "\n".join([self._heading(), *(line.rstrip() for line in lines)])

    def __repr__(self) -> str:
        return brief(type(self).__name__, strategies=[row["strategy"] for row in self.rows()])

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the heading and the table."""
        headings, rows = self._cells()
        return table_html(self._heading(), headings, rows)


class StrategyEstimate(BaseModel):
    """What one strategy costs over all problems: tokens and costs by name, at most and likely.

    `likely` is None where no classifier of the pair says how far its problems climb; `reason` says why the pair cannot
    run the strategy, which then has neither.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    at_most: dict[str, float | None] | None = None
    likely: dict[str, float | None] | None = None
    reason: str | None = None


class CostEstimate(StrategyTable):
    """What strategies cost over a number of problems, before any call.

    The keys of a cost are the units (``usd``, ``seconds`` of device time, ``tflops``, ``tflops_published``,
    ``mentor_tokens``) and ``intern_tokens``. `at_most` is for all strategies together: calls that they share are made
    once.
    """

    problems: int
    unit: Unit
    strategies: tuple[StrategyEstimate, ...]
    at_most: dict[str, float | None] | None

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each strategy: `strategy`, `reason`, and each cost as ``at_most_usd``, ``likely_usd``, …."""
        return [
            {
                "strategy": one.name,
                **{f"at_most_{name}": value for name, value in (one.at_most or {}).items()},
                **{f"likely_{name}": value for name, value in (one.likely or {}).items()},
                "reason": one.reason,
            }
            for one in self.strategies
        ]

    def _heading(self) -> str:
        return f"What {self.problems} problems cost at most"

    def _cells(self) -> tuple[Sequence[str], list[list[str]]]:
        units: list[Unit] = list(dict.fromkeys((self.unit, "usd", "mentor_tokens")))
        known = [unit for unit in units if any((one.at_most or {}).get(unit) is not None for one in self.strategies)]
        tuned = any(one.likely or one.reason for one in self.strategies)
        headings = ["strategy", *(LABELS[unit] for unit in known), *([f"likely {LABELS[self.unit]}"] if tuned else [])]
        rows = []
        for one in self.strategies:
            most = [_figure((one.at_most or {}).get(unit), unit) for unit in known]
            likely = one.reason or _figure((one.likely or {}).get(self.unit), self.unit)
            rows.append([one.name, *most, *([likely] if tuned else [])])
        return headings, rows


class StrategyResult(BaseModel):
    """One strategy of a comparison over its `n` problems; errors count as wrong.

    `cost` is a mean a problem, by unit; `accuracy_ci95` is Wilson's; `gain_over_chord` is how much more accurate it is
    than a random mix of both models at the same cost, by unit, with its interval. `reason` says why it was left out.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    status: Literal["finished", "partial", "skipped"]
    reason: str | None = None
    folder: str
    n: int = 0
    accuracy: float | None = None
    accuracy_ci95: tuple[float, float] | None = None
    cost: dict[str, float | None] = {}
    gain_over_chord: dict[str, IntervalEstimate | None] = {}
    levels: dict[str, int] = {}
    truncated: dict[str, int] = {}
    errors: int = 0
    notes: tuple[str, ...] = ()


class ComparisonResult(StrategyTable):
    """Strategies on the same problems, from the compare.json of `folder`; `page` is the report that belongs to it.

    `verdict` is that of Tandem against the mentor alone, None where one of both did not run; `notes` are what else is
    to be known, such as answers that were cut.
    """

    folder: Path
    page: Path
    unit: Unit
    problems: int
    strategies: tuple[StrategyResult, ...]
    verdict: Verdict | None
    notes: tuple[str, ...] = ()
    synthetic: bool = False

    @classmethod
    def of(cls, figures: Mapping[str, Any], folder: Path, page: Path) -> ComparisonResult:
        """Take what compare.json has."""
        strategies = [
            dict(one) | {"gain_over_chord": {k: _known(v) for k, v in one.get("gain_over_chord", {}).items()}}
            for one in figures["strategies"]
        ]
        return cls.model_validate(
            {name: figures[name] for name in ("unit", "verdict", "notes", "synthetic")}
            | {"folder": folder, "page": page, "problems": figures["n"], "strategies": strategies}
        )

    def __getitem__(self, name: str) -> StrategyResult:
        """Return a strategy by its name. Raises KeyError for one that was not compared."""
        for one in self.strategies:
            if one.name == name:
                return one
        raise KeyError(f"{name} was not compared; there are {', '.join(one.name for one in self.strategies)}")

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each strategy; costs are means a problem: ``cost_usd``, ``cost_seconds``, …."""
        return [
            {
                "strategy": one.name,
                "n": one.n,
                "accuracy": one.accuracy,
                **dict(zip(("accuracy_low", "accuracy_high"), one.accuracy_ci95 or (None, None), strict=True)),
                **{f"cost_{unit}": one.cost.get(unit) for unit in UNITS},
                **_ends("gain_over_chord", one.gain_over_chord.get(self.unit)),
                "errors": one.errors,
                **{f"truncated_{role}": count for role, count in one.truncated.items()},
                "status": one.status,
                "reason": one.reason,
            }
            for one in self.strategies
        ]

    def _heading(self) -> str:
        synthetic = " (synthetic: a fake model took part)" if self.synthetic else ""
        return self.verdict.sentence if self.verdict else f"{self.problems} problems{synthetic}"

    def _cells(self) -> tuple[Sequence[str], list[list[str]]]:
        headings = ["strategy", "accuracy", f"{LABELS[self.unit]} a problem", "gain over the chord"]
        rows = []
        for one in self.strategies:
            gain = one.gain_over_chord.get(self.unit)
            shown = one.reason or ("" if gain is None else _points(gain))
            rows.append([one.name, _share(one.accuracy), _figure(one.cost.get(self.unit), self.unit), shown])
        return headings, rows


class TuningResult(StrategyTable):
    """What a tuning came to on the problems that were held out, as tune.json has it.

    `pays` says whether the tuned pair is worth it, `sentence` why, `serves` which strategy serves best, `paid_back`
    after how many problems its saving has paid for the tuning. `strategies` have accuracy, cost a problem in `unit`,
    and the verdict against the mentor alone. `tuning` is what it cost (``usd``, ``usd_bound``, ``calls``, and ``cost``
    in the unit), `files` are paths by name (classifier, collection, holdout, comparison, page). `notes` say which
    answers were cut at their caps and how many problems failed, where that is worth knowing.
    """

    pays: bool
    serves: str
    paid_back: int | None
    sentence: str
    unit: Unit
    aim: str
    problems: dict[str, int]
    strategies: dict[str, HeldOutOutcome]
    verdict: Verdict | None
    tuning: dict[str, float | None]
    files: dict[str, Path | None]
    notes: tuple[str, ...] = ()

    @property
    def classifier(self) -> str | None:
        """The trained classifier's folder, as `Tandem(classifier=…)` takes it; None where there is none."""
        path = self.files.get("classifier")
        return None if path is None else str(path)

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each strategy on the hold-out: accuracy, mean cost, and the difference to the mentor."""
        return [
            {
                "strategy": name,
                "accuracy": one.accuracy,
                f"cost_{self.unit}": one.cost,
                **_ends("accuracy_difference", one.verdict.accuracy_difference),
                **_ends("cost_ratio", one.verdict.cost_ratio),
            }
            for name, one in self.strategies.items()
        ]

    def _heading(self) -> str:
        return self.sentence

    def _cells(self) -> tuple[Sequence[str], list[list[str]]]:
        headings = ["strategy", "accuracy", "per 1,000 problems", "against the mentor"]
        return headings, [
            [
                name,
                _share(one.accuracy),
                amount(1000 * one.cost, self.unit),
                _points(one.verdict.accuracy_difference) if one.verdict.accuracy_difference else "",
            ]
            for name, one in self.strategies.items()
        ]


def _known(value: Any) -> Any:
    """Return an interval, None for one of an unknown value."""
    return None if not isinstance(value, Mapping) or value.get("value") is None else value


def _ends(name: str, found: IntervalEstimate | None) -> dict[str, float | None]:
    value, low, high = (found.value, found.low, found.high) if found else (None, None, None)
    return {name: value, f"{name}_low": low, f"{name}_high": high}


def _figure(value: float | None, unit: Unit) -> str:
    return "" if value is None else figure(value, unit)


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f} %"


def _points(found: IntervalEstimate) -> str:
    ends = "" if found.low is None or found.high is None else f" ({100 * found.low:.1f} to {100 * found.high:.1f})"
    return f"{100 * found.value:+.1f}{ends} points"


__all__ = [
    "ComparisonResult",
    "CostEstimate",
    "StrategyEstimate",
    "StrategyResult",
    "StrategyTable",
    "TuningResult",
]
