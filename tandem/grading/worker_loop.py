"""The inside of a worker process: one JSON job per line in, one JSON reply per line out.

It holds no secrets and little memory. The kernel ends it when a job has computed for longer than its deadline:
computing time, not time on the wall, so that a right answer stays right on a machine that is busy with models. That
also ends a worker that hangs when its parent is gone; an idle one ends with its input.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from typing import IO, Any

MEMORY = 2 << 30  # bytes of address space: a tower of exponents must not exhaust the machine


def serve(prepare: Callable[[], object], key: str, verdict: Callable[[dict[str, Any]], bool]) -> None:
    """Answer each job with its `verdict` under `key`, until the input ends; `prepare` does the slow imports."""
    jobs = sys.stdin.buffer
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not look like a reply
    try:
        prepare()
    except Exception as error:  # for the parent, which shows it to the user
        _send(replies, {"error": f"{type(error).__name__}: {error}"})
        return
    _limit()
    _send(replies, {"ready": True})
    for line in jobs:
        job = json.loads(line)
        _end_after(job["deadline"])
        try:
            found = verdict(job)
        except (Exception, MemoryError):
            found = False
        _end_after(0)
        _send(replies, {key: found})


def _send(replies: IO[bytes], reply: dict[str, object]) -> None:
    replies.write(json.dumps(reply).encode() + b"\n")
    replies.flush()


def _end_after(seconds: float) -> None:
    if sys.platform != "win32":
        signal.setitimer(signal.ITIMER_PROF, seconds)  # SIGPROF is not handled: it ends the process


def _limit() -> None:
    if sys.platform != "win32":
        import resource

        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends us
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if sys.platform == "linux":
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
