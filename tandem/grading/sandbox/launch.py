"""The command lines and limits of sandboxed processes, and the checks that this machine supports them."""

from __future__ import annotations

import glob
import itertools
import os
import shutil
import stat
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from tandem.errors import TandemError, UsageError

Kind = Literal["bwrap", "process"]
Role = Literal["candidate", "tester"]

PROCESS_STOPS_NOT = "which does not keep a program from this machine's files"
_INSIDE = Path(__file__).parent / "inside"
_UIDS = range(61184, 65520)  # systemd's range for users that exist only while a service runs
_THREADS = 32  # a process of its own user may have
_SCRATCH = 16 << 20  # bytes, of a file and of the folder for files
_FILES = 1024  # of every kind (links, folders, empty ones) in that folder: each takes memory of the kernel's
_LIBRARIES = ("/lib", "/lib32", "/lib64", "/usr/lib", "/usr/lib32", "/usr/lib64", "/nix/store")
_READABLE = ("/etc/ld.so.cache", "/etc/localtime", "/usr/share/zoneinfo")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
_INSTALL = "apt install bubblewrap (or dnf, pacman, apk)"


class Launcher:
    """Builds command lines; every process started by root gets a unique user id."""

    def __init__(self, kind: Kind, *, seconds: float, memory: int) -> None:
        """Raise UsageError for an unknown kind, TandemError if this machine lacks what the kind needs."""
        if kind not in ("bwrap", "process"):
            raise UsageError(f"unknown sandbox '{kind}'. Known: bwrap, process.")
        if os.name != "posix":
            raise TandemError("code can only be run on Linux or macOS")
        self.kind = kind
        self.root = os.geteuid() == 0
        self._bwrap = shutil.which("bwrap") or ""
        if kind == "bwrap" and not self._bwrap:
            raise TandemError(
                f"running code needs bubblewrap: {_INSTALL}; or take --sandbox process, {PROCESS_STOPS_NOT}"
            )
        # macOS's own paths and a venv's python are links; what is behind them is what a sandbox can show.
        self._python = os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)
        self._limits = {
            "CPU": max(1, round(seconds * 0.8)),  # below the wall limit
            "AS": memory,
            "NPROC": _THREADS if self.root else _tasks_of(os.geteuid()) + 512,
            "FSIZE": _SCRATCH,
            "NOFILE": 64,
            "SIGPENDING": 256,  # timers too
            "scratch": _SCRATCH if kind == "bwrap" else 0,
            "files": _FILES,
        }
        self._uids = itertools.cycle(_UIDS)
        for _ in range(os.getpid() * 64 % len(_UIDS)):  # two runs on one machine should not meet
            next(self._uids)
        self._view = list(self._bindings()) if kind == "bwrap" else []

    def limits(self) -> dict[str, int]:
        """Return the limits of a new process, including its own user id."""
        uid = next(self._uids) if self.root else 0
        return {**self._limits, "uid": uid, "parent": os.getpid() if self.kind == "process" else 0}

    def command(self, role: Role, news: int | None = None) -> list[str]:
        """Return the command that starts `role`; it reads its job from standard input.

        bwrap writes to the descriptor `news` which process is the first one inside.
        """
        folder = "/box" if self.kind == "bwrap" else str(_INSIDE.parent)
        start = f"import sys; sys.path.insert(0, {folder!r}); from inside import {role}; {role}.main()"
        view = [*self._view, "--info-fd", str(news), "--"] if self._view and news else [*self._view, "--"]
        return [*(view if self._view else []), self._python, "-s", "-S", "-P", "-B", "-X", "utf8", "-c", start]

    def environment(self) -> dict[str, str]:
        """Return a process's whole environment. The hash seed is fixed."""
        home = "/tmp" if self.kind == "bwrap" else "/"
        library = os.path.join(sys.base_prefix, "lib")
        return {"HOME": home, "LANG": "C.UTF-8", "PYTHONHASHSEED": "0", "LD_LIBRARY_PATH": library}

    def _bindings(self) -> Iterator[str]:
        yield from (self._bwrap, "--die-with-parent", "--new-session")
        yield from ("--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try")
        if self.root:  # the process itself becomes another user; in a user namespace it could not
            yield from ("--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID")
        else:
            yield "--unshare-user"
        if self.root or not os.stat(self._bwrap).st_mode & stat.S_ISUID:  # to limit /tmp, and dropped after that
            yield from ("--cap-add", "CAP_SYS_ADMIN")
        library = os.path.join(sys.base_prefix, "lib")
        own = [path for path in (library, sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")) if path]
        shown: list[str] = []
        for path in [*_LIBRARIES, *own, self._python, *_READABLE]:
            if os.path.islink(path) and os.path.dirname(path) == "/":
                yield from ("--symlink", os.readlink(path), path)
            elif os.path.exists(path) and not any(path.startswith(above + "/") for above in shown):
                shown.append(path)
                for above in reversed(Path(path).parents[:-1]):  # bwrap would make them for root alone
                    yield from ("--perms", "0755", "--dir", str(above))
                yield from ("--ro-bind", path, path)
        # Installed packages differ between machines and may hold a data set with its answers.
        for path in [folder for top in shown for folder in glob.glob(f"{top}/python3*/*-packages")]:
            yield from ("--tmpfs", path, "--remount-ro", path)
        yield from ("--ro-bind", str(_INSIDE), "/box/inside")
        for device in _DEVICES:
            yield from ("--dev-bind", device, device)
        yield from ("--perms", "1777", "--tmpfs", "/tmp", "--chdir", "/tmp")  # confine.py limits it
        yield from ("--remount-ro", "/")


def explain(kind: Kind, message: str) -> TandemError:
    """Return the error for a sandbox that does not start, `message` being what it wrote."""
    reason = " ".join(message.split())[-300:] or "no reason given"
    if kind == "process":
        return TandemError(f"the process that runs code does not start: {reason}")
    hint = f"take --sandbox process, {PROCESS_STOPS_NOT}"
    if "namespace" in reason or "uid map" in reason or "Operation not permitted" in reason:
        hint = f"allow user namespaces (in Docker: --privileged or a seccomp profile with unshare), or {hint}"
    return TandemError(f"bubblewrap does not start here ({reason}); {hint}")


def _tasks_of(user: int) -> int:
    """Return how many threads `user` has: outside a user namespace of its own its limit counts them all."""
    total = 0
    for status in glob.iglob("/proc/[0-9]*/status"):
        try:
            fields = dict(line.split(":", 1) for line in Path(status).read_text().splitlines() if ":" in line)
        except OSError:
            continue
        if int(fields["Uid"].split()[0]) == user:
            total += int(fields.get("Threads", "1"))
    return total if total else 4096  # no /proc: macOS
