"""Which runs were made outside of ./runs: a line for each in the user's folder, so that a list of runs has them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from tandem.errors import TandemError
from tandem.paths import cache_dir
from tandem.runs.store import RUN
from tandem.storage.jsonl import read_lines

RUNS = Path("runs")
_INDEX = "runs.jsonl"


def remember(folder: Path) -> None:
    """Note a run or a comparison that is not in ./runs; where that cannot be written, the list does without it."""
    with suppress(OSError):
        if folder.resolve().parent == RUNS.resolve():
            return
        line = json.dumps({"folder": str(folder.resolve()), "begun_in": str(Path.cwd())}) + "\n"
        cache_dir().mkdir(parents=True, exist_ok=True)
        with (cache_dir() / _INDEX).open("a", encoding="utf-8") as file:
            file.write(line)


def remembered(*, everywhere: bool = False) -> Iterator[Path]:
    """Yield the folders of runs that are still there: those begun in this folder, or by the user anywhere."""
    seen = set()
    with suppress(OSError, TandemError):
        here = str(Path.cwd())
        for line in read_lines(cache_dir() / _INDEX, lambda damage: None):
            folder = str(line.get("folder", ""))
            if folder and folder not in seen and (everywhere or line.get("begun_in") == here):
                seen.add(folder)
                if (Path(folder) / RUN).is_file() or any(Path(folder).glob(f"*/{RUN}")):
                    yield Path(folder)
