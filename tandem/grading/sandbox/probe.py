"""Checking the sandbox's limits on this machine by trying to break them."""

from __future__ import annotations

import asyncio
import os
import socket
import tempfile
from pathlib import Path

from tandem.errors import TandemError
from tandem.grading.sandbox.run import Sandbox, Submission

_SECONDS = 3.0


async def probe(sandbox: Sandbox) -> dict[str, bool]:
    """Return for each limit whether it held; a few tenths of a second each.

    Raises TandemError if not even an innocent program passes.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener, tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)  # so that only the sandbox stands in the way
        outside = Path(folder) / "escaped"
        port = listener.getsockname()[1]
        attempts = {
            "network_cut_off": _NETWORK.format(port=port),
            "outside_not_writable": _WRITE.format(path=str(outside)),
            "forks_contained": _FORK,
            "memory_capped": _MEMORY,
            "files_capped": _FILES,
        }
        names = list(attempts)
        innocent, *tries = await asyncio.gather(*(_succeeds(sandbox, code) for code in (_INNOCENT, *attempts.values())))
        if not innocent:
            raise TandemError(f"the sandbox ({sandbox.kind}) fails an innocent program")
        held = {name: not worked for name, worked in zip(names, tries, strict=True)}
        held["outside_not_writable"] &= not outside.exists()
        return held


async def _succeeds(sandbox: Sandbox, code: str) -> bool:
    verdict = await sandbox.run(Submission(code, "assert attempt() is True", "attempt"), seconds=_SECONDS)
    return verdict.passed


_INNOCENT = """
def attempt():
    return sorted([2, 1]) == [1, 2]
"""
_NETWORK = """
import socket
def attempt():
    socket.create_connection(("127.0.0.1", {port}), timeout=1)
    return True
"""
_WRITE = """
def attempt():
    with open({path!r}, "w") as file:
        file.write("here")
    return True
"""
_FORK = """
import os, time
def attempt():
    for _ in range(64):
        if os.fork() == 0:
            time.sleep(1)
            os._exit(0)
    return True
"""
_MEMORY = """
import mmap
def attempt():
    kept = [mmap.mmap(-1, 1 << 28) for _ in range(8)]  # asked for, not filled: quick
    return len(kept) == 8
"""
_FILES = """
import os
def attempt():
    for n in range(4096):
        os.symlink("x", f"link-{n}")
    return True
"""
