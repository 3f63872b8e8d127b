"""What commands print: results on standard output as JSON, lines or tables; everything else on standard error."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def emit(value: Any, as_json: bool, view: Callable[[], Iterable[Any]]) -> None:
    """Print `value` as JSON, or else what `view` gives: lines, and tables or the like that rich prints."""
    if as_json:
        click.echo(json.dumps(value))
        return
    for part in view():
        if isinstance(part, str):
            click.echo(part)
        else:
            console().print(part)


def console(*, stderr: bool = False) -> Console:
    """Return a console of rich that prints every text as it is: `[local]` is a name here, and so is `:key:`."""
    from rich.console import Console

    return Console(stderr=stderr, markup=False, highlight=False, emoji=False)


def note(line: object) -> None:
    click.echo(line, err=True)


def warn(warnings: Iterable[object]) -> None:
    for warning in warnings:
        note(f"tandem: {warning}")


def table(
    headings: Sequence[str],
    rows: Iterable[Iterable[Any]],
    *,
    left: int = 1,
    whole: Collection[str] = (),
    **options: Any,
) -> Table:
    """Return a table whose first `left` columns are aligned left; those in `whole` are never wrapped."""
    from rich.table import Table
    from rich.text import Text

    made = Table(**options)
    for place, name in enumerate(headings):
        made.add_column(name, justify="left" if place < left else "right", no_wrap=name in whole, overflow="fold")
    for row in rows:
        made.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in row))
    return made


def plain_table(headings: Sequence[str], rows: Iterable[Iterable[Any]], **options: Any) -> Table:
    """Return a table without a frame, for a list of things that have names."""
    from rich import box

    return table(headings, rows, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title_justify="left", **options)
