"""A server's log: the progress of its start and the reason of a failure; limits on size and number of logs."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from tandem.models.vllm import state
from tandem.words import shortened

_TAIL = 256 * 1024  # bytes of a log that are read for a reason
_LONGEST = 300  # characters of a reason
_LARGEST = 32 << 20  # bytes of a log, and of what it had before, in FILE.old
_RUNS, _DAYS = 30, 14  # a run's logs are removed when it is not among the last so many, or ended so long ago
_DRESS = re.compile(r"^(?:\([^)]*\)\s*)?(?:(?:ERROR|CRITICAL|WARNING|INFO)\s+[\d-]+\s+[\d:.]+\s+\[[^\]]*\]\s*)?")
_EXCEPTION = re.compile(r"^(?:[A-Za-z_][\w.]*\.)?[A-Z]\w*(?:Error|Exception|Exit|Interrupt)\b(?::\s*\S.*)?$")
_USAGE = re.compile(r"^\S+: error: .+")
# Messages of other processes about the failed one; its own message is better.
_HEARSAY = re.compile(
    r"root cause above|Engine core initialization failed|WorkerProc initialization failed|^SystemExit"
)
_STAGES = (
    (re.compile(r"Loading \S+ checkpoint shards:\s+(\d+)%"), "loading weights, {} %"),
    (re.compile(r"Starting to load model|Loading weights"), "loading weights"),
    (re.compile(r"Downloading|[Dd]ownload(?:ing)? weights|Fetching \d+ files"), "downloading weights"),
    (
        re.compile(r"Warming up model for the compilation|torch\.compile takes|Start compiling|Compiling a graph"),
        "compiling",
    ),
    (re.compile(r"[Cc]apturing (?:CUDA|cuda|the model)|Graph capturing"), "capturing CUDA graphs"),
    (re.compile(r"KV cache size"), "reserving the KV cache"),
    (re.compile(r"Starting vLLM (?:API )?server|Application startup complete"), "opening the port"),
    (re.compile(r"Initializing a V\d LLM engine"), "starting the engine"),
)


def stage(line: str) -> str | None:
    for pattern, text in _STAGES:
        if match := pattern.search(line):
            return text.format(*match.groups())
    return None


def reason(log: Path, start: int = 0) -> str:
    """Return in one line why a server failed: its last exception behind byte `start`, else its last words, else ""."""
    try:
        with log.open("rb") as file:
            file.seek(max(start, log.stat().st_size - _TAIL))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    lines = [line for line in (_DRESS.sub("", line).rstrip() for line in text.splitlines()) if line]
    raised = [i for i, line in enumerate(lines) if _EXCEPTION.match(line) or _USAGE.match(line)]
    own = [i for i in raised if not _HEARSAY.search(lines[i])] or raised
    if not own:
        return _short(lines[-1]) if lines else ""
    at = own[-1]
    # A validation error (pydantic) names its subject in the first line and the fault in those below.
    below = " ".join(line.strip() for line in lines[at + 1 : at + 3]) if "validation error" in lines[at] else ""
    return _short(below.removeprefix("Value error, ") or lines[at])


def _short(line: str) -> str:
    return shortened(line, _LONGEST)


def shorten(log: Path) -> bool:
    """Move what a log holds to `FILE.old` if it is too large; return whether it was. Its writer must append.

    A line that is written at that moment may be lost.
    """
    try:
        if log.stat().st_size <= _LARGEST:
            return False
        old = os.open(log.with_name(f"{log.name}.old"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with log.open("rb") as file, os.fdopen(old, "wb") as before:
            shutil.copyfileobj(file, before)
        os.truncate(log, 0)
    except OSError:  # a disk that is full, say; the next look may find it better
        return False
    return True


def remove_old(folder: Path, keep: Collection[Path]) -> None:
    """Remove the folders of logs in `folder` that are old or beyond the last ones, except `keep`.

    A folder's name ends in the id of its process; while there is such a process, it stays too.
    """
    written: list[tuple[float, Path]] = []
    for one in folder.iterdir():
        with suppress(OSError):  # another run removes it too
            written.append((max(file.stat().st_mtime for file in (one, *one.iterdir())), one))
    oldest = time.time() - _DAYS * 24 * 3600
    for place, (at, one) in enumerate(sorted(written, reverse=True)):
        last = one.name.rpartition("-")[2]
        runs = one in keep or (last.isdecimal() and state.identity(int(last)) is not None)
        if not runs and (place >= _RUNS or at < oldest):
            shutil.rmtree(one, ignore_errors=True)
