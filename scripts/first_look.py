"""A first look at real models: two problems live, then a data set by the intern, by the mentor and by both.

python scripts/first_look.py --mentor qwen2.5-coder-1.5b --intern qwen2.5-coder-0.5b --limit 24
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import click
from rich.console import Console

from tandem import SolveOptions, Tandem
from tandem.cli.live import ComparisonView
from tandem.cli.run import default_folder
from tandem.cli.watch import watch
from tandem.costs import LABELS
from tandem.datasets import load_dataset
from tandem.errors import TandemError
from tandem.reports.comparison import report
from tandem.reports.page.exports import comparison_view
from tandem.reports.page.gather import read_comparison
from tandem.reports.page.writers import write_comparison
from tandem.runs.compare import Comparison, Part, carry_out
from tandem.types import Problem

ROWS = ["mentor-only", "intern-only", "tandem"]


@click.command(context_settings={"show_default": True})
@click.option("--mentor", required=True)
@click.option("--intern", required=True)
@click.option("--dataset", default="starter")
@click.option("--limit", type=click.IntRange(1), help="Default: the whole data set.")
@click.option("--aim", help="Which of the classifier's operating points decides. Default: the one it was trained for.")
@click.option("--concurrency", type=click.IntRange(1), default=16)
@click.option("--out", type=click.Path(path_type=Path), help="Default: runs/<date>-<dataset>-first-look.")
def main(
    mentor: str, intern: str, dataset: str, limit: int | None, aim: str | None, concurrency: int, out: Path | None
) -> None:
    """Watch two problems, one of them with a complete insight, then compare Tandem with each model alone."""
    try:
        problems = load_dataset(dataset, limit=limit)
        caps = {"mentor_max_tokens": 640, "intern_max_tokens": 640}
        engine = Tandem(mentor, intern, **caps, aim=aim, concurrency=concurrency)
        _compare(engine, problems, dataset, concurrency, out or default_folder(dataset, "first-look"))
    except TandemError as error:
        raise click.ClickException(str(error)) from None


def _compare(engine: Tandem, problems: list[Problem], dataset: str, concurrency: int, folder: Path) -> None:
    console, view = Console(), ComparisonView()
    data = {"name": dataset, "problems": len(problems)}
    job = Comparison(folder, data, problems, {"mentor": None, "intern": None}, concurrency, at_once=len(ROWS))

    async def work() -> list[Part]:
        async with engine:
            await _live(engine, problems, console)
            console.print(
                f"\nNow {len(problems)} problems of {dataset}, by each model alone and by both.\n", style="dim"
            )
            with view:
                return await carry_out(engine, ROWS, job, view.run)

    folder.mkdir(parents=True, exist_ok=True)
    parts = asyncio.run(work())
    plan = engine.plan()
    report(folder, parts, unit=plan.unit)
    comparison = read_comparison(folder)
    for part in comparison_view(comparison.figures):
        console.print(part, highlight=False)
    levels = next(row for row in comparison.figures["strategies"] if row["name"] == "tandem")["levels"]
    bought = ", ".join(f"{name} {count}" for name, count in levels.items())
    console.print(f"Tandem's levels: {bought}. Costs are in {LABELS[plan.unit]}.", highlight=False)
    page, *_ = write_comparison(folder, comparison)
    console.print(f"The page is {page}", highlight=False, soft_wrap=True)


async def _live(engine: Tandem, problems: list[Problem], console: Console) -> None:
    console.print(f"Loading {engine.mentor.spec.name} and {engine.intern.spec.name} ...", style="dim")
    await engine.prepare()
    for problem, strategy in ((problems[0], "tandem"), (problems[-1], "fixed:high")):
        console.print(f"\n[{strategy}] {problem.question}\n", style="bold", markup=False)
        await watch(engine.astream(problem, options=SolveOptions(strategy=strategy)), console)


if __name__ == "__main__":
    main()
