"""Collect training rows for a pair: the intern's signals and correctness at every level, resumable.

    python scripts/collect_progressive.py --mentor qwen2.5-coder-1.5b --intern qwen2.5-coder-0.5b \
        --dataset gsm8k --dataset math --split train --limit 100 --effort none,low=40,medium=100,high=300,answer \
        --out collected

With vLLM servers for both models (much quicker): add --mentor-endpoint and --intern-endpoint. Running the same
command again goes on where it stopped. Then: tandem train collected.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress

from tandem.cli.options import code_options, open_code_sandbox
from tandem.datasets import load_dataset
from tandem.datasets.cards import cards
from tandem.errors import TandemError
from tandem.evaluation.collection import Collector, export
from tandem.ladder import parse_ladder
from tandem.models.load import load_model
from tandem.types import Problem


@click.command(context_settings={"show_default": True})
@click.option("--mentor", required=True)
@click.option("--intern", required=True)
@click.option("--mentor-endpoint", metavar="URL")
@click.option("--intern-endpoint", metavar="URL")
@click.option("--dataset", "datasets", required=True, multiple=True, help="May be given several times.")
@click.option("--split", help="Default: train, where the data set has it.")
@click.option("--limit", type=click.IntRange(1), help="Problems of each data set, drawn by --seed.")
@click.option("--seed", type=int, default=0)
@click.option("--effort", default="none,low,medium,high,answer")
@click.option("--max-tokens", type=click.IntRange(1), default=768, help="Cap on every answer.")
@click.option("--concurrency", type=click.IntRange(1), default=32)
@click.option("--max-minutes", type=float, help="Start no new problem after this long.")
@code_options
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--table", type=click.Path(path_type=Path), help="Where to write the table. Default: OUT/table.jsonl.gz.")
def main(**options: Any) -> None:
    """Collect, then write the table that may be committed: ids, signals, labels and counts."""
    try:
        asyncio.run(_collect(options))
    except TandemError as error:
        raise click.ClickException(str(error)) from None


async def _collect(options: dict[str, Any]) -> None:
    problems: list[Problem] = []
    for name in options["datasets"]:
        split = options["split"] or _training_split(name)
        problems += load_dataset(name, split=split, limit=options["limit"], seed=options["seed"])
    sandbox = open_code_sandbox(options, problems, judged=True)
    mentor = load_model(options["mentor"], role="mentor", endpoint=options["mentor_endpoint"])
    intern = load_model(options["intern"], role="intern", endpoint=options["intern_endpoint"])
    await asyncio.gather(mentor.probe(), intern.probe())
    collector = Collector(
        mentor,
        intern,
        parse_ladder(options["effort"]),
        options["out"],
        max_tokens=options["max_tokens"],
        sandbox=sandbox,
    )
    minutes = options["max_minutes"]
    console = Console(stderr=True)
    try:
        with Progress(console=console, disable=not console.is_terminal) as bar:
            task = bar.add_task("collecting", total=len(problems))

            def progress(ended: int, total: int) -> None:
                bar.update(task, completed=ended)
                if not console.is_terminal:
                    console.print(f"{ended}/{total} problems, {len(collector.rows)} rows", highlight=False)

            failed = await collector.collect(
                problems,
                concurrency=options["concurrency"],
                max_seconds=minutes * 60 if minutes else None,
                progress=progress,
            )
    finally:
        await asyncio.gather(mentor.aclose(), intern.aclose())
        table = options["table"] or options["out"] / "table.jsonl.gz"
        rows = export(collector.rows, table)
        console.print(f"{rows} rows in {table}", highlight=False)
    if failed:
        raise TandemError(f"{failed} problems failed, see {options['out'] / 'errors.jsonl'}; run the command again")


def _training_split(name: str) -> str | None:
    card = cards().get(name)
    return "train" if card and "train" in card.splits else None


if __name__ == "__main__":
    main()
