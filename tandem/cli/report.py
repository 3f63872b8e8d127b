"""`tandem report`: a run's figures as a table, as Markdown, and one row a problem as CSV."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON on standard output, nothing else.")
def report(folder: Path, as_json: bool) -> None:
    """Print the figures of the run in DIR, and write report.md and report.csv into it.

    A run that is not finished is reported as far as it went.

    \b
    Example:
      tandem report runs/2026-11-22-gsm8k-tandem
    """
    from tandem.evaluation.listing import current_summary, state
    from tandem.evaluation.report import summary_table, write_report
    from tandem.evaluation.store import RunStore

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
    written = write_report(folder, summary, manifest, store.records())
    click.echo(f"written: {', '.join(map(str, written))}", err=True)
