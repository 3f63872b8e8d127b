"""`tandem train`: a sufficiency classifier from a collected table."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import click


@click.command()
@click.argument("collection", type=click.Path(path_type=Path))
@click.option("--name", metavar="ID", help="The classifier's id. Default: <mentor>+<intern>.")
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="Default: classifiers/<id>.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the split by problem.")
@click.option("--hand-over", is_flag=True, help="Let the policy hand over to the mentor's own answer (`answer`).")
@click.option("--json", "as_json", is_flag=True, help="Print the card as JSON on standard output, nothing else.")
def train(collection: Path, name: str | None, out: Path | None, seed: int, hand_over: bool, as_json: bool) -> None:
    """Train a classifier from COLLECTION (a folder with collection.json and table.jsonl.gz).

    \b
    Examples:
      python scripts/collect_progressive.py --mentor M --intern I --dataset gsm8k --limit 150 --out collected
      tandem train collected --out classifiers/my-pair
      tandem run --mentor M --intern I --dataset math500 --classifier classifiers/my-pair
    """
    from tandem.errors import UsageError
    from tandem.evaluation.train import read_collection
    from tandem.evaluation.train import train as fit
    from tandem.models.catalog import lookup, spec_of

    rows, manifest = read_collection(collection)
    entries = [lookup(manifest[role]) for role in ("mentor", "intern")]
    missing = [manifest[role] for role, entry in zip(("mentor", "intern"), entries, strict=True) if entry is None]
    if missing:
        raise UsageError(f"the catalog knows no size of {', '.join(missing)}, which the cost needs")
    mentor, intern = (spec_of(entry) for entry in entries if entry)
    identity = name or f"{mentor.name}+{intern.name}"
    command = "tandem " + shlex.join(sys.argv[1:])
    classifier = fit(
        rows,
        manifest,
        (mentor, intern),
        name=identity,
        command=command,
        seed=seed,
        hand_over=hand_over,
        say=lambda line: click.echo(line, err=True),
    )
    folder = out or Path("classifiers") / identity
    classifier.save(folder)
    card = classifier.card.model_dump(mode="json")
    if as_json:
        click.echo(json.dumps(card))
        return
    click.echo(json.dumps({k: card[k] for k in ("id", "ladder", "draft_tokens", "figures", "notes")}, indent=2))
    click.echo(f"written to {folder}", err=True)
