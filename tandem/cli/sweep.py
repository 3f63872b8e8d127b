"""`tandem sweep`: other thresholds on a finished run's problems, at no model cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tandem.cli.grouped import command
from tandem.cli.options import PATH, unit_option
from tandem.cli.output import emit, plain_table, warn
from tandem.errors import UsageError
from tandem.words import counted

if TYPE_CHECKING:
    from rich.table import Table

_SHOWN = 20


@command()
@click.argument("folder", type=PATH, metavar="DIR")
@click.option("--strategy", metavar="S", help="Which of the comparison's runs. Default: all that can be swept.")
@click.option("--intern-run", type=PATH, metavar="DIR", help="A run of intern-only, where DIR is a single run.")
@click.option("--mentor-run", type=PATH, metavar="DIR", help="A run of mentor-only, where DIR is a single run.")
@click.option(
    "--level-run", type=PATH, multiple=True, metavar="DIR", help="A run of fixed:<level>, for tandem; may be repeated."
)
@unit_option
@click.option("--json", "as_json", is_flag=True, help="Print all rows as JSON on standard output, nothing else.")
def sweep(
    folder: Path,
    strategy: str | None,
    intern_run: Path | None,
    mentor_run: Path | None,
    level_run: tuple[Path, ...],
    unit: str | None,
    as_json: bool,
) -> None:
    """Replay every threshold on the records of DIR, a comparison or a finished run: accuracy, cost, gain.

    \b
    What can be swept:
      cascade, route, random-mix  all thresholds; beside the runs of intern-only and mentor-only
      tandem                      only lower ones, that is, stopping earlier: the levels above the one where a problem
                                  stopped were never asked. Needs runs of fixed:<level> for its levels, and a mentor
                                  that was asked level by level (--pace thrifty)

    A row is left empty where a problem's end at that threshold is not known. The table shows about 20 rows, --json has
    all of them.

    \b
    Examples:
      tandem sweep runs/2026-11-25-gsm8k-compare
      tandem sweep runs/2026-11-25-gsm8k-compare --strategy cascade --unit usd --json
      tandem sweep runs/cascade --intern-run runs/intern-only --mentor-run runs/mentor-only
    """
    from tandem.reports.page.gather import is_comparison
    from tandem.reports.sweep import runs_of_comparison, runs_of_folders
    from tandem.reports.sweep import sweep as replay

    if is_comparison(folder):
        if intern_run or mentor_run or level_run:
            raise UsageError(f"{folder} is a comparison and has its own runs: leave out --intern-run and the like")
        runs = runs_of_comparison(folder, strategy)
    else:
        if strategy:
            raise UsageError(f"{folder} is not a comparison: --strategy has nothing to choose from")
        runs = runs_of_folders(folder, intern_run, mentor_run, level_run)
    found = replay(runs)
    warn(runs.warnings)
    emit(found, as_json, lambda: _view(found, unit or found["unit"]))


def _view(found: Mapping[str, Any], unit: str) -> Iterator[Any]:
    for one in found["sweeps"]:
        yield _table(found, one, unit)
        yield from _notes(one)
        if all(row["cost"][unit] is None for row in one["rows"]):
            at = one["anchors"]["mentor-only"]["cost"]
            known = ", ".join(name.replace("_", "-") for name, cost in at.items() if cost is not None)
            yield f"note: the cost in this unit is not known of these runs; known are {known}"
    yield from (f"note: {text}" for text in found["notes"])
    yield f"note: {found['warning']}"


def _table(found: Mapping[str, Any], one: Mapping[str, Any], unit: str) -> Table:
    from rich.text import Text

    from tandem.reports.run import one_line
    from tandem.runs.outcomes import AXIS_LABELS

    pair, synthetic = found["pair"], "  (synthetic: a fake model took part)" if found["synthetic"] else ""
    title = f"{one['strategy']}: {pair['mentor']} + {pair['intern']}, {counted(one['n'], 'problem')}{synthetic}"
    units = [name for name in ("usd", "seconds", "tflops", "mentor_tokens") if name != unit]
    costs = [unit, *(name for name in units if any(row["cost"][name] is not None for row in one["rows"]))]
    words = [AXIS_LABELS[name].replace(" ", "\n") for name in costs]
    headings = ("threshold", "mentor\nanswers", "accuracy", "95 %", *words)
    table = plain_table(
        (*headings, f"points over the\nchord in {AXIS_LABELS[unit]}"),
        (),
        left=0,
        whole=headings,
        title=Text(one_line(title)),
        caption=Text(one["rule"]),
    )
    rows = one["rows"]
    shown = _some(rows)
    for place, row in enumerate(rows):
        if place in shown:
            table.add_row(*(Text(cell) for cell in _cells(row, costs, unit)), style="bold" if row["own"] else "")
    table.add_section()
    for name, anchor in one["anchors"].items():
        known = [_number(anchor["cost"][cost], cost) for cost in costs]
        table.add_row(name, "", f"{anchor['accuracy']:.3f}", "", *known, "")
    return table


def _some(rows: Sequence[Mapping[str, Any]]) -> set[int]:
    """Return the places of the rows that are shown: spread evenly, the first, the last and the run's own among them."""
    steps = min(len(rows), _SHOWN) - 1
    spread = {round(k * (len(rows) - 1) / max(steps, 1)) for k in range(steps + 1)}
    return spread | {place for place, row in enumerate(rows) if row["own"]}


def _cells(row: Mapping[str, Any], costs: Sequence[str], unit: str) -> Iterator[str]:
    yield f"{'* ' if row['own'] else ''}{row['threshold']:.4g}"
    if row["undetermined"]:
        yield f"{row['undetermined']} unknown"
        return
    low, high = row["accuracy_ci95"]
    yield f"{row['mentor_answers']:.0%}"
    yield f"{row['accuracy']:.3f}"
    yield f"{low:.2f}-{high:.2f}"
    for name in costs:
        yield _number(row["cost"][name], name)
    gain = row["gain_over_chord"][unit]
    if gain["value"] is None:
        yield "unknown"
    else:
        value, low, high = (f"{round(100 * gain[key], 1) + 0.0:+.1f}" for key in ("value", "low", "high"))
        yield f"{value} [{low}, {high}]"


def _number(value: float | None, unit: str) -> str:
    form = {"mentor_tokens": ".0f", "usd": ".5f", "seconds": ".3g"}.get(unit, ".3f")
    return "unknown" if value is None else format(value, form)


def _notes(one: Mapping[str, Any]) -> Iterator[str]:
    run, own = one["as_run"], one["own_threshold"]
    yield f"* the run's own threshold, {own:.4g}; the run itself had an accuracy of {run['accuracy']:.3f}"
    if differs := one["differently_in_the_run"]:
        yield (
            f"note: {differs} problems were answered differently in the run than in the records it is replayed from "
            "(other samples, or batches that differ)"
        )
    left_out = {"failed in the run": one["failed"], "not graded in all runs": one["not_judged"]}
    for why, count in left_out.items():
        if count:
            yield f"note: {counted(count, 'problem')} {why}: in no figure"
    if one["strategy"].partition(":")[0] == "tandem" and one["uncalibrated"]:
        yield (
            "note: thresholds of an uncalibrated classifier follow the run's first problems; a run at other thresholds "
            "would see other problems"
        )
    if unknown := max(row["undetermined"] for row in one["rows"]):
        yield f"note: up to {unknown} problems end in a way that no run here shows; those rows have no figures"
