"""`tandem report`: a run or a comparison as a table, a page of HTML, Markdown and CSV."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click

from tandem.cli.options import PATH
from tandem.cli.output import emit, note, warn
from tandem.words import counted


@click.command()
@click.argument("folder", type=PATH, metavar="DIR")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON on standard output, nothing else.")
def report(folder: Path, as_json: bool) -> None:
    """Print the figures of the run or the comparison in DIR, and write report.html, report.md and report.csv into it.

    The page opens in any browser and needs nothing beside itself. What is not finished, a run or a comparison, is
    reported as far as it went.

    \b
    Examples:
      tandem report runs/2026-11-22-gsm8k-tandem
      tandem report runs/2026-11-25-gsm8k-compare
    """
    written = write_report_of(folder, as_json, show=True)
    note(f"written: {', '.join(map(str, written))}")


def write_report_of(folder: Path, as_json: bool = False, *, show: bool = False) -> Iterable[Path]:
    """Write the page, the Markdown and the CSV of what is in a folder; `show` prints the figures, too."""
    from tandem.reports.comparison import earlier_parts
    from tandem.reports.comparison import report as compare
    from tandem.reports.page.gather import is_comparison
    from tandem.runs.listing import is_compared

    if is_compared(folder) and not is_comparison(folder) and (parts := earlier_parts(folder, [])):
        compare(folder, parts)
        note("the comparison did not end: these are the figures of its runs so far (--resume goes on)")
    return (_comparison if is_comparison(folder) else _run)(folder, as_json, show)


def _run(folder: Path, as_json: bool, show: bool) -> Iterable[Path]:
    from tandem.reports.page.writers import RunPage
    from tandem.reports.run import summary_view, with_verdict, write_report
    from tandem.runs.listing import current_summary, state
    from tandem.runs.store import RunStore

    store = RunStore.open_for_reading(folder)
    manifest, summary = store.manifest(), with_verdict(current_summary(store), store)
    warn(store.warnings)
    if show:
        emit(summary, as_json, lambda: summary_view(summary, manifest["run"]))
    if (now := state(store, summary)) != "finished":
        note(f"the run is {now}: these are the figures of {counted(summary['n'], 'problem')}")
    page = RunPage(folder)
    written = write_report(folder, summary, manifest, page.passing(store.records()), page.questions)
    return [page.write(summary, manifest, store.warnings), *written]


def _comparison(folder: Path, as_json: bool, show: bool) -> Iterable[Path]:
    from tandem.reports.page.exports import comparison_view
    from tandem.reports.page.gather import finite, read_comparison
    from tandem.reports.page.writers import write_comparison

    comparison = read_comparison(folder)
    if show:
        emit(finite(comparison.raw), as_json, lambda: comparison_view(comparison.figures))
    written = write_comparison(folder, comparison)
    warn(comparison.warnings)
    return written
