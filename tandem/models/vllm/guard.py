"""Keeps a server from outliving its run, however that dies; also a view of the kernel's table of processes.

Started from this file (``python -I guard.py COMMAND…``), so the standard library is all that it may import.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

GRACE = 8.0  # seconds that a server has between SIGTERM and SIGKILL
_ORPHANS = 1.0  # the same for the children of one that has ended by itself, since a restart waits for that
_UNKILLABLE = 30.0  # seconds after which a process that hangs in the kernel (a lost GPU) is left to it
_PROC = Path("/proc")
_PDEATHSIG, _SUBREAPER = 1, 36  # prctl(2)
_ENDING = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}


class Process(NamedTuple):
    """One line of the kernel's table; `started` is in clock ticks since the machine's start."""

    parent: int
    session: int
    started: int


def processes() -> dict[int, Process]:
    """Return every process that has not ended, by its id; nothing where there is no /proc."""
    found = {int(entry): look(int(entry)) for entry in os.listdir(_PROC) if entry.isdigit()} if _PROC.is_dir() else {}
    return {pid: process for pid, process in found.items() if process is not None}


def look(pid: int) -> Process | None:
    """Return a process, or None if it has ended (a zombie has)."""
    try:
        fields = (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else Process(int(fields[1]), int(fields[3]), int(fields[19]))


def family(head: int) -> set[int]:
    """Return who is left of a guard's session, and its descendants that went into sessions of their own."""
    table = processes()
    found = {pid for pid, process in table.items() if process.session == head}
    grown = True
    while grown:
        more = {pid for pid, process in table.items() if process.parent in found or process.parent == head} - found
        found |= more
        grown = bool(more)
    return found - {head}


def signal_all(pids: set[int], number: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def kill_family(head: int) -> None:
    """Kill what is left of a guard's family once the guard itself is dead, and wait until it is gone."""
    begun = time.monotonic()
    while (left := family(head)) and time.monotonic() - begun < _UNKILLABLE:
        signal_all(left, signal.SIGKILL)
        time.sleep(0.02)


def main(argv: list[str]) -> int:
    """Run a command until it ends, standard input ends, the parent is gone or a signal says so; then end all of it.

    Its process id goes to standard output, its own output to standard error. Returns its exit status as a shell
    gives it, 0 if it was made to end, 127 if it cannot be started.
    """
    parent = os.getppid()
    _prctl(_SUBREAPER, 1)  # orphans of the server become ours, whatever session they are in
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    for number in (*_ENDING, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    try:
        server = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            process_group=0,
            preexec_fn=lambda: _prctl(_PDEATHSIG, signal.SIGTERM),  # noqa: PLW1509 (there are no threads here)
        )
    except OSError as error:
        print(f"OSError: {argv[0]} cannot be started: {error.strerror}", file=sys.stderr)
        return 127
    with suppress(BrokenPipeError):  # the reader is gone, so the pipe's end is next
        os.write(1, b"%d\n" % server.pid)
    status = None
    while status is None:
        ready, _, _ = select.select([0, woken], [], [], 1.0)
        if woken in ready and _ENDING.intersection(os.read(woken, 512)):
            break
        # The end of the pipe is the run's death; a fork of the run may hold the pipe open, so the parent counts too.
        if (0 in ready and not os.read(0, 512)) or os.getppid() != parent:
            break
        status = _reap(server.pid)
    _end(server.pid, GRACE if status is None else _ORPHANS)
    return 0 if status is None else status if status >= 0 else 128 - status


def _end(server: int, grace: float) -> None:
    """SIGTERM for the server and all that it started, SIGKILL for what is left some seconds later."""
    begun = time.monotonic()
    signal_all(_left(server), signal.SIGTERM)
    while (passed := time.monotonic() - begun) < _UNKILLABLE:
        _reap(server)
        left = _left(server)
        if not left:
            return
        if passed > grace:
            signal_all(left, signal.SIGKILL)
        time.sleep(0.05)


def _left(server: int) -> set[int]:
    if _PROC.is_dir():
        return family(os.getpid())
    try:
        os.killpg(server, 0)  # no table of processes: the server's group must do
    except ProcessLookupError:
        return set()
    return {-server}


def _reap(server: int) -> int | None:
    """Ask for the status of every child that has ended; return the server's, if it is among them."""
    status = None
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if ended[0] == server:
                status = os.waitstatus_to_exitcode(ended[1])
    return status


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
