"""The privileges that a process drops for good before it runs untrusted code.

In this order: its user (where it has root's right to become another one), its resources, and the system calls that a
program which only computes has no use for. Nothing here can be taken back by the process.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys
from collections.abc import Mapping

from .syscalls import forbid

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38
_NOSUID, _NODEV, _REMOUNT = 2, 4, 32
_CAPABILITIES = 0x20080522  # the version of capset's structure


def confine(limits: Mapping[str, int]) -> None:
    """Drop all privileges. `limits` in bytes, seconds and counts; `uid` 0 keeps the user, `parent` 0 is not checked.

    /tmp is a file system of ours if `scratch` is not 0. Raises OSError if the kernel refuses what this system supports.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the run, which ends us
    files = not limits["scratch"] or _limit_scratch(limits["scratch"], limits["files"])
    if limits["uid"]:
        _keep_library()
        os.setgroups([])
        os.setresgid(limits["uid"], limits["uid"], limits["uid"])
        os.setresuid(limits["uid"], limits["uid"], limits["uid"])
    for name in ("CPU", "AS", "NPROC", "FSIZE", "NOFILE", "CORE", "MEMLOCK", "MSGQUEUE", "SIGPENDING"):
        _lower(getattr(resource, f"RLIMIT_{name}", None), limits.get(name, 0), sys.platform != "linux")
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        for option, value in ((_PR_SET_PDEATHSIG, signal.SIGKILL), (_PR_SET_DUMPABLE, 0), (_PR_SET_NO_NEW_PRIVS, 1)):
            if libc.prctl(option, int(value), 0, 0, 0):
                raise OSError(ctypes.get_errno(), f"prctl {option}")
        if libc.capset((ctypes.c_uint32 * 2)(_CAPABILITIES), (ctypes.c_uint32 * 6)()):
            raise OSError(ctypes.get_errno(), "capset")
        forbid(libc, files)
    if limits["parent"] and os.getppid() != limits["parent"]:
        os._exit(1)  # the run died before we asked to die with it


def _limit_scratch(size: int, files: int) -> bool:
    """Limit the bytes and the number of files in /tmp, which bwrap cannot; False if this system keeps us from it."""
    options = f"size={size},nr_inodes={files}".encode()
    return not ctypes.CDLL(None).mount(b"tmpfs", b"/tmp", b"tmpfs", _REMOUNT | _NOSUID | _NODEV, options)


def _lower(kind: int | None, value: int, lenient: bool) -> None:
    if kind is None:
        return
    with contextlib.suppress(OSError, ValueError) if lenient else contextlib.nullcontext():  # macOS knows no RLIMIT_AS
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))


def _keep_library() -> None:
    """Keep the standard library within reach where its path is barred to the new user (an interpreter in /root)."""
    if sys.platform != "linux" or not os.path.isdir("/proc/self/fd"):
        return
    moved = {path: f"/proc/self/fd/{os.open(path, os.O_PATH)}" for path in sys.path if os.path.isdir(path)}
    # The longest first: lib-dynload lies inside the library's own folder.
    for path, kept in sorted(moved.items(), key=lambda pair: -len(pair[0])):
        sys.path[:] = [kept if entry == path else entry for entry in sys.path]
        for module in list(sys.modules.values()):
            folders = getattr(module, "__path__", None)
            if isinstance(folders, list):
                folders[:] = [kept + entry[len(path) :] if entry.startswith(path + "/") else entry for entry in folders]
    sys.path_importer_cache.clear()
