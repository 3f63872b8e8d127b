"""A run's folder: ``run.json`` to repeat it, ``records.jsonl`` as problems end, ``summary.json`` at the end."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from tandem.errors import TandemError, UsageError
from tandem.evaluation.jsonl import append_line, read_lines

RUN, RECORDS, SUMMARY = "run.json", "records.jsonl", "summary.json"


class RunStore:
    """One run on disk. Records are keyed by problem id; a resumed run skips those that ended without an error."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def create(cls, folder: Path, manifest: dict[str, Any]) -> RunStore:
        """Start a run. Raises UsageError if the folder holds records of one already."""
        if (folder / RECORDS).exists():
            raise UsageError(f"{folder} holds a run already; go on with it (--resume {folder}) or take another --out")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TandemError(f"cannot create {folder}: {error.strerror}") from None
        store = cls(folder)
        store._write(RUN, manifest)
        return store

    @classmethod
    def reopen(cls, folder: Path, manifest: dict[str, Any]) -> RunStore:
        """Take up a run again. Raises UsageError if there is none, or if it was another run (naming the difference)."""
        store = cls(folder)
        before = store.manifest()
        differing = sorted(_differences(before["run"], manifest["run"]))
        if differing:
            raise UsageError(f"{folder} is another run: it differs in {', '.join(differing)}")
        return store

    def manifest(self) -> dict[str, Any]:
        """Return run.json. Raises UsageError if the folder holds no run."""
        try:
            loaded: dict[str, Any] = json.loads((self.folder / RUN).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UsageError(f"{self.folder} holds no run (no {RUN} in it)") from None
        except (OSError, json.JSONDecodeError) as error:
            raise TandemError(f"{self.folder / RUN} cannot be read: {error}") from None
        return loaded

    def append(self, record: dict[str, Any]) -> None:
        """Append one record and flush it to disk."""
        append_line(self.folder / RECORDS, record)

    def records(self) -> list[dict[str, Any]]:
        """Return the last record of each problem, in the order of the first."""
        latest: dict[str, dict[str, Any]] = {}
        for record in read_lines(self.folder / RECORDS):
            latest[record["problem"]] = record
        return list(latest.values())

    def finish(self, summary: dict[str, Any]) -> None:
        """Write the summary."""
        self._write(SUMMARY, summary)

    def _write(self, name: str, content: dict[str, Any]) -> None:
        target = self.folder / name
        partial = target.with_suffix(".partial")
        try:
            with partial.open("w", encoding="utf-8") as file:
                file.write(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
                file.flush()
                os.fsync(file.fileno())
            partial.replace(target)
        except OSError as error:
            raise TandemError(f"cannot write {target}: {error.strerror}") from None


def _differences(before: Any, after: Any, path: str = "") -> list[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        found = []
        for key in before.keys() | after.keys():
            found += _differences(before.get(key), after.get(key), f"{path}.{key}" if path else key)
        return found
    return [] if before == after else [f"{path} ({before!r}, now {after!r})"]
