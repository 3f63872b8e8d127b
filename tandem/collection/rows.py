"""The rows of a collection: in its folder, one file per worker, looked up by key; and in the exported table.

``rows.jsonl`` (``rows-0.jsonl``, … of several workers), ``texts.jsonl`` and ``errors.jsonl`` hold texts: private. A
writer holds the folder's lock. The table may be committed: ids, signals, labels and counts, the same bytes for any
order of the rows.
"""

from __future__ import annotations

import gzip
import json
import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tandem.collection.plan import Key
from tandem.errors import MissingPackageError
from tandem.ledger import Entry
from tandem.models.logprobs import TokenStat
from tandem.storage.files import file_error, write_whole
from tandem.storage.jsonl import Damage, JsonlWriter, decode, name_damages, read_at, read_lines, scan, set_aside
from tandem.sufficiency.signals import draft_signals, question_signals

DRAFT_LENGTHS = (16, 32, 64, 128)
WHOLE = "all"
STAT_PLACES = 4
_SIGNAL_PLACES = 5
_PRIVATE = ("text", "insight", "stats")  # contain problem text or answers, or are large
Row = dict[str, Any]
_log = logging.getLogger(__name__)
_NAME = re.compile(r"(rows|texts|calls)(-\d+)?\.jsonl")


def key_of(row: Mapping[str, Any]) -> Key:
    return Key(row["problem"], row["level"], row.get("sample", 0))


def shard_file(folder: Path, kind: str, shard: int | None) -> Path:
    """Return a worker's file of a kind (`rows`, `texts`, `calls`, `errors`); `shard` is None where there is one."""
    return folder / (f"{kind}.jsonl" if shard is None else f"{kind}-{shard}.jsonl")


def files(folder: Path, kind: str) -> list[Path]:
    return sorted(path for path in folder.glob(f"{kind}*.jsonl") if _NAME.fullmatch(path.name))


class Folder:
    """The rows of a collection, by key; those of all workers are read, and new ones go to this worker's own file.

    Of two rows with the same key (only if files were merged by hand) the first counts. A damaged row is reported
    once, copied to ``rows.damaged.jsonl``, and collected again.
    """

    def __init__(self, path: Path, shard: int | None = None, *, write: bool = True) -> None:
        """Open the folder; raises TandemError if it cannot be written (or read, if opened for reading)."""
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
            for sentence in name_damages(damages):
                _log.warning("%s", sentence)

    def __contains__(self, key: Key) -> bool:
        return key in self._places

    def __len__(self) -> int:
        return len(self._places)

    def keys(self) -> Iterator[Key]:
        yield from self._places

    def row(self, key: Key) -> Row | None:
        """Return a row, or None if it is missing or damaged."""
        if key not in self._places:
            return None
        path, offset = self._places[key]
        return read_row(path, offset)

    def rows(self) -> Iterator[Row]:
        """Yield every row once, read from disk: rows are large."""
        for path in files(self.path, "rows"):
            offsets = {offset for _, (file, offset) in self._places.items() if file == path}
            for line in scan(path):
                if line.offset in offsets:
                    yield decode(line.raw)

    def add(self, row: Row) -> None:
        """Append a row; raises TandemError if it cannot be written."""
        assert self._writer is not None
        offset = self._writer.write(row, sync=True)
        self._places[key_of(row)] = self._writer.path, offset

    def fail(self, problem: str, error: str) -> None:
        with JsonlWriter(shard_file(self.path, "errors", self.shard)) as errors:
            errors.write({"problem": problem, "error": error})

    def close(self) -> None:
        if self._writer:
            self._writer.close()


def read_row(path: Path, offset: int) -> Row | None:
    """Return the row that begins at `offset`; None if it is damaged."""
    with path.open("rb") as file, suppress(ValueError):
        return read_at(file, offset)
    return None


def calls(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the call events of all workers: a flat row each, with the numbers of ended calls."""
    for path in files(folder, "calls"):
        for row in read_lines(path):
            yield _flat_call(row) if "entry" in row else row  # older collections wrote flat rows


def spent(folder: Path) -> float:
    """Return the worst-case cost in US$ of all parts of a collection, killed calls included."""
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


def signals_of(stats: Sequence[Sequence[float]], lengths: Iterable[int] = DRAFT_LENGTHS) -> dict[str, dict[str, float]]:
    """Return the signals of the drafts of every length, from each token's [logprob, entropy, gap, margin]."""
    tokens = [TokenStat(*stat) for stat in stats]
    found = {str(n): draft_signals(tokens[:n], ended=len(tokens) <= n) for n in lengths}
    found[WHOLE] = draft_signals(tokens, ended=True)
    return {n: rounded(own) for n, own in found.items()}


def rounded(signals: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, _SIGNAL_PLACES) for name, value in signals.items()}


def public(row: Row) -> Row:
    """Return a row without texts; its drafts' signals are recomputed from the token statistics."""
    kept = {name: value for name, value in row.items() if name not in _PRIVATE}
    if "stats" in row:
        question = {"question": rounded(question_signals(row["question_tokens"]))}
        kept["signals"] = question | row.get("signals", {}) | signals_of(row["stats"])
    return kept


def export(rows: Iterable[Row], path: Path) -> int:
    """Write the table (gzipped JSON lines, sorted, a row for each key); return its row count."""
    table = _sorted(rows)
    body = "".join(json.dumps(row, sort_keys=True, separators=(",", ":")) + "\n" for row in table)
    write_whole(path, gzip.compress(body.encode(), mtime=0), parents=True)
    return len(table)


def export_parquet(rows: Iterable[Row], path: Path) -> int:
    """Write the same table with flat columns (``signals.32.entropy_mean``), null where a row has none.

    Raises MissingPackageError without pyarrow.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingPackageError("a Parquet table", "parquet") from None
    table = [_flat({"sample": 0} | row) for row in _sorted(rows)]
    first = ("problem", "level", "sample", "correct")
    names = sorted({name for row in table for name in row}, key=lambda name: (name not in first, name))
    columns = {name: pyarrow.array([row.get(name) for row in table]) for name in names}
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.table(columns), sink, compression="zstd")
    write_whole(path, sink.getvalue().to_pybytes(), parents=True)
    return len(table)


def _sorted(rows: Iterable[Row]) -> list[Row]:
    """Return the rows in order; of two with the same key the first."""
    table: dict[tuple[str, str, int], Row] = {}
    for row in rows:
        table.setdefault((row["problem"], row["level"], row.get("sample", 0)), public(row))
    return [table[key] for key in sorted(table)]


def _flat(row: Row, before: str = "") -> Row:
    found: Row = {}
    for name, value in row.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{before}{name}.")
        else:
            found[before + name] = value
    return found
