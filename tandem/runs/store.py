"""A run's folder: ``run.json`` to reproduce it, ``records.jsonl`` as problems end, ``summary.json`` at the end."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from tandem.errors import TandemError, UsageError
from tandem.runs.manifest import differences, name_differences
from tandem.runs.summary import Summary
from tandem.storage.files import file_error, write_whole
from tandem.storage.formats import read_stamped
from tandem.storage.jsonl import Damage, JsonlWriter, decode, is_intact, name_damages, read_at, scan, set_aside
from tandem.storage.lock import FolderLock, locked
from tandem.types import Problem

RUN, RECORDS, SUMMARY, CALLS = "run.json", "records.jsonl", "summary.json", "calls.jsonl"
PROBLEMS = "problems.jsonl"  # the questions, of a run or beside the runs of a comparison
COMPARE = "compare.json"  # the figures of a comparison
Record = dict[str, Any]
FORMAT = 1  # of run.json
_NEEDS = ("run.strategy", "run.mentor.name", "run.intern.name")
_NEEDED = {"problem", "correct", "error", "ledger"}


class RunStore:
    """One run on disk. Records are keyed by problem id; a resumed run skips those that ended without an error.

    Results are never overwritten: records are only appended, and the last one of a problem counts. Damaged lines are
    copied to ``records.damaged.jsonl`` and their problems count as not done; `warnings` names them. One store at a time
    may write to a folder; `finish` or `close` (or the end of the process) releases it.
    """

    def __init__(self, folder: Path, lock: FolderLock | None = None) -> None:
        """Use `create`, `reopen` or `open_for_reading`."""
        self.folder = folder
        self.new = False  # whether `create` made the folder
        self.warnings: list[str] = []
        self._lock = lock
        self._writer: JsonlWriter | None = None
        self._offsets: dict[str, int] | None = None  # of the last record of each problem
        self._failed: set[str] = set()

    @classmethod
    def create(cls, folder: Path, manifest: dict[str, Any]) -> RunStore:
        """Start a run. Raises UsageError if the folder holds another, TandemError if it cannot be written."""
        store = cls(folder)
        try:
            store._refuse_a_run()
            store.new = not folder.exists()
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise file_error(folder, error, "create") from None
        store._lock = FolderLock(folder)
        store._refuse_a_run()  # checked again under the lock
        write_whole(folder / RUN, _pretty(manifest))
        (folder / SUMMARY).unlink(missing_ok=True)  # left by a failed start
        store._offsets = {}
        return store

    @classmethod
    def reopen(cls, folder: Path, manifest: dict[str, Any]) -> RunStore:
        """Resume a run. Raises UsageError if there is none, or if it was another run (naming the difference)."""
        store = cls(folder)
        if found := differences(store.manifest()["run"], manifest["run"]):
            raise UsageError(f"{folder} is another run: it differs in {name_differences(found)}")
        store._lock = FolderLock(folder)
        store._index()
        return store

    @classmethod
    def open_for_reading(cls, folder: Path) -> RunStore:
        """Open a run for reading; it may be written meanwhile. Raises UsageError if there is none."""
        store = cls(folder)
        store.manifest()
        return store

    def manifest(self) -> dict[str, Any]:
        """Return run.json. Raises UsageError if the folder holds no run, TandemError for one that cannot be read."""
        manifest = self._read(RUN, _NEEDS)
        if manifest is None:
            raise UsageError(f"{self.folder} holds no run (no {RUN} in it)")
        return manifest

    def summary(self) -> dict[str, Any] | None:
        """Return summary.json, which the last part of the run wrote when it ended; None if there is none."""
        return self._read(SUMMARY)

    def is_being_written(self) -> bool:
        return self._lock is not None or locked(self.folder)

    def append(self, record: Record) -> None:
        """Append one record and wait until it is on disk. Raises TandemError if it cannot be written."""
        if self._lock is None:
            raise TandemError(f"{self.folder} is not open for writing")
        offsets = self._index()
        if self._writer is None:
            self._writer = JsonlWriter(self.folder / RECORDS)
        offset = self._writer.write(record, sync=True)
        self._note(offsets, record, offset)

    def records(self, problems: Iterable[str] | None = None) -> Iterator[Record]:
        """Yield the last record of each problem, in the order of the first; one is in memory at a time.

        `problems` selects ids, in that order; each must have a record.
        """
        index = self._index()
        offsets = list(index.values()) if problems is None else [index[problem] for problem in problems]
        if not offsets:
            return
        with (self.folder / RECORDS).open("rb", buffering=1 << 16) as file:
            for offset in offsets:
                yield read_at(file, offset)

    def ids(self) -> list[str]:
        """Return the ids of all problems that have a record, in the order of the first ones."""
        return list(self._index())

    def done(self) -> set[str]:
        """Return the ids of the problems whose last record has no error."""
        return self._index().keys() - self._failed

    def finish(self, summary: dict[str, Any]) -> None:
        write_whole(self.folder / SUMMARY, _pretty(summary))
        self.close()

    def close(self) -> None:
        """Release the folder. Reading still works."""
        if self._writer:
            self._writer.close()
        if self._lock:
            self._lock.release()
        self._writer = self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _index(self) -> dict[str, int]:
        """Read all lines once: find the last record of each problem and the damaged lines."""
        if self._offsets is not None:
            return self._offsets
        if self._lock:
            self._writer = JsonlWriter(self.folder / RECORDS)  # removes a torn last line
            if self._writer.torn:
                self.warnings.append(str(self._writer.torn))
        offsets: dict[str, int] = {}
        damages = []
        busy = self._lock is None and locked(self.folder)
        for line in scan(self.folder / RECORDS):
            try:
                record = decode(line.raw)
                if not record.keys() >= _NEEDED or not (is_intact(line.raw) or _is_sound(record)):
                    raise ValueError("it is not a record")
                self._note(offsets, record, line.offset)
            except ValueError as error:
                if busy and not line.ended:
                    continue  # still being written
                damages.append(Damage.of(self.folder / RECORDS, line, str(error)))
        if self._lock:
            set_aside(damages)
        self.warnings += name_damages(damages)
        self._offsets = offsets
        return offsets

    def _note(self, offsets: dict[str, int], record: Record, offset: int) -> None:
        problem, failed = str(record["problem"]), record.get("error") is not None
        offsets[problem] = offset
        (self._failed.add if failed else self._failed.discard)(problem)

    def _refuse_a_run(self) -> None:
        self._read(RUN, _NEEDS)  # a run that this version cannot read is not overwritten either
        if any(path.is_file() and path.stat().st_size for path in (self.folder / RECORDS, self.folder / CALLS)):
            again = f"go on with it (--resume {self.folder}) or take another --out"
            raise UsageError(f"{self.folder} holds a run already; {again}")

    def _read(self, name: str, needs: Sequence[str] = ()) -> dict[str, Any] | None:
        path = self.folder / name
        try:
            path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise file_error(path, error, "read") from None
        return read_stamped(path, FORMAT, needs=needs)


def write_problems(folder: Path, problems: Sequence[Problem]) -> None:
    """Write the questions into the folder of a run or a comparison, for the report; it is private to the user."""
    lines = (json.dumps({"problem": p.id, "question": p.question}, ensure_ascii=False) + "\n" for p in problems)
    write_whole(folder / PROBLEMS, "".join(lines))


def _is_sound(record: Record) -> bool:
    """Whether a record without a checksum, which any tool may have written, can be counted."""
    try:
        Summary().add(record)
    except (ValueError, KeyError, TypeError):
        return False
    return True


def _pretty(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
