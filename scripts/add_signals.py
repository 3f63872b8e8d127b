"""Add signals to collected rows that the collection did not compute; resumable.

    python scripts/add_signals.py prompt collected --intern qwen2.5-coder-0.5b --intern-endpoint http://host:8000/v1 \
        --dataset gsm8k --dataset math
    python scripts/add_signals.py agreement collected --intern … --intern-endpoint … --dataset gsm8k --dataset math

`prompt`: the intern reads each row's question and insight once (the published features, the insight's surprisal); the
endpoint must return the log-probabilities of a prompt, as vLLM does. `agreement`: the intern samples a second answer
for each row, and its agreement with the first is computed. COLLECTED is the folder with rows.jsonl; the signals go to a
file next to it, where `tandem signals`, and `tandem collect` when it writes the table, find them. Running the same
command again computes only what is missing.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import click

from tandem.collection.added_signals import PROMPT_SIGNALS, SECOND_DRAFTS, add_signals, prompt_pass, second_draft
from tandem.collection.manifest import read_manifest
from tandem.collection.rows import Folder
from tandem.datasets import load_dataset
from tandem.datasets.cards import training_split
from tandem.errors import TandemError, UsageError
from tandem.models.load import load_model
from tandem.types import Problem


@click.command(context_settings={"show_default": True})
@click.argument("kind", type=click.Choice(["prompt", "agreement"]))
@click.argument("collected", type=click.Path(path_type=Path, exists=True))
@click.option("--intern", required=True)
@click.option("--intern-endpoint", metavar="URL", required=True)
@click.option("--dataset", "datasets", required=True, multiple=True, help="Where the questions are; several times.")
@click.option("--split", help="Default: train, where the data set has it.")
@click.option("--concurrency", type=click.IntRange(1), help="Default: 2 passes, or 32 drafts.", show_default=False)
def main(**options: Any) -> None:
    """Add signals of one KIND to the rows in COLLECTED."""
    try:
        asyncio.run(_add(**options))
    except UsageError as error:
        raise click.UsageError(str(error)) from None
    except TandemError as error:
        raise click.ClickException(str(error)) from None


async def _add(
    kind: str,
    collected: Path,
    intern: str,
    intern_endpoint: str,
    datasets: tuple[str, ...],
    split: str | None,
    concurrency: int | None,
) -> None:
    manifest = read_manifest(collected)
    if manifest is None:
        raise UsageError(f"{collected} has no collection.json: it is not a folder of tandem collect")
    problems: dict[str, Problem] = {}
    for name in datasets:
        problems |= {problem.id: problem for problem in load_dataset(name, split=split or training_split(name))}
    model = load_model(intern, role="intern", endpoint=intern_endpoint, timeout=3600)
    try:
        await model.probe()
        if kind == "prompt":
            make, path = prompt_pass(problems, model), collected / PROMPT_SIGNALS
        else:
            make = second_draft(problems, model, manifest["insight_mode"], max_tokens=manifest["max_tokens"])
            path = collected / SECOND_DRAFTS
        failed = await add_signals(
            [row for row in Folder(collected, write=False).rows() if row["problem"] in problems],
            path,
            make,
            concurrency=concurrency or (2 if kind == "prompt" else 32),
            progress=lambda ended, total: click.echo(f"\r{ended}/{total} rows", nl=ended == total, err=True),
        )
    finally:
        await model.aclose()
    if failed:
        raise TandemError(f"{failed} rows failed; run the command again")


if __name__ == "__main__":
    main()
