"""Tables: CSV and Parquet, read as a stream; every fault is named by file and line (Parquet: row)."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import IO, Any

from tandem.errors import MissingPackageError, UsageError

_CELL = 16 << 20  # characters; the csv module stops at 128 kB, before a problem's own limit can be named
_BATCH = 1024  # rows


def read_csv(stream: IO[bytes], path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line on which the row ends, cells by column) for each row; an empty cell is left out.

    The first line names the columns; a byte-order mark is accepted. Raises UsageError for a row with more or fewer
    cells than columns, for a quote that never closes, and for text that is not UTF-8.
    """
    csv.field_size_limit(max(_CELL, csv.field_size_limit()))
    lines = csv.reader(io.TextIOWrapper(stream, "utf-8-sig", newline=""), strict=True)
    try:
        columns = next(lines, [])
        if len(set(columns)) < len(columns):
            twice = next(name for name in columns if columns.count(name) > 1)
            raise UsageError(f"{path}:1: the column '{twice}' is there twice")
        for cells in lines:
            if not cells:
                continue
            if len(cells) != len(columns):
                count = f"the row has {len(cells)} cells, the header {len(columns)}"
                raise UsageError(f"{path}:{lines.line_num}: {count}")
            yield lines.line_num, {name: cell for name, cell in zip(columns, cells, strict=True) if cell != ""}
    except csv.Error as error:
        raise UsageError(f"{path}:{lines.line_num}: not valid CSV ({error})") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}:{lines.line_num + 1}: not UTF-8 text ({error.reason})") from None


def read_parquet(
    stream: IO[bytes], path: Path, columns: Collection[str] | None = None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (row number from 1, values by column) for each row; of `columns` those that are there, None: all.

    Raises MissingPackageError without pyarrow, UsageError for a file that is no Parquet or is damaged.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise MissingPackageError("reading Parquet files", "parquet") from None
    number = 0
    try:
        table = parquet.ParquetFile(stream)
        wanted = None if columns is None else [name for name in table.schema_arrow.names if name in columns]
        for batch in table.iter_batches(batch_size=_BATCH, columns=wanted):
            for row in batch.to_pylist():
                number += 1
                yield number, row
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).strip().splitlines()[0][:120]
        raise UsageError(f"{path}:{number + 1}: not a Parquet file, or damaged ({reason})") from None
