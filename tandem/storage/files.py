"""Files read and written whole, and one-line errors for what the system refuses: where, why, what to do."""

from __future__ import annotations

import errno
import glob
import os
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from tandem.errors import TandemError

_ABANDONED = 3600.0  # seconds
_ADVICE = {
    errno.ENOSPC: "free some space there",
    errno.EDQUOT: "your quota is used up, free some space there",
    errno.EFBIG: "the limit on file sizes is reached (ulimit -f)",
    errno.EROFS: "take a folder that can be written",
    errno.EACCES: "take a folder that you may write to",
    errno.EPERM: "take a folder that you may write to",
    errno.ENOTDIR: "a part of that path is a file; take another folder",
    errno.EISDIR: "a folder has that name; take another",
    errno.EEXIST: "a file has that name; take another",
}


def file_error(path: Path, error: OSError, doing: str = "write") -> TandemError:
    """Return the error for a refused file or folder: where, why, what to do."""
    advice = "" if doing == "read" else _ADVICE.get(error.errno or 0, "")
    return TandemError(f"cannot {doing} {path}: {error.strerror}" + (f" ({advice})" if advice else ""))


def read_within(path: Path, most: int) -> bytes | None:
    """Return a file's bytes, or None where there are more than `most`; no more than that is read. Raises OSError."""
    with path.open("rb") as file:
        raw = file.read(most + 1)
    return raw if len(raw) <= most else None


@contextmanager
def replacing(path: Path, *, private: bool = False, durable: bool = True, parents: bool = False) -> Iterator[IO[bytes]]:
    """Yield a file to write; it replaces `path` atomically when the block ends, and is removed if the block raises.

    It has a unique name beside `path`, so that two writers never share one. `private`: only the owner may read it.
    `durable`: it is on disk before it is visible, which a cache does not need. `parents`: create the folder too. Raises
    OSError.
    """
    if parents:
        path.parent.mkdir(parents=True, exist_ok=True)
    if durable:
        _remove_leftovers(path)
    partial = path.with_name(f".{path.name}.{os.urandom(6).hex()}.partial")
    mode = 0o600 if private else 0o666
    try:
        with open(partial, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def _remove_leftovers(path: Path) -> None:
    """Remove the leftovers of killed writers of `path`; a living writer finishes within an hour."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > _ABANDONED:
                left.unlink()


def holds_something(folder: Path, *, beside: Collection[str] = ()) -> bool:
    """Whether any file in a folder, at any depth, is not empty, `beside` those of these names."""
    files = (path for path in folder.rglob("*") if path.name not in beside and path.is_file())
    return any(path.stat().st_size for path in files)


def write_whole(
    path: Path, content: str | bytes, *, private: bool = False, durable: bool = True, parents: bool = False
) -> None:
    """Replace a file by `content` in one step (see `replacing`). Raises TandemError if it cannot be written."""
    try:
        with replacing(path, private=private, durable=durable, parents=parents) as file:
            file.write(content.encode() if isinstance(content, str) else content)
    except OSError as error:
        raise file_error(path, error) from None
