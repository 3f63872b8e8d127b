"""`tandem keys`: API keys of a server, kept as hashes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tandem.cli.grouped import CommandGroup
from tandem.cli.output import emit, note
from tandem.cli.values import FiniteNumber


@click.group(cls=CommandGroup)
def keys() -> None:
    """Add and list the API keys of `tandem serve`.

    \b
    Examples:
      tandem keys add keys.yaml --name alice --usd 5
      tandem keys list keys.yaml
    """


@keys.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--name", required=True, help="Whose key it is.")
@click.option("--requests-per-minute", type=click.IntRange(1), metavar="N", help="Default: no limit.")
@click.option("--usd", type=FiniteNumber(0), metavar="X", help="Its budget in all. Default: no limit.")
@click.option("--concurrency", type=click.IntRange(1), metavar="N", help="Its requests at once. Default: no limit.")
@click.option(
    "--model", "models", multiple=True, metavar="NAME", help="A model that it may ask for; repeat it. Default: all."
)
def add(
    file: Path,
    name: str,
    requests_per_minute: int | None,
    usd: float | None,
    concurrency: int | None,
    models: tuple[str, ...],
) -> None:
    """Make a new key, add its hash to FILE, and print the key, once. A server that runs takes it within seconds.

    \b
    Example:
      tandem keys add keys.yaml --name alice --requests-per-minute 60 --usd 5 --concurrency 4 --model tandem
    """
    from tandem.server.keys import add_key

    click.echo(add_key(file, name, requests_per_minute, usd, concurrency=concurrency, models=models))
    note(f"the key of {name}; {file} has only its hash, so save the key now")


@keys.command(name="list")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(file: Path, as_json: bool) -> None:
    """List the keys in FILE with their limits and what they have spent."""
    from tandem.server.keys import KeyRing

    rows = [
        {"spent_usd": account.spent, **account.entry.model_dump(exclude={"sha256"})}
        for account in KeyRing(file).accounts
    ]
    emit(rows, as_json, lambda: map(_line, rows))


def _line(row: dict[str, Any]) -> str:
    rate, budget = row["requests_per_minute"], row["usd"]
    requests = f"{rate} requests a minute" if rate else "any number of requests"
    spent = "no budget" if budget is None else f"US$ {row['spent_usd']:.4f} of {budget:g} spent"
    limits = [f"{row['concurrency']} at once"] if row["concurrency"] else []
    limits += [f"only {', '.join(row['models'])}"] if row["models"] else []
    return ", ".join([f"{row['name']}: {requests}", *limits, spent])
