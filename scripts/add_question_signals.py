"""Add what a question's text tells (numbers, sentences, symbols) to a table that was collected before that was kept.

    python scripts/add_question_signals.py classifiers/my-pair --dataset gsm8k --dataset math

FOLDER is one with table.jsonl.gz. No model is called: the questions come from the data sets, and only counts of them
are written. A predictor takes the features that all of a table's problems have, so `tandem train --strategy route`
learns from these counts once every row has them. Rows that have them already stay as they are.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import click

from tandem.datasets import load_dataset
from tandem.datasets.cards import cards
from tandem.errors import TandemError
from tandem.evaluation.collection import export
from tandem.evaluation.collection.table import rounded
from tandem.sufficiency.signals import QUESTION_CANDIDATES, question_candidates, question_signals


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--dataset", "datasets", required=True, multiple=True, help="Where the questions are; several times.")
@click.option("--split", help="Default: train, where the data set has it.")
def main(folder: Path, datasets: tuple[str, ...], split: str | None) -> None:
    """Write the counts into FOLDER's table."""
    try:
        table = folder / "table.jsonl.gz"
        rows = [json.loads(line) for line in gzip.decompress(table.read_bytes()).decode().splitlines()]
        added, missing = add(rows, questions(datasets, split))
        export(rows, table)
    except (TandemError, OSError) as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"{added} rows have got their question's counts")
    if missing:
        raise click.ClickException(f"{len(missing)} problems are in none of the data sets, {missing[0]} for one")


def questions(datasets: tuple[str, ...], split: str | None) -> dict[str, str]:
    """Return the questions of some data sets, by problem id."""
    found: dict[str, str] = {}
    for name in datasets:
        card = cards().get(name)
        own = split or ("train" if card and "train" in card.splits else None)
        found |= {problem.id: problem.question for problem in load_dataset(name, split=own)}
    return found


def add(rows: list[dict[str, Any]], texts: dict[str, str]) -> tuple[int, list[str]]:
    """Add the counts to rows of the intern's, in place; return how many got them, and problems without a text."""
    added, missing = 0, set()
    for row in rows:
        known = row.get("signals", {}).get("question", {})
        if "signals" not in row or all(name in known for name in QUESTION_CANDIDATES):
            continue
        if row["problem"] not in texts:
            missing.add(row["problem"])
            continue
        counts = question_signals(row["question_tokens"]) | question_candidates(texts[row["problem"]])
        row["signals"]["question"] = rounded(counts) | known
        added += 1
    return added, sorted(missing)


if __name__ == "__main__":
    main()
