"""`tandem calibrate`: the operating point of a pair for an aim, or the strategy that would serve it better."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from tandem.sufficiency.classifier import Classifier


@click.command()
@click.argument("collection", type=click.Path(path_type=Path), required=False)
@click.option(
    "--aim",
    default="accuracy",
    show_default=True,
    metavar="AIM",
    help="accuracy (the mentor's, for less), cost:X (at most X times the mentor's cost) or regret:X (at most X less "
    "accurate than the mentor, with 90 % confidence).",
)
@click.option("--classifier", metavar="ID|DIR", help="Without COLLECTION: take the table of this classifier.")
@click.option("--name", metavar="ID", help="The new classifier's id. Default: <mentor>+<intern>.")
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="Default: classifiers/<id>.")
@click.option("--hand-over/--no-hand-over", default=True, help="Whether the mentor's own answer may be the last level.")
@click.option("--prefix-cache", is_flag=True, help="Price the intern's prompts as a server with a prefix cache does.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the folds by problem.")
@click.option("--dry-run", is_flag=True, help="Propose only, write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the proposal as JSON on standard output, nothing else.")
def calibrate(
    collection: Path | None,
    aim: str,
    classifier: str | None,
    name: str | None,
    out: Path | None,
    hand_over: bool,
    prefix_cache: bool,
    seed: int,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Propose ladder, draft length and thresholds for a pair and an aim, from COLLECTION, and write the classifier.

    \b
    Examples:
      tandem calibrate collected --aim regret:0.02
      tandem calibrate --classifier qwen2.5-coder-1.5b+qwen2.5-coder-0.5b --aim cost:0.8 --out classifiers/thrifty
    """
    from tandem.errors import UsageError
    from tandem.sufficiency.classifier import find_classifier
    from tandem.training.aims import parse_aim
    from tandem.training.data import pair_of, read_collection
    from tandem.training.train import train

    wanted = parse_aim(aim)
    if (collection is None) == (classifier is None):
        raise UsageError("name either a COLLECTION, or with --classifier the classifier whose table is to be used")
    source = collection if collection is not None else find_classifier(str(classifier))
    rows, manifest = read_collection(source)
    specs = pair_of(manifest)
    identity = name or f"{specs[0].name}+{specs[1].name}"
    trained = train(
        rows,
        manifest,
        specs,
        name=identity,
        command="tandem " + shlex.join(sys.argv[1:]),
        aim=wanted,
        seed=seed,
        hand_over=hand_over,
        prefix_cache=prefix_cache,
        say=lambda line: click.echo(line, err=True),
    )
    folder = out or Path("classifiers") / identity
    written = trained.classifier is not None and not dry_run
    if trained.classifier is not None and written:
        trained.classifier.save(folder)
    if as_json:
        click.echo(json.dumps(trained.report | {"written": str(folder) if written else None}))
    else:
        _print(trained.classifier, trained.report)
        if written:
            click.echo(f"written to {folder}; use it with --classifier {folder}", err=True)
    if trained.classifier is None:
        raise click.exceptions.Exit(1)


def _print(classifier: Classifier | None, report: dict[str, Any]) -> None:
    from rich.console import Console

    from tandem.cli.classifiers import print_card, print_certificate

    console = Console()
    if classifier is not None:
        print_card(console, classifier.card)
        return
    print_certificate(console, report["certificate"])
    for line in report["alternatives"]:
        console.print(line, highlight=False)
