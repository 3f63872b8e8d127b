"""`tandem keys`: API keys of a server, kept as hashes."""

from __future__ import annotations

import json
from pathlib import Path

import click

from tandem.cli.options import FiniteNumber


@click.group()
def keys() -> None:
    """Add and list the API keys of `tandem serve`."""


@keys.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--name", required=True, help="Whose key it is.")
@click.option("--requests-per-minute", type=click.IntRange(1), metavar="N", help="Default: no limit.")
@click.option("--usd", type=FiniteNumber(0), metavar="X", help="Its budget in all. Default: no limit.")
def add(file: Path, name: str, requests_per_minute: int | None, usd: float | None) -> None:
    """Make a new key, add its hash to FILE, and print the key, once.

    \b
    Example:
      tandem keys add keys.yaml --name alice --requests-per-minute 60 --usd 5
    """
    from tandem.server.keys import add_key

    click.echo(add_key(file, name, requests_per_minute, usd))
    click.echo(f"the key of {name}; {file} has only its hash, so keep it now", err=True)


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
    if as_json:
        click.echo(json.dumps(rows))
        return
    for row in rows:
        limits = [
            f"{row['requests_per_minute']} requests a minute"
            if row["requests_per_minute"]
            else "any number of requests",
            f"US$ {row['spent_usd']:.4f} of {row['usd']:g} spent" if row["usd"] is not None else "no budget",
        ]
        click.echo(f"{row['name']}: {', '.join(limits)}")
