"""`tandem run`: a strategy over a data set, graded, written down as it goes, resumable."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tandem import __version__
from tandem.cli.options import engine_options, make_engine

if TYPE_CHECKING:
    from tandem.engine import Tandem
    from tandem.evaluation.store import RunStore
    from tandem.types import Problem


@click.command()
@engine_options
@click.option("--dataset", required=True, metavar="D", help="math500, math, gsm8k, starter, or a JSONL file.")
@click.option("--split", metavar="S", help="train or test, where the data set has both.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="The first N problems (N drawn ones with --seed).")
@click.option("--concurrency", type=click.IntRange(1), default=16, show_default=True, help="Problems at once.")
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="DIR", help="Default: runs/<date>-<dataset>-<strategy>."
)
@click.option("--resume", type=click.Path(path_type=Path), metavar="DIR", help="Go on with a run that was stopped.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON on standard output, nothing else.")
def run(
    dataset: str,
    split: str | None,
    limit: int | None,
    concurrency: int,
    out: Path | None,
    resume: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Solve the problems of a data set and write run.json, records.jsonl and summary.json.

    \b
    Examples:
      tandem run --mentor qwen2.5-coder-1.5b --intern qwen2.5-coder-0.5b --dataset starter --limit 10
      tandem run --mentor gpt-4o --intern deepseek-7b --dataset math500 --effort none,low,medium,high,answer
      tandem run --mentor qwen3-32b --mentor-endpoint http://gpu1:8000/v1 \\
                 --intern deepseek-7b --intern-endpoint http://gpu2:8000/v1 --dataset gsm8k --json
      tandem run ... --resume runs/2026-11-22-gsm8k-tandem
    """
    import asyncio

    from tandem.cli.progress import RunProgress
    from tandem.datasets import load_dataset
    from tandem.errors import UsageError
    from tandem.evaluation.report import summary_table

    if out and resume:
        raise UsageError("--out starts a run and --resume goes on with one; give one of them")
    problems = load_dataset(dataset, split=split, limit=limit, seed=options["seed"])
    endpoints = {role: _address(options[f"{role}_endpoint"]) for role in ("mentor", "intern")}
    engine = make_engine(options)
    manifest = _manifest(engine, dataset, split, limit, problems) | {"endpoints": endpoints}
    folder = resume or out or _default_folder(dataset, engine.strategy_name)
    store = _open(folder, manifest, resume is not None)
    with RunProgress(len(problems), store.records()) as progress:
        try:
            summary = asyncio.run(_run(engine, problems, store, concurrency, progress))
        except KeyboardInterrupt:
            progress.stop()
            click.echo(
                f"stopped; what is done is in {folder}. Go on with the same command and --resume {folder}", err=True
            )
            raise
    if as_json:
        click.echo(json.dumps(summary))
        return
    progress.console.print(summary_table(summary, engine.describe()))
    click.echo(f"records in {folder}", err=True)
    if engine.mismatch:
        click.echo(_calibration_hint(engine, dataset), err=True)


async def _run(
    engine: Tandem, problems: list[Problem], store: RunStore, concurrency: int, progress: Any
) -> dict[str, Any]:
    from tandem.evaluation.runner import run as run_problems

    async with engine:
        progress.status("getting both models ready")
        await engine.prepare()
        progress.status("")
        return await run_problems(engine, problems, store, concurrency=concurrency, progress=progress)


def _open(folder: Path, manifest: dict[str, Any], resume: bool) -> RunStore:
    from tandem.evaluation.store import RunStore

    return RunStore.reopen(folder, manifest) if resume else RunStore.create(folder, manifest)


def _manifest(
    engine: Tandem, dataset: str, split: str | None, limit: int | None, problems: list[Problem]
) -> dict[str, Any]:
    """Return run.json: under `run` what a resumed run must share, beside it what merely happened."""
    import hashlib

    described = engine.describe()
    described["classifier"] = engine.card.id if engine.card else None  # how it matches shows when the models are there
    ids = hashlib.sha256("\n".join(p.id for p in problems).encode()).hexdigest()
    data = {"name": dataset, "split": split, "limit": limit, "problems": len(problems), "ids_sha256": ids}
    return {
        "run": described | {"dataset": data},
        "version": __version__,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "synthetic": engine.mentor.spec.synthetic or engine.intern.spec.synthetic,
    }


def _address(endpoint: str | None) -> str | None:
    """Return an endpoint's address as it may be written down: without user, password and query."""
    from urllib.parse import urlsplit

    if endpoint is None:
        return None
    parts = urlsplit(endpoint)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _default_folder(dataset: str, strategy: str) -> Path:
    stem = f"{datetime.now(UTC):%Y-%m-%d}-{Path(dataset).stem}-{strategy.replace(':', '-').replace('=', '-')}"
    folder, number = Path("runs") / stem, 2
    while folder.exists():
        folder, number = Path("runs") / f"{stem}-{number}", number + 1
    return folder


def _calibration_hint(engine: Tandem, dataset: str) -> str:
    pair = f"--mentor {engine.mentor.spec.name} --intern {engine.intern.spec.name}"
    return (
        f"The classifier was not fitted on this set-up ({', '.join(engine.mismatch)} differ), so sufficiency is "
        f"uncalibrated. Collect and train your own: python scripts/collect_progressive.py {pair} --dataset {dataset} "
        "--limit 150 --out collected && tandem train collected"
    )
