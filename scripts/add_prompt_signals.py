"""Add the signals of a prompt pass (the published features, the insight's surprise) to collected rows, resumable.

    python scripts/add_prompt_signals.py collected --intern qwen2.5-coder-0.5b --intern-endpoint http://host:8000/v1 \
        --dataset gsm8k --dataset math

COLLECTED is the folder with rows.jsonl; the signals go to prompt_signals.jsonl beside it (or --out), and
`tandem signals` and `tandem train` find them there. The endpoint must tell the log-probabilities of a prompt, as vLLM
does. Running the same command again reads only what is missing.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import click

from tandem.datasets import load_dataset
from tandem.datasets.cards import cards
from tandem.errors import TandemError
from tandem.evaluation.collection import Folder
from tandem.evaluation.prompt_signals import FILE, add_prompt_signals
from tandem.models.load import load_model


@click.command(context_settings={"show_default": True})
@click.argument("collected", type=click.Path(path_type=Path, exists=True))
@click.option("--intern", required=True)
@click.option("--intern-endpoint", metavar="URL", required=True)
@click.option("--dataset", "datasets", required=True, multiple=True, help="Where the questions are; several times.")
@click.option("--split", help="Default: train, where the data set has it.")
@click.option("--concurrency", type=click.IntRange(1), default=2)
@click.option("--out", type=click.Path(path_type=Path), help=f"Default: COLLECTED/{FILE}.")
def main(**options: Any) -> None:
    """Read the question and the insight of each collected row once with the intern."""
    try:
        asyncio.run(_add(options))
    except* TandemError as errors:
        raise click.ClickException(str(errors.exceptions[0])) from None


async def _add(options: dict[str, Any]) -> None:
    folder: Path = options["collected"]
    questions: dict[str, str] = {}
    for name in options["datasets"]:
        card = cards().get(name)
        split = options["split"] or ("train" if card and "train" in card.splits else None)
        questions |= {problem.id: problem.question for problem in load_dataset(name, split=split)}
    intern = load_model(options["intern"], role="intern", endpoint=options["intern_endpoint"], timeout=3600)
    try:
        await intern.probe()
        failed = await add_prompt_signals(
            Folder(folder, write=False).rows(),
            questions,
            intern,
            options["out"] or folder / FILE,
            concurrency=options["concurrency"],
            progress=lambda ended, total: click.echo(f"\r{ended}/{total} rows", nl=ended == total, err=True),
        )
    finally:
        await intern.aclose()
    if failed:
        raise TandemError(f"{failed} rows failed; run the command again")


if __name__ == "__main__":
    main()
