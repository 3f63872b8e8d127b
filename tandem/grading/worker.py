"""The process that parses untrusted LaTeX: one JSON job per line in, one JSON reply per line out.

It holds no secrets and little memory. The kernel ends it when a job has computed for longer than its deadline:
computing time, not time on the wall, so that a right answer stays right on a machine that is busy with models. That
also ends a worker that hangs when the pool's process is gone; an idle one ends with its input.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import replace
from typing import IO

MEMORY = 2 << 30  # bytes of address space: a tower of exponents must not take the machine with it


def main() -> None:
    """Serve until the input ends."""
    jobs = sys.stdin.buffer
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not look like a reply
    try:
        same("\\frac{1}{2}", "0.5")  # imports, and builds the tables that the first parse needs
    except Exception as error:  # told to the pool, which tells the user
        _send(replies, {"error": f"{type(error).__name__}: {error}"})
        return
    _limit()
    _send(replies, {"ready": True})
    for line in jobs:
        job = json.loads(line)
        _end_after(job["deadline"])
        try:
            equal = same(job["reference"], job["answer"])
        except (Exception, MemoryError):
            equal = False
        _end_after(0)
        _send(replies, {"equal": equal})


def same(reference: str, answer: str) -> bool:
    """Whether Math-Verify finds the two formulas (LaTeX without dollar signs) equal; each is parsed as a whole."""
    from math_verify import LatexExtractionConfig, parse, verify

    # Its own unit table would turn 2t into 2; spelling.py drops units before.
    normal = replace(LatexExtractionConfig().normalization_config, units=False, boxed="none")
    config = LatexExtractionConfig(boxed_match_priority=-1, normalization_config=normal)
    gold, target = (parse(f"${formula}$", [config], parsing_timeout=None) for formula in (reference, answer))
    return bool(verify(gold, target, allow_set_relation_comp=True, timeout_seconds=None))


def _send(replies: IO[bytes], reply: dict[str, object]) -> None:
    replies.write(json.dumps(reply).encode() + b"\n")
    replies.flush()


def _end_after(seconds: float) -> None:
    if sys.platform != "win32":
        signal.setitimer(signal.ITIMER_PROF, seconds)  # nobody handles SIGPROF: it ends the process


def _limit() -> None:
    if sys.platform != "win32":
        import resource

        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends us
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if sys.platform == "linux":
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


if __name__ == "__main__":
    main()
