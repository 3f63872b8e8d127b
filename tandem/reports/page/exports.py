"""A comparison in a terminal, as Markdown, and one row a strategy and problem as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tandem.ladder import by_level
from tandem.reports.page.gather import ReportedProblem
from tandem.reports.page.records import TOKENS, costs
from tandem.reports.run import cell, escaped, one_line
from tandem.runs.outcomes import AXES, AXIS_LABELS, LATENCY

if TYPE_CHECKING:
    from rich.table import Table

# The columns of a cost are called by its unit, as a cell has none.
_COSTS = {"usd": "usd", "seconds": "device_seconds", "tflops": "tflops", "tflops_published": "tflops_published"}
_MEASURES = {**{name: name for name in TOKENS}, **_COSTS, LATENCY: "latency_seconds"}
_COLUMNS = ("strategy", "id", "correct", "level", "answered_by", *_MEASURES.values(), "truncated", "error")
_NONE = "–"


class ComparisonCsv:
    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._text = io.StringIO()
        self._writer = csv.writer(self._text, lineterminator="\n")
        self._writer.writerow(_COLUMNS)

    def add(self, problem: ReportedProblem) -> None:
        for place, record in problem.records.items():
            same = {name: record.get(name) for name in ("correct", "level", "answered_by", "truncated", "error")}
            measured = {_MEASURES[name]: value for name, value in costs(record).items()}
            row = {**measured, **same, "strategy": self._names[place], "id": problem.id}
            self._writer.writerow([cell(row[column]) for column in _COLUMNS])

    def text(self) -> str:
        return self._text.getvalue()


def title(figures: Mapping[str, Any]) -> str:
    pair, n = figures["pair"], len(ran(figures))
    synthetic = "  (synthetic: a fake model took part)" if figures["synthetic"] else ""
    return one_line(f"{n} strateg{'y' if n == 1 else 'ies'}: {pair['mentor']} + {pair['intern']}{synthetic}")


def ran(figures: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [one for one in figures["strategies"] if one["status"] != "skipped"]


def comparison_view(figures: Mapping[str, Any]) -> list[Table | str]:
    """Return a comparison for a terminal: its table, what is to be known about it, and the verdict.

    The table holds what fits a terminal; the intervals and the other units are in the files.
    """
    from rich.table import Table
    from rich.text import Text

    unit = figures["unit"]
    table = Table(title=Text(title(figures)))
    costs_shown = dict.fromkeys((unit, "mentor_tokens"))
    table.add_column("strategy", overflow="fold")  # long names are broken, figures never
    for name in ("accuracy", *(AXIS_LABELS[u] for u in costs_shown), "gain", "above mentor", "p"):
        table.add_column(name.replace(" ", "\n"), justify="right", no_wrap=True)
    for one in ran(figures):
        against = one["against_mentor"] or {}
        row = [
            one["name"] + (" (partial)" if one["status"] == "partial" else ""),
            _share(one["accuracy"]),
            *(_amount(one["cost"][u], u) for u in costs_shown),
            _points({"value": one["gain_over_chord"][unit]["value"]}),
            _points({"value": against.get("value")}),
            _p(against),
        ]
        table.add_row(*(Text(one_line(text)) for text in row))
    about = "Costs are means a problem; gain (over the chord, at equal {}) and above mentor are points of accuracy."
    lines = [about.format(AXIS_LABELS[unit]), *figures["notes"]]
    lines += [f"{name}: {text}" for name, text in _notes(figures)]
    lines += [f"{name} was skipped: {why}" for name, why in _skipped(figures)]
    lines += [figures["verdict"]] if figures["verdict"] else []
    return [table, *map(one_line, lines)]


def markdown(figures: Mapping[str, Any], warnings: Sequence[str]) -> str:
    data = figures["dataset"]
    about = f"Data: {data['name'] or 'unknown'}" + (f", {data['split']}" if data["split"] else "")
    about += f"; {figures['n']} problems, {figures['graded']} of them graded; started {figures['started']}."
    head, rows = _grid(figures)
    lines = [f"# {escaped(title(figures))}", "", escaped(about), "", _row(head), _row(["---"] * len(head))]
    lines += [_row([escaped(name), *cells, escaped(levels)]) for name, *cells, levels in rows]
    unit = figures["unit"]
    lines += ["", escaped(figures["verdict"])] if figures["verdict"] else []
    lines += [
        "",
        "Brackets are 95 % intervals. Costs are means a problem, each strategy charged in full. The gain is over the "
        f"chord from intern-only to mentor-only at equal {AXIS_LABELS[unit]}, in points of accuracy; p is McNemar's.",
    ]
    if (best := figures["oracle"])["accuracy"] is not None:
        cost = f"{_amount(best['cost'][unit], unit)} {AXIS_LABELS[unit]} a problem"
        lines += ["", f"Oracle (the cheapest right strategy of each problem): {_share(best['accuracy'])}, {cost}."]
    if (share := figures["shared"].get("share")) is not None:
        lines += ["", f"Calls that strategies share were made once: {share:.0%} of the tokens charged were generated."]
    for heading, pairs in (("Skipped", list(_skipped(figures))), ("Notes", list(_notes(figures)))):
        if pairs:
            lines += ["", f"## {heading}", "", *(f"- {escaped(name)}: {escaped(text)}" for name, text in pairs)]
    told = [*figures["notes"], *warnings]
    lines += ["", *(f"- {escaped(text)}" for text in told)] if told else []
    return "\n".join(lines) + "\n"


def _grid(figures: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    units = [axis for axis in AXES if any(one["cost"][axis] is not None for one in ran(figures))]
    unit = figures["unit"]
    head = ["strategy", "accuracy", *(AXIS_LABELS[u] for u in units), "gain", "ACE", "above mentor", "p", "levels"]
    rows = []
    for one in ran(figures):
        against = one["against_mentor"] or {}
        rows.append(
            [
                one["name"] + (" (partial)" if one["status"] == "partial" else ""),
                _share(one["accuracy"]) + _ends(one["interval"], "{:.1f}", 100),
                *(_amount(one["cost"][u], u) for u in units),
                _points(one["gain_over_chord"][unit]),
                _points(one["ace"][unit], "{:.2f}", 1),
                _points(against),
                _p(against),
                ", ".join(f"{level} {count}" for level, count in by_level(one["levels"]).items()),
            ]
        )
    return head, rows


def _skipped(figures: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for one in figures["strategies"]:
        if one["status"] == "skipped":
            yield one["name"], one["reason"] or "no reason was given"


def _notes(figures: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for one in ran(figures):
        cut = ", ".join(f"{role} {count}" for role, count in one["truncated"].items() if count)
        notes = [*one["notes"], *([f"answers cut at the token cap: {cut}"] if cut else [])]
        notes += [f"{one['errors']} failed, which count as wrong"] if one["errors"] else []
        if text := "; ".join(notes):
            yield one["name"], text


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _share(value: float | None) -> str:
    return _NONE if value is None else f"{100 * value:.1f} %"


def _amount(value: float | None, unit: str) -> str:
    if value is None:
        return _NONE
    return (
        f"{value:.0f}" if unit == "mentor_tokens" else f"{value:.3g}" if unit in ("usd", "seconds") else f"{value:.2f}"
    )


def _points(spread: Mapping[str, Any], form: str = "{:+.1f}", times: int = 100) -> str:
    value, ends = spread.get("value"), [spread.get("low"), spread.get("high")]
    return _NONE if value is None else form.format(times * value) + _ends(ends, form, times)


def _p(against: Mapping[str, Any]) -> str:
    return _NONE if (p := against.get("mcnemar_p")) is None else f"{p:.3f}"


def _ends(interval: Sequence[float | None] | None, form: str, times: float) -> str:
    if not interval or interval[0] is None or interval[1] is None:
        return ""
    return f" [{', '.join(form.format(times * end) for end in interval if end is not None)}]"
