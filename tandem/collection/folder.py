"""A collection's folder: rows in one file a worker, the mentor's texts beside them, all found again by their keys.

``rows.jsonl`` (``rows-0.jsonl``, … of several workers) and ``texts.jsonl`` hold texts and are private; so does what
failed, ``errors.jsonl``. Whoever writes here holds the folder's lock.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tandem.collection.plan import Key
from tandem.collection.table import Row
from tandem.ledger import Entry
from tandem.storage.files import file_error
from tandem.storage.jsonl import Damage, JsonlWriter, decode, name_damages, read_at, read_lines, scan, set_aside

_log = logging.getLogger(__name__)
_NAME = re.compile(r"(rows|texts|calls)(-\d+)?\.jsonl")


def key_of(row: Mapping[str, Any]) -> Key:
    """Return what a row is of."""
    return Key(row["problem"], row["level"], row.get("sample", 0))


def shard_file(folder: Path, kind: str, shard: int | None) -> Path:
    """Return a worker's file of a kind (`rows`, `texts`, `calls`, `errors`); `shard` is None where there is one."""
    return folder / (f"{kind}.jsonl" if shard is None else f"{kind}-{shard}.jsonl")


def files(folder: Path, kind: str) -> list[Path]:
    """Return the files of one kind, of all workers that ever wrote here."""
    return sorted(path for path in folder.glob(f"{kind}*.jsonl") if _NAME.fullmatch(path.name))


class Folder:
    """The rows of a collection, by key; those of all workers are read, and new ones go to the own file.

    Of two rows with one key (there are none unless somebody joined files) the first counts. A damaged row is reported
    once, copied to ``rows.damaged.jsonl``, and collected again.
    """

    def __init__(self, path: Path, shard: int | None = None, *, write: bool = True) -> None:
        """Open the folder; raises TandemError if it cannot be written (or read, if it is only to be read)."""
        self.path, self.shard = path, shard
        self._writer: JsonlWriter | None = None
        if write:
            try:
                path.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise file_error(path, error) from None
            self._writer = JsonlWriter(shard_file(path, "rows", shard))
        self._places: dict[Key, tuple[Path, int]] = {}
        for file in files(path, "rows"):
            self._read(file, own=self._writer is not None and file == self._writer.path)

    def _read(self, file: Path, *, own: bool) -> None:
        damages: list[Damage] = []
        for line in scan(file):
            try:
                key = key_of(decode(line.raw))
            except (ValueError, KeyError) as reason:
                damages.append(Damage.of(file, line, str(reason)))
            else:
                self._places.setdefault(key, (file, line.offset))
        if own:
            set_aside(damages)
            for said in name_damages(damages):
                _log.warning("%s", said)

    def __contains__(self, key: Key) -> bool:
        return key in self._places

    def __len__(self) -> int:
        return len(self._places)

    def keys(self) -> Iterator[Key]:
        """Yield what there are rows of."""
        yield from self._places

    def row(self, key: Key) -> Row | None:
        """Return a row, or None if there is none (any more)."""
        if key not in self._places:
            return None
        path, offset = self._places[key]
        return read_row(path, offset)

    def rows(self) -> Iterator[Row]:
        """Yield every row once, read anew: they are large."""
        for path in files(self.path, "rows"):
            offsets = {offset for _, (file, offset) in self._places.items() if file == path}
            for line in scan(path):
                if line.offset in offsets:
                    yield decode(line.raw)

    def add(self, row: Row) -> None:
        """Write a row down; raises TandemError if the disk takes no more."""
        assert self._writer is not None
        offset = self._writer.write(row, sync=True)
        self._places[key_of(row)] = self._writer.path, offset

    def fail(self, problem: str, error: str) -> None:
        """Write down that a problem failed."""
        with JsonlWriter(shard_file(self.path, "errors", self.shard)) as errors:
            errors.write({"problem": problem, "error": error})

    def close(self) -> None:
        """Close the own file."""
        if self._writer:
            self._writer.close()


def read_row(path: Path, offset: int) -> Row | None:
    """Return the row that begins at `offset`; None if it is damaged."""
    with path.open("rb") as file, suppress(ValueError):
        return read_at(file, offset)
    return None


def calls(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield what all workers wrote down of calls: a flat row for each event, with numbers where the call has ended."""
    for path in files(folder, "calls"):
        for row in read_lines(path):
            yield _flat_call(row) if "entry" in row else row  # older collections wrote them flat


def spent(folder: Path) -> float:
    """Return what all parts of a collection have cost in US$ in the worst case, killed calls included."""
    total = 0.0
    begun: dict[tuple[Path, str], float] = {}
    for path in files(folder, "calls"):
        for row in read_lines(path):
            bound = row.get("entry", row).get("usd_bound") or 0.0
            if row["event"] == "open":
                begun[path, row["call"]] = bound
                continue
            total += bound
            if row["event"] != "failed":
                begun.pop((path, row["call"]), None)
    return total + sum(begun.values())


def _flat_call(row: dict[str, Any]) -> dict[str, Any]:
    entry = Entry.model_validate(row["entry"])
    head = {name: row[name] for name in ("call", "event", "problem", "at")}
    found = head | {"purpose": entry.purpose, "role": entry.role, "usd_bound": entry.usd_bound}
    if row["event"] in ("open", "lost"):
        return found
    usage = entry.usage.model_dump(include={"prompt", "cached", "completion"})
    found |= usage | {"usd": entry.usd, "seconds": entry.seconds, "error": entry.error}
    return found
