"""Locks against a second process. The kernel holds them, so they are released when the process dies."""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
from contextlib import suppress
from pathlib import Path

from tandem.errors import UsageError
from tandem.storage.files import file_error

if sys.platform != "win32":  # no lock there is released with its process, so none is taken
    import fcntl

LOCK = "run.lock"


class FileLock:
    """An exclusive lock on a file, created if missing; `take` or `wait`, then `release`."""

    def __init__(self, path: Path) -> None:
        """Raises TandemError if the file cannot be opened for writing."""
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise file_error(path, error) from None

    def take(self) -> bool:
        """Take the lock if it is free; return whether it was taken."""
        return _take(self._fd)

    def wait(self) -> None:
        if not self.take():
            fcntl.flock(self._fd, fcntl.LOCK_EX)

    def fileno(self) -> int:
        """Return the file descriptor; a process that inherits it holds the lock too, until it ends."""
        return self._fd

    def release(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:
            self.release()


class FolderLock(FileLock):
    """Holds ``run.lock`` of a folder, which names its holder; one holder at a time."""

    def __init__(self, folder: Path) -> None:
        """Raises UsageError, naming process and machine, if another process (or store) writes to the folder."""
        path = folder / LOCK
        super().__init__(path)
        if not self.take():
            holder = _holder(path)
            self.release()
            raise UsageError(f"{folder} is being written by {holder}; wait for it to end, or take another --out")
        me = json.dumps({"pid": os.getpid(), "host": socket.gethostname()}) + "\n"
        with suppress(OSError):  # a full disk: the lock works without a name
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, me.encode(), 0)


def locked(folder: Path) -> bool:
    try:
        fd = os.open(folder / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return not _take(fd, shared=True)
    finally:
        os.close(fd)


def _take(fd: int, *, shared: bool = False) -> bool:
    if sys.platform == "win32":
        return True
    try:
        fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in {errno.EWOULDBLOCK, errno.EACCES}  # a file system without locks has none to break
    return True


def _holder(path: Path) -> str:
    try:
        holder = json.loads(path.read_text())
        return f"another process ({holder['pid']} on {holder['host']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
