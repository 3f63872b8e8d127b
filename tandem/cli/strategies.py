"""`tandem strategies`: the strategies, what each takes, and which models it calls."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from tandem.strategies import Strategy

BUILT_IN = "built in"


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the strategies as JSON on standard output.")
def strategies(as_json: bool) -> None:
    """List every strategy that --strategy takes, with those of installed packages.

    `takes`: an argument after the name, as in fixed:medium ([…]: optional). `learned`: it needs a classifier, or a
    predictor of its own.

    \b
    Examples:
      tandem strategies
      tandem strategies --json
    """
    rows = list(_rows())
    if as_json:
        click.echo(json.dumps(rows))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("name", "takes", "calls", "learned", "from", "method"):
        table.add_column(heading, no_wrap=heading == "name")
    for row in rows:
        takes = {"required": ":…", "optional": "[:…]"}.get(row["argument"] or "", "")
        said = row["error"] or row["description"]
        cells = (row["name"], takes, "+".join(row["roles"]), row["learned"] or "", row["from"], said)
        table.add_row(*(Text(cell, style="red" if row["error"] else "") for cell in cells))
    Console().print(table)


def _rows() -> Iterator[dict[str, Any]]:
    from tandem.reports.run import one_line
    from tandem.strategies import STRATEGIES

    for name in STRATEGIES.names():
        row: dict[str, Any] = {"name": name, "from": STRATEGIES.package(name) or BUILT_IN}
        row |= {"description": "", "argument": None, "roles": [], "learned": None, "error": None}
        try:
            yield row | _found(name)
        except Exception as error:  # one that is broken, whatever is wrong with it, must not hide the others
            yield row | {"error": one_line(str(error)) or type(error).__name__}


def _found(name: str) -> dict[str, Any]:
    """Return what is known of a strategy. Raises what its module raises, or TandemError for one that is none."""
    from tandem.errors import UsageError
    from tandem.strategies import STRATEGIES, Strategy, make_strategy

    made: Strategy | None = None
    try:
        made = make_strategy(name)
    except UsageError:  # it must be told something first
        argument: str | None = "required"
    else:
        argument = "optional" if hasattr(STRATEGIES.get(name), "of") else None
    factory = STRATEGIES.get(name)
    strategy = made or factory
    has_predictor = factory.bind is not Strategy.bind
    learned = "classifier" if strategy.needs_classifier else "predictor" if has_predictor else None
    roles = [str(role) for role in strategy.roles] if isinstance(strategy.roles, tuple) else []
    return {"description": _first_line(factory), "argument": argument, "roles": roles, "learned": learned}


def _first_line(factory: Any) -> str:
    lines = (getattr(factory, "__doc__", None) or "").strip().splitlines()
    return lines[0].replace("``", "").replace("`", "") if lines else ""
