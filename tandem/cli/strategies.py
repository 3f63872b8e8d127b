"""`tandem strategies`: the strategies, what each takes, and which models it calls."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from tandem.cli.output import emit, plain_table
from tandem.errors import UsageError

if TYPE_CHECKING:
    from rich.text import Text

    from tandem.strategies import Strategy

BUILT_IN = "built in"


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the strategies as JSON on standard output.")
def strategies(as_json: bool) -> None:
    """List every strategy that --strategy takes, with those of installed packages.

    After a name stands its argument, as in fixed:medium ([:…]: it may be left out). `calls`: which models. `learned`:
    it needs a classifier, or a predictor of its own.

    \b
    Examples:
      tandem strategies
      tandem strategies --json
    """
    rows = list(_rows())
    headings = ("name", "calls", "learned", "method")
    emit(rows, as_json, lambda: [plain_table(headings, map(_cells, rows), left=len(headings), whole=headings[:3])])


def _cells(row: dict[str, Any]) -> Iterator[Text]:
    from rich.text import Text

    takes = {"required": ":…", "optional": "[:…]"}.get(row["argument"] or "", "")
    method = row["error"] or row["description"]
    method += f" [{row['from']}]" if row["from"] != BUILT_IN else ""
    calls = "both" if len(row["roles"]) == 2 else "".join(row["roles"])
    for cell in (row["name"] + takes, calls, row["learned"] or "", method):
        yield Text(cell, style="red" if row["error"] else "")


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
    from tandem.strategies import STRATEGIES, Strategy, make_strategy

    made: Strategy | None = None
    try:
        made = make_strategy(name)
    except UsageError:  # it needs an argument
        argument: str | None = "required"
    else:
        argument = "optional" if hasattr(STRATEGIES.get(name), "of") else None
    factory = STRATEGIES.get(name)
    strategy = made or factory
    has_predictor = factory.bind is not Strategy.bind
    learned = "classifier" if strategy.needs_classifier else "predictor" if has_predictor else None
    roles = [str(role) for role in strategy.roles] if isinstance(strategy.roles, tuple) else []
    return {"description": first_line(factory), "argument": argument, "roles": roles, "learned": learned}


def first_line(factory: Any) -> str:
    lines = (getattr(factory, "__doc__", None) or "").strip().splitlines()
    return lines[0].replace("``", "").replace("`", "") if lines else ""
