"""`tandem view`: the page of a run or a comparison, in the browser."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from tandem.cli.options import PATH
from tandem.cli.output import note


@click.command()
@click.argument("folder", type=PATH, metavar="DIR")
@click.option("--open/--no-open", "opened", default=True, help="Whether a browser shows it.")
def view(folder: Path, opened: bool) -> None:
    """Show the report's page of the run or the comparison in DIR in the browser, written anew where it is not current.

    The path of the page is printed; where there is no screen, that is all.

    \b
    Examples:
      tandem view runs/2026-11-22-gsm8k-tandem
      tandem view runs/2026-11-25-gsm8k-compare --no-open
    """
    from tandem.cli.report import write_report_of
    from tandem.runs.store import COMPARE, RECORDS, SUMMARY

    page = folder / "report.html"
    made_of = [path for name in (COMPARE, RECORDS, SUMMARY) if (path := folder / name).is_file()]
    if not page.is_file() or any(path.stat().st_mtime > page.stat().st_mtime for path in made_of):
        write_report_of(folder)
    click.echo(page)
    if opened and _has_screen() and not _open(page):
        note("no browser could be started; open the file yourself")


def _has_screen() -> bool:
    """Whether a window can be seen; a browser in the terminal would show nothing of a page that is drawn."""
    return sys.platform in ("darwin", "win32") or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))


def _open(page: Path) -> bool:
    import webbrowser

    return webbrowser.open(page.resolve().as_uri())
