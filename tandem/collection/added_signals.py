"""Signals that are added to collected rows afterwards, each kind in a file beside the rows.

A line for each (problem, level, sample); they are joined to the rows when these are read, and running it again asks
only for what is missing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from tandem.collection.folder import Folder, files, key_of
from tandem.collection.manifest import read_manifest
from tandem.collection.plan import Key
from tandem.errors import CapabilityError, TandemError
from tandem.storage.jsonl import JsonlWriter, read_lines
from tandem.sufficiency.rows import Row

PROMPT_SIGNALS = "prompt_signals.jsonl"
SECOND_DRAFTS = "second_drafts.jsonl"


def join_added(rows: Iterable[Row], folder: Path) -> list[dict[str, Any]]:
    """Return the rows with all signals that files in `folder` add to them."""
    joined = [dict(row) for row in rows]
    for name in (PROMPT_SIGNALS, SECOND_DRAFTS):
        found = _lines(folder / name)
        for row in joined:
            if (line := found.get(key_of(row))) is not None:
                row["signals"] = {**row["signals"], **line["signals"]}
    return joined


def read_raw(source: Path) -> tuple[list[dict[str, Any]], dict[str, Any]] | None:
    """Return the raw rows of a collection folder, with the signals added to them, and its manifest.

    None if the folder has no raw rows. Raises TandemError for a damaged manifest.
    """
    manifest = read_manifest(source)
    if manifest is None or not files(source, "rows"):
        return None
    return join_added(Folder(source, write=False).rows(), source), manifest


def _lines(path: Path) -> dict[Key, dict[str, Any]]:
    return {key_of(line): line for line in read_lines(path)} if path.exists() else {}


async def add_signals(
    rows: Iterable[Row],
    path: Path,
    make: Callable[[Row], Awaitable[Mapping[str, Any]]],
    *,
    concurrency: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write the line that `make` makes of each row which `path` does not have; return how many rows failed.

    Rows of the mentor's own answer have no draft and are passed over, as are rows of hints. A CapabilityError ends it;
    another TandemError costs its row only.
    """
    done = _lines(path).keys()
    missing = [row for row in rows if "insight" in row and key_of(row) not in done]
    gate, failed, ended = asyncio.Semaphore(concurrency), 0, 0
    with JsonlWriter(path) as writer:

        async def one(row: Row) -> None:
            nonlocal failed, ended
            async with gate:
                try:
                    line = await make(row)
                except CapabilityError:
                    raise
                except TandemError:
                    failed += 1
                    return
            writer.write({**key_of(row)._asdict(), **line})
            ended += 1
            if progress:
                progress(ended, len(missing))

        async with asyncio.TaskGroup() as group:
            for row in missing:
                group.create_task(one(row))
    return failed
