"""JSON Lines, read as a stream; every fault is named by file and line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from tandem.errors import UsageError


def read_jsonl(stream: IO[bytes], path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number from 1, object) for each line that is not blank; a byte-order mark is accepted.

    Raises UsageError for a line that is not UTF-8, not JSON or not an object.
    """
    for number, line in enumerate(stream, start=1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
        except UnicodeDecodeError as error:
            raise UsageError(f"{path}:{number}: not UTF-8 text ({error.reason})") from None
        if text:
            yield number, _row(text, path, number)


def _row(text: str, path: Path, number: int) -> dict[str, Any]:
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: also a number of more than 4,300 digits
        reason = getattr(error, "msg", "a number is too long" if isinstance(error, ValueError) else "nested too deeply")
        raise UsageError(f"{path}:{number}: not valid JSON ({reason})") from None
    if not isinstance(row, dict):
        raise UsageError(f"{path}:{number}: a line must be a JSON object, this is a {type(row).__name__}")
    return row
