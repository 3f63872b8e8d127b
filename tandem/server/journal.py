"""Money in flight: what a server has promised to pay, in a file that outlives its process.

Each request's upper bound is appended before its work, and the key's spending after it, as JSON lines. No line waits
for the disk: a killed process loses none, only a machine without power may. At the next start every request that was
still open is charged at its bound.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tandem.errors import TandemError, UsageError
from tandem.storage.files import file_error
from tandem.storage.jsonl import encode, read_lines
from tandem.storage.lock import FileLock

_log = logging.getLogger(__name__)
_LONGEST = 1 << 20  # bytes; then it begins anew


class SpendingJournal:
    """The file beside a key file; one server at a time has it.

    A row `{"n": 7, "key": "alice", "open": 0.02}` begins a request, `{"n": 7, "key": "alice", "spent": 1.25}` ends it
    with all that the key has spent: read twice, it charges once.
    """

    def __init__(self, path: Path) -> None:
        """Raises UsageError if another server has the file, TandemError if it cannot be opened."""
        self._path = path
        self._lock = FileLock(path)
        if not self._lock.take():
            self._lock.release()
            raise UsageError(f"another server writes to {path}: give each server a key file of its own")
        self._fd = self._lock.fileno()
        self._number = 0
        self._failed = False
        self.spent: dict[str, float] = {}
        self.open: dict[int, tuple[str, float]] = {}
        for row in read_lines(path):
            self._read(row)
        if (size := os.fstat(self._fd).st_size) and os.pread(self._fd, 1, size - 1) != b"\n":
            self._append(b"\n")  # what a crash of the machine cut short stays alone

    def begin(self, key: str, usd: float) -> int:
        """Note that a request may cost so much; return its number."""
        self._number += 1
        self.open[self._number] = (key, usd)
        self._write([{"n": self._number, "key": key, "open": usd}])
        return self._number

    def end(self, number: int, spent: float) -> None:
        """Note that a request is over, and what its key has spent by now (US$)."""
        key, _ = self.open.pop(number)
        self.spent[key] = spent
        self._write([{"n": number, "key": key, "spent": spent}])

    @property
    def is_long(self) -> bool:
        return os.fstat(self._fd).st_size > _LONGEST

    def restart(self) -> None:
        """Begin the file anew, with the open requests alone, once the spending has been saved elsewhere."""
        os.ftruncate(self._fd, 0)
        self._write([{"n": n, "key": key, "open": usd} for n, (key, usd) in self.open.items()])

    def close(self) -> None:
        self._lock.release()

    def _write(self, rows: Iterable[dict[str, Any]]) -> None:
        self._append(b"".join(encode(row) for row in rows))

    def _append(self, data: bytes) -> None:
        try:
            os.lseek(self._fd, 0, os.SEEK_END)
            if data and os.write(self._fd, data) < len(data):
                os.write(self._fd, b"\n")  # cut by a full disk: only this row is lost
            self._failed = False
        except OSError as error:
            if not self._failed:  # once, not for every request
                _log.warning("%s; a crash now would lose what is in flight", file_error(self._path, error))
            self._failed = True

    def _read(self, row: dict[str, Any]) -> None:
        try:
            number, key = int(row["n"]), str(row["key"])
            self._number = max(self._number, number)
            if "open" in row:
                self.open[number] = (key, max(0.0, float(row["open"])))
            else:
                self.open.pop(number, None)
                self.spent[key] = float(row["spent"])
        except (KeyError, TypeError, ValueError, OverflowError):
            raise TandemError(f"{self._path} is damaged; repair or remove it") from None
