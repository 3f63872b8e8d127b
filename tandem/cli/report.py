"""`tandem report`: a run or a comparison as a table, a page of HTML, Markdown and CSV."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import click


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON on standard output, nothing else.")
def report(folder: Path, as_json: bool) -> None:
    """Print the figures of the run or the comparison in DIR, and write report.html, report.md and report.csv into it.

    The page opens in any browser and needs nothing beside itself. A run that is not finished is reported as far as it
    went.

    \b
    Examples:
      tandem report runs/2026-11-22-gsm8k-tandem
      tandem report runs/2026-11-25-gsm8k-compare
    """
    from tandem.reports.page.gather import is_comparison

    (_comparison if is_comparison(folder) else _run)(folder, as_json)


def _run(folder: Path, as_json: bool) -> None:
    from tandem.reports.page.writers import RunPage
    from tandem.reports.run import summary_table, write_report
    from tandem.runs.listing import current_summary, state
    from tandem.runs.store import RunStore

    store = RunStore.open_for_reading(folder)
    manifest, summary = store.manifest(), current_summary(store)
    for warning in store.warnings:
        click.echo(f"tandem: {warning}", err=True)
    if as_json:
        click.echo(json.dumps(summary))
    else:
        from rich.console import Console

        Console().print(summary_table(summary, manifest["run"]))
    if (now := state(store, summary)) != "finished":
        click.echo(f"the run is {now}: these are the figures of {summary['n']} problems", err=True)
    page = RunPage(folder)
    written = write_report(folder, summary, manifest, page.passing(store.records()))
    _say([page.write(summary, manifest, store.warnings), *written])


def _comparison(folder: Path, as_json: bool) -> None:
    from tandem.reports.page.exports import comparison_table
    from tandem.reports.page.gather import finite, read_comparison
    from tandem.reports.page.writers import write_comparison

    comparison = read_comparison(folder)
    if as_json:
        click.echo(json.dumps(finite(comparison.raw)))
    else:
        from rich.console import Console

        Console().print(comparison_table(comparison.figures))
    written = write_comparison(folder, comparison)
    for warning in comparison.warnings:
        click.echo(f"tandem: {warning}", err=True)
    _say(written)


def _say(written: Iterable[Path]) -> None:
    click.echo(f"written: {', '.join(map(str, written))}", err=True)
