"""One door for every format that is read: JSON Lines and CSV, plain or gzipped, and Parquet."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, cast

from tandem.datasets.table_files import read_csv, read_parquet
from tandem.errors import UsageError
from tandem.storage.jsonl import read_strict

_Rows = Iterator[tuple[int, dict[str, Any]]]
_READERS: dict[str, Callable[[IO[bytes], Path], _Rows]] = {
    ".jsonl": read_strict,
    ".ndjson": read_strict,
    ".json": read_strict,
    ".csv": read_csv,
    ".parquet": read_parquet,
}


def is_file_name(name: str) -> bool:
    """Whether a name ends like a file that can be read."""
    return name.lower().removesuffix(".gz").endswith(tuple(_READERS))


def stem(path: Path) -> str:
    """Return a file's name without its endings."""
    return Path(path.name.removesuffix(".gz")).stem


def read_rows(path: Path) -> _Rows:
    """Yield (line or row number from 1, fields) for each row of a file, read as a stream.

    Raises UsageError for an ending that is not known, for a file that cannot be read or is cut short, and for every
    fault of a row; MissingPackageError for Parquet without pyarrow.
    """
    reader = _READERS.get(Path(path.name.removesuffix(".gz")).suffix.lower())
    if reader is None:
        raise UsageError(
            f"{path}: not a format that is read here; give a .jsonl, .csv (both also .gz) or .parquet file"
        )
    number = 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            for number, row in reader(cast("IO[bytes]", stream), path):
                yield number, row
    except (EOFError, zlib.error):
        raise UsageError(f"{path}:{number + 1}: the compressed file is cut short or damaged; get it again") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror or error})") from None
