"""JSON Lines, plain or gzipped, read as a stream; every fault is named by file and line."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tandem.errors import UsageError


def read_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number from 1, object) for each line that is not blank.

    Raises UsageError for a file that cannot be read or is cut short, and for a line that is not UTF-8, not JSON or
    not an object. A byte-order mark is accepted.
    """
    number = 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
                if text:
                    yield number, _row(text, path, number)
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}:{number}: not UTF-8 text ({error.reason})") from None
    except (EOFError, zlib.error):
        raise UsageError(f"{path}:{number + 1}: the compressed file is cut short or damaged; get it again") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror or error})") from None


def _row(text: str, path: Path, number: int) -> dict[str, Any]:
    try:
        row = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply"
        raise UsageError(f"{path}:{number}: not valid JSON ({reason})") from None
    if not isinstance(row, dict):
        raise UsageError(f"{path}:{number}: a line must be a JSON object, this is a {type(row).__name__}")
    return row
