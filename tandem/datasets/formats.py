"""Streaming readers of the supported file formats: JSON Lines and CSV, plain or gzipped, and Parquet.

Every error names file and line (Parquet: row).
"""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, cast

from tandem.errors import MissingPackageError, UsageError
from tandem.storage.jsonl import MOST_LINE, bounded_lines, read_strict

_CELL = 16 << 20  # characters; the csv module's default of 128 kB is below our limit on a problem
_BATCH = 1024  # rows
_CHUNK = 1 << 30  # bytes of one column of a row group of a Parquet file, decompressed
_VALUES = 100_000_000  # of one column, and rows of a file
_Rows = Iterator[tuple[int, dict[str, Any]]]


def is_file_name(name: str) -> bool:
    return name.lower().removesuffix(".gz").endswith(tuple(_READERS))


def read_rows(path: Path) -> _Rows:
    """Yield (line or row number from 1, fields) for each row of a file, read as a stream.

    Raises UsageError for an unknown extension, an unreadable or truncated file, and any error in a row;
    MissingPackageError for Parquet without pyarrow.
    """
    reader = _READERS.get(Path(path.name.removesuffix(".gz")).suffix.lower())
    if reader is None:
        raise UsageError(f"{path}: not a supported format; give a .jsonl, .csv (both also .gz) or .parquet file")
    number = 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            for number, row in reader(cast("IO[bytes]", stream), path):
                yield number, row
    except (EOFError, zlib.error):
        raise UsageError(f"{path}:{number + 1}: the compressed file is truncated or damaged; get it again") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror or error})") from None


def _read_csv(stream: IO[bytes], path: Path) -> _Rows:
    """Yield (line on which the row ends, cells by column); an empty cell is left out, a byte-order mark accepted.

    Spreadsheets separate columns by semicolons or tabs too, and people write a space behind a comma: the header tells.
    """
    csv.field_size_limit(max(_CELL, csv.field_size_limit()))
    text = io.TextIOWrapper(stream, "utf-8-sig", newline="")
    lines = csv.reader(text, strict=True)
    try:
        header = text.readline(_CELL)
        bare = re.sub(r'"[^"]*"', "", header)
        mark = max(",;\t", key=bare.count)
        spaced = re.search(rf"{mark} +\S", bare) is not None
        rest = bounded_lines(text.readline, path, 2)
        lines = csv.reader(itertools.chain([header], rest), strict=True, delimiter=mark, skipinitialspace=spaced)
        columns = [name.strip() for name in next(lines, [])]
        if len(set(columns)) < len(columns):
            twice = next(name for name in columns if columns.count(name) > 1)
            raise UsageError(f"{path}:1: the column '{twice}' occurs twice")
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


def _read_parquet(stream: IO[bytes], path: Path) -> _Rows:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise MissingPackageError("reading Parquet files", "parquet") from None
    number = 0
    try:
        with parquet.ParquetFile(stream) as file:
            columns = [file.schema.column(k) for k in range(len(file.schema))]
            _check_parquet(file.metadata, path)
        # Texts stay as places in their column's dictionary: a few bytes may stand for gigabytes of them.
        texts = [column.path for column in columns if column.physical_type == "BYTE_ARRAY"]
        for batch in parquet.ParquetFile(stream, read_dictionary=texts).iter_batches(batch_size=_BATCH):
            together = sum(_expanded(column) for column in batch.columns) <= MOST_LINE
            for part in [batch] if together else (batch.slice(k, 1) for k in range(batch.num_rows)):
                if not together and sum(_expanded(column) for column in part.columns) > MOST_LINE:
                    raise UsageError(f"{path}:{number + 1}: the row is larger than {MOST_LINE >> 20} MiB")
                for row in part.to_pylist():
                    number += 1
                    yield number, row
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).strip().splitlines()[0][:120]
        raise UsageError(f"{path}:{number + 1}: not a Parquet file, or damaged ({reason})") from None


def _check_parquet(metadata: Any, path: Path) -> None:
    """Raise UsageError for a file that says that it expands beyond all measure."""
    groups = [metadata.row_group(k) for k in range(metadata.num_row_groups)]
    chunks = [group.column(k) for group in groups for k in range(group.num_columns)]
    if any(chunk.total_uncompressed_size > _CHUNK for chunk in chunks):
        raise UsageError(f"{path}: a column expands to more than {_CHUNK >> 20:,} MiB in one row group; split the file")
    if metadata.num_rows > _VALUES or any(chunk.num_values > _VALUES for chunk in chunks):
        raise UsageError(f"{path}: more than {_VALUES:,} rows, or values in a column of one row group; split the file")


def _expanded(array: Any) -> int:
    """Return the bytes of an Arrow array, with each text as often as it occurs."""
    import pyarrow.compute as pc
    from pyarrow import types

    if types.is_dictionary(array.type):
        lengths = pc.binary_length(array.dictionary)
        return int(pc.sum(pc.take(lengths, array.indices)).as_py() or 0)
    if types.is_map(array.type):
        start, end = array.offsets[0].as_py(), array.offsets[-1].as_py()
        return sum(_expanded(part.slice(start, end - start)) for part in (array.keys, array.items))
    if types.is_list(array.type) or types.is_large_list(array.type):
        return _expanded(array.flatten())
    if types.is_struct(array.type):
        return sum(_expanded(part) for part in array.flatten())
    return int(array.nbytes)


_READERS: dict[str, Callable[[IO[bytes], Path], _Rows]] = {
    ".jsonl": read_strict,
    ".ndjson": read_strict,
    ".json": read_strict,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}
