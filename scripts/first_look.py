"""A first look at real models: one problem live, one with a complete insight, then a data set and the table.

python scripts/first_look.py --mentor qwen2.5-coder-1.5b --intern qwen2.5-coder-0.5b --limit 40
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import click
from rich.console import Console

from tandem import SolveOptions, Tandem
from tandem.cli.live import RunView
from tandem.cli.watch import watch
from tandem.datasets import load_dataset
from tandem.errors import TandemError
from tandem.reports.run import summary_table
from tandem.runs.runner import run
from tandem.runs.store import RunStore


@click.command(context_settings={"show_default": True})
@click.option("--mentor", required=True)
@click.option("--intern", required=True)
@click.option("--dataset", default="starter")
@click.option("--limit", type=click.IntRange(1), help="Default: the whole data set.")
@click.option("--concurrency", type=click.IntRange(1), default=16)
def main(mentor: str, intern: str, dataset: str, limit: int | None, concurrency: int) -> None:
    """Watch two problems, one of them with a complete insight, then solve the data set and print the table."""
    try:
        asyncio.run(_look(mentor, intern, dataset, limit, concurrency))
    except TandemError as error:
        raise click.ClickException(str(error)) from None


async def _look(mentor: str, intern: str, dataset: str, limit: int | None, concurrency: int) -> None:
    console = Console()
    problems = load_dataset(dataset, limit=limit)
    async with Tandem(mentor, intern, mentor_max_tokens=640, intern_max_tokens=640) as tandem:
        console.print(f"Loading {mentor} and {intern} ...", style="dim")
        await tandem.prepare()
        for problem, strategy in ((problems[0], "tandem"), (problems[-1], "fixed:high")):
            console.print(f"\n[{strategy}] {problem.question}\n", style="bold", markup=False)
            await watch(tandem.astream(problem, options=SolveOptions(strategy=strategy)), console)
        console.print(f"\nNow all {len(problems)} problems of {dataset}.\n", style="dim")
        with tempfile.TemporaryDirectory() as folder, RunView(len(problems), []) as progress:
            store = RunStore.create(Path(folder) / "run", {"run": tandem.plan().describe()})
            summary = await run(tandem, problems, store, concurrency=concurrency, progress=progress)
    console.print(summary_table(summary, tandem.plan().describe()))


if __name__ == "__main__":
    main()
