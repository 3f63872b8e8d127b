"""JSON lines that survive a kill: appended in one write, flushed, and a torn last line is dropped on reading."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from tandem.errors import TandemError


def append_line(path: Path, row: dict[str, Any]) -> None:
    """Append one row and flush it to disk. Raises TandemError if the disk is full or the folder read-only."""
    data = json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
    try:
        with path.open("ab") as file:
            if file.tell() and not _ends_with_newline(path):
                data = b"\n" + data  # after a torn line, start afresh
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise TandemError(f"cannot write {path}: {error.strerror}") from None


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file (none if it is absent); lines that a kill cut short are passed over."""
    if not path.exists():
        return []
    rows = []
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.strip():
                try:
                    rows.append(json.loads(line))
                except json.JSONDecodeError:
                    continue
    return rows


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
