"""`tandem calibrate`: the operating point of a pair for an aim, or the strategy that would serve it better."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tandem.cli.config_option import config_option
from tandem.cli.grouped import command
from tandem.cli.options import PATH, chosen_aim_option, fit_options
from tandem.cli.output import emit, note
from tandem.errors import UsageError

if TYPE_CHECKING:
    from tandem.sufficiency.classifier import Classifier


@command()
@click.argument("collection", type=PATH, required=False)
@chosen_aim_option
@click.option("--classifier", metavar="ID|DIR", help="Without COLLECTION: take the table of this classifier.")
@fit_options
@click.option("--dry-run", is_flag=True, help="Propose only, write nothing.")
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print the proposal as JSON on standard output, nothing else.")
def calibrate(
    collection: Path | None,
    aim: str,
    classifier: str | None,
    out: Path | None,
    dry_run: bool,
    as_json: bool,
    **how: Any,
) -> None:
    """Propose ladder, draft length and thresholds for a pair and an aim, from COLLECTION, and write the classifier.

    \b
    Examples:
      tandem calibrate collected --aim regret:0.02
      tandem calibrate --classifier qwen2.5-coder-1.5b+qwen2.5-coder-0.5b --aim cost:0.8 --out classifiers/thrifty
    """
    from tandem.cli.train import fit_classifier
    from tandem.sufficiency.classifier import find_classifier
    from tandem.training.aims import parse_aim
    from tandem.training.data import read_collection

    wanted = parse_aim(aim)
    if (collection is None) == (classifier is None):
        raise UsageError("name either a COLLECTION, or with --classifier the classifier whose table is to be used")
    source = collection if collection is not None else find_classifier(str(classifier))
    table = read_collection(source)
    trained, folder = fit_classifier(table, out, write=not dry_run, aim=wanted, **how)
    written = trained.classifier is not None and not dry_run
    report = trained.report | {"written": str(folder) if written else None}
    emit(report, as_json, lambda: _view(trained.classifier, trained.report))
    if written and not as_json:
        note(f"written to {folder}; use it with --classifier {folder}")
    if trained.classifier is None:
        raise click.exceptions.Exit(1)


def _view(classifier: Classifier | None, report: dict[str, Any]) -> Iterable[Any]:
    from tandem.cli.classifiers import card_view, certificate_table

    if classifier is not None:
        return card_view(classifier.card)
    return [certificate_table(report["certificate"]), *report["alternatives"]]
