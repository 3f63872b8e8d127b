"""Adding the signals of a prompt pass to collected rows: one pass of the intern over each row's question and insight.

They go to a file beside the rows, one line for each (problem, level, sample), and are joined to the rows when these
are read; running it again reads only what is missing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from tandem.errors import CapabilityError, TandemError
from tandem.evaluation.collection.folder import Folder, files, key_of
from tandem.evaluation.collection.manifest import read_manifest
from tandem.evaluation.collection.plan import Key
from tandem.evaluation.collection.table import rounded
from tandem.evaluation.jsonl import JsonlWriter, read_lines
from tandem.insight import trim
from tandem.models.base import Model, Reads
from tandem.sufficiency.reading import MAX_TOKENS, insight_signals, prompt_text, published_signals
from tandem.sufficiency.signals import question_candidates

FILE = "prompt_signals.jsonl"


def join_prompt_signals(rows: Iterable[Mapping[str, Any]], path: Path) -> list[dict[str, Any]]:
    """Return the rows with the `published`, `insight` and `question` signals of those that `path` has."""
    found = {key_of(line): line["signals"] for line in read_lines(path)} if path.exists() else {}
    joined = []
    for row in rows:
        signals = found.get(key_of(row))
        joined.append(dict(row) if signals is None else {**row, "signals": {**row["signals"], **signals}})
    return joined


def read_raw(source: Path) -> tuple[list[dict[str, Any]], dict[str, Any]] | None:
    """Return the raw rows of a collection folder, with the prompt signals beside them, and its manifest.

    None if the folder has no raw rows. Raises TandemError for a damaged manifest.
    """
    manifest = read_manifest(source)
    if manifest is None or not files(source, "rows"):
        return None
    return join_prompt_signals(Folder(source, write=False).rows(), source / FILE), manifest


def _done(path: Path) -> set[Key]:
    return {key_of(line) for line in read_lines(path)} if path.exists() else set()


async def add_prompt_signals(
    rows: Iterable[Mapping[str, Any]],
    questions: Mapping[str, str],
    intern: Model,
    path: Path,
    *,
    concurrency: int = 2,
    top_logprobs: int = 20,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Read what is missing in `path`; return how many rows failed. Rows of the mentor's own answer have no draft.

    `questions` has the text of each problem by id. Few passes run at once: they can exhaust a server's memory.
    Raises CapabilityError for an intern that cannot read a text, before anything is written.
    """
    if not isinstance(intern, Reads):
        raise CapabilityError(f"{intern.spec.name} cannot tell the log-probabilities of a prompt; serve it with vLLM")
    done = _done(path)
    missing = [row for row in rows if "insight" in row and key_of(row) not in done and row["problem"] in questions]
    gate, failed, ended = asyncio.Semaphore(concurrency), 0, 0
    with JsonlWriter(path) as writer:

        async def one(row: Mapping[str, Any]) -> None:
            nonlocal failed, ended
            question, insight = questions[row["problem"]], trim(row["insight"])
            async with gate:
                try:
                    reading = await intern.read(
                        prompt_text(question, insight), top_logprobs=top_logprobs, max_tokens=MAX_TOKENS
                    )
                except CapabilityError:
                    raise
                except TandemError:
                    failed += 1
                    return
            signals = {
                "published": published_signals(reading.stats),
                "insight": insight_signals(reading, question, insight),
                "question": question_candidates(question),
            }
            kept = {part: rounded(found) for part, found in signals.items()}
            writer.write({**key_of(row)._asdict(), "read_tokens": reading.usage.prompt, "signals": kept})
            ended += 1
            if progress:
                progress(ended, len(missing))

        async with asyncio.TaskGroup() as group:
            for row in missing:
                group.create_task(one(row))
    return failed
