"""JSON lines that survive a kill, a full disk and an editor: one write per line, and a checksum at its end.

A line is one JSON object with the last member ``"crc32":"0a1b2c3d"``: the CRC-32 of the bytes before that member
(without its comma). jq and pandas can read the file. Lines without a checksum are accepted.
"""

from __future__ import annotations

import itertools
import json
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, AnyStr, NamedTuple, Self

from tandem.errors import UsageError
from tandem.storage.files import file_error

if TYPE_CHECKING:
    from gzip import GzipFile

_MARK = b'"crc32":"'
_TAIL = len(_MARK) + 8 + len(b'"}')
_BLOCK = 1 << 16
_NAMED = 5  # damaged lines
MOST_LINE = 64 << 20  # bytes (of CSV: characters) of a line that users are sent; a gzipped one may hide gigabytes

EDITED = "its checksum does not match"
BROKEN = "it is not a JSON object"
TORN = "it was cut short"


class Line(NamedTuple):
    """One line as it stands in the file: its number (from 1), its offset in bytes, its bytes without the newline."""

    number: int
    offset: int
    raw: bytes
    ended: bool = True  # there was a newline


@dataclass(frozen=True, slots=True)
class Damage:
    """A damaged line. `number` is None for a torn last line that a writer found and removed."""

    path: Path
    number: int | None
    offset: int
    reason: str
    raw: bytes

    @classmethod
    def of(cls, path: Path, line: Line, reason: str) -> Damage:
        return cls(path, line.number, line.offset, reason if line.ended else TORN, line.raw)

    def __str__(self) -> str:
        where = f"line {self.number}" if self.number else "the last line"
        return f"{self.path}, {where}: {self.reason}; it is skipped"


def encode(row: dict[str, Any]) -> bytes:
    """Return the line of a row, checksum and newline included."""
    try:
        text = json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:  # a lone surrogate, as a server may send; an escape keeps it
        text = json.dumps(row, separators=(",", ":")).encode()
    body = text[:-1]
    return b'%s%s%s%08x"}\n' % (body, b"," if row else b"", _MARK, zlib.crc32(body))


def is_intact(raw: bytes) -> bool:
    """Whether a line ends with its own checksum; much faster than `decode`."""
    body = raw[:-_TAIL].removesuffix(b",")
    return raw[-_TAIL : len(_MARK) - _TAIL] == _MARK and raw[-10:] == b'%08x"}' % zlib.crc32(body)


def decode(raw: bytes) -> dict[str, Any]:
    """Return the row of a line, without its checksum. Raises ValueError, with the reason, if the line is damaged."""
    if raw[-_TAIL : len(_MARK) - _TAIL] == _MARK:
        if not is_intact(raw):
            raise ValueError(EDITED)
        raw = raw[:-_TAIL].removesuffix(b",") + b"}"
    try:
        row = json.loads(raw)
    except (ValueError, RecursionError):  # bad UTF-8 is a ValueError too
        row = None
    if not isinstance(row, dict):
        raise ValueError(BROKEN)
    return row


def scan(path: Path) -> Iterator[Line]:
    """Yield the lines of a file, unparsed and unverified (`decode` does both); none if it is absent, no blank ones.

    Raises TandemError if the file cannot be read.
    """
    try:
        with path.open("rb", buffering=1 << 18) as file:
            offset = 0
            for number, raw in enumerate(file, 1):
                if not raw.isspace():
                    ended = raw.endswith(b"\n")
                    yield Line(number, offset, raw[:-1] if ended else raw, ended)
                offset += len(raw)
    except FileNotFoundError:
        return
    except OSError as error:
        raise file_error(path, error, "read") from None


def read_lines(path: Path, damaged: Callable[[Damage], None] | None = None) -> Iterator[dict[str, Any]]:
    """Yield the rows of a file; damaged lines are reported to `damaged` and skipped."""
    for line in scan(path):
        try:
            row = decode(line.raw)
        except ValueError as reason:
            if damaged:
                damaged(Damage.of(path, line, str(reason)))
        else:
            yield row


def read_at(file: IO[bytes], offset: int) -> dict[str, Any]:
    """Return the row whose line begins at `offset`, as `scan` found it. Raises ValueError if it is damaged."""
    file.seek(offset)
    return decode(file.readline().removesuffix(b"\n"))


def read_strict(stream: IO[bytes] | GzipFile, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number from 1, object) for each line that is not blank; a byte-order mark is accepted.

    Raises UsageError for a line that is not UTF-8, not JSON or not an object, and for one of more than 64 MiB.
    """
    for number, line in enumerate(bounded_lines(stream.readline, path), start=1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
        except UnicodeDecodeError as error:
            raise UsageError(f"{path}:{number}: not UTF-8 text ({error.reason})") from None
        if text:
            yield number, _strict_row(text, path, number)


def bounded_lines(readline: Callable[[int], AnyStr], path: Path, first: int = 1) -> Iterator[AnyStr]:
    """Yield the lines that a stream's `readline` returns; the first one's number is `first`.

    Raises UsageError for a line of more than `MOST_LINE`.
    """
    for number in itertools.count(first):
        line = readline(MOST_LINE + 1)
        if len(line) > MOST_LINE:
            raise UsageError(f"{path}:{number}: the line is longer than {MOST_LINE >> 20} MiB")
        if not line:
            return
        yield line


def _strict_row(text: str, path: Path, number: int) -> dict[str, Any]:
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: also a number of more than 4,300 digits
        reason = getattr(error, "msg", "a number is too long" if isinstance(error, ValueError) else "nested too deeply")
        raise UsageError(f"{path}:{number}: not valid JSON ({reason})") from None
    if not isinstance(row, dict):
        raise UsageError(f"{path}:{number}: a line must be a JSON object, this is a {type(row).__name__}")
    return row


class JsonlWriter:
    """Appends rows to one file, each in one write; the folder must exist, the file need not.

    A torn last line is copied to ``<stem>.damaged.jsonl`` and removed when the file is opened; `torn` reports it. A row
    that cannot be written leaves no trace: the file ends with its last whole line. Another process must not write to
    the same file.
    """

    def __init__(self, path: Path) -> None:
        """Raises TandemError if the file cannot be opened for writing."""
        self.path = path
        self.torn: Damage | None = None
        self._suspect = False  # a write failed midway
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise file_error(path, error) from None
        try:
            self._mend()
        except BaseException:
            self.close()
            raise

    def write(self, row: dict[str, Any], *, sync: bool = False) -> int:
        """Append one row (`sync`: wait until it is on disk) and return its offset in bytes.

        Raises TandemError if it cannot be written; the file is then unchanged.
        """
        data = encode(row)
        if self._suspect:
            self._mend()
        start = os.lseek(self._fd, 0, os.SEEK_END)
        self._suspect = True
        try:
            self._put(data)
            if sync:
                os.fsync(self._fd)
        except OSError as error:
            with suppress(OSError):  # if even that fails, the next write repairs it first
                os.ftruncate(self._fd, start)
                self._suspect = False
            raise file_error(self.path, error) from None
        self._suspect = False
        return start

    def sync(self) -> None:
        try:
            os.fsync(self._fd)
        except OSError as error:
            raise file_error(self.path, error) from None

    def close(self) -> None:
        """Close the file; written rows are already with the kernel."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:
            self.close()

    def _put(self, data: bytes) -> None:
        while data:  # a nearly full disk accepts a part first
            data = data[os.write(self._fd, data) :]

    def _mend(self) -> None:
        """Remove a torn last line, or complete one that lacks only its newline."""
        try:
            start, tail = _last_piece(self._fd, os.lseek(self._fd, 0, os.SEEK_END))
            if tail and _is_whole(tail):
                self._put(b"\n")
            elif tail:
                self.torn = Damage(self.path, None, start, TORN, tail)
                set_aside([self.torn])
                os.ftruncate(self._fd, start)
        except OSError as error:
            raise file_error(self.path, error) from None
        self._suspect = False


def _is_whole(raw: bytes) -> bool:
    try:
        decode(raw)
    except ValueError:
        return False
    return True


def _last_piece(fd: int, size: int) -> tuple[int, bytes]:
    """Return what follows the last newline, and where it starts."""
    start = size
    while start > 0:
        block_end, start = start, max(start - _BLOCK, 0)
        newline = os.pread(fd, block_end - start, start).rfind(b"\n")
        if newline >= 0:
            start += newline + 1
            break
    return start, os.pread(fd, size - start, start) if start < size else b""


def name_damages(damages: Sequence[Damage]) -> list[str]:
    """Return the messages for the user: the first few damaged lines of one file, and the number of others."""
    messages = [str(damage) for damage in damages[:_NAMED]]
    if more := len(damages) - len(messages):
        messages.append(f"{damages[0].path}: {more} more lines are damaged like that")
    return messages


def set_aside(damages: Sequence[Damage]) -> None:
    """Copy damaged lines of one file to ``<stem>.damaged.jsonl`` beside it, each only once."""
    if not damages:
        return
    path = damages[0].path
    aside = path.with_name(f"{path.stem}.damaged.jsonl")
    known = {(row["offset"], row["text"]) for row in read_lines(aside)}
    with JsonlWriter(aside) as writer:
        for damage in damages:
            text = damage.raw.decode(errors="surrogateescape")
            if (damage.offset, text) not in known:
                row = {"line": damage.number, "offset": damage.offset, "reason": damage.reason, "text": text}
                writer.write({"file": path.name, **row})
        writer.sync()
