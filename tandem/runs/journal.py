"""The journal of calls: ``calls.jsonl``, one flushed line when a call begins and one when it ends.

A resumed run replays the calls of unfinished problems from the journal, so that no call is paid for twice. Calls in
flight when the process was killed are recorded as possibly lost, at their maximal cost.
"""

from __future__ import annotations

import json
import logging
import re
import time
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tandem.errors import TandemError
from tandem.ledger import Entry, Ledger, Role
from tandem.models.base import Model, Request
from tandem.models.call import Recorder
from tandem.models.recorded import Recorded, digest, restored
from tandem.runs.budget import Budget
from tandem.runs.store import CALLS
from tandem.storage.jsonl import (
    BROKEN,
    EDITED,
    Damage,
    JsonlWriter,
    decode,
    is_intact,
    name_damages,
    read_at,
    scan,
    set_aside,
)

_log = logging.getLogger(__name__)

_HEAD = re.compile(rb'\{"call":"(\d+)","event":"(\w+)","problem":("(?:[^"\\]|\\.)*")')
_SPENT = re.compile(rb'"spent":([0-9.e+-]+)')
LOST = "in flight when the run was killed: possibly paid for"


class Journal:
    """Records every call of a run or a collection; a `Recorder`. Calls are served from `cache` if it has them."""

    def __init__(
        self,
        folder: Path,
        *,
        name: str = CALLS,
        done: Collection[str] = (),
        max_usd: float | None = None,
        cache: Recorder | None = None,
    ) -> None:
        """Open the folder's journal; `done` are the problems whose calls are no longer needed.

        Damaged lines are copied to ``calls.damaged.jsonl`` and logged. Raises TandemError if the file cannot be
        written; the error of a later write is kept in `fault`.
        """
        self.path = folder / name
        self.budget = Budget(max_usd)
        self.lost: list[Entry] = []  # found at the start
        self.again = 0  # calls that were replayed
        self.fault: TandemError | None = None  # the disk is full or failed
        self._cache = cache
        self._index: dict[str, list[int]] = {}  # of unfinished problems: the positions of their calls' ends
        self._known: dict[str, dict[tuple[str, int], Recorded]] = {}
        self._reserved: dict[str, float] = {}
        self._writer = JsonlWriter(self.path)
        self._last = 0
        self._read(done)

    def find(self, model: Model, request: Request, occurrence: int) -> Recorded | None:
        """Return this call's output from before the run was resumed, else from the cache."""
        if request.affinity in self._index:
            found = self._calls_of(request.affinity).get((digest(model.spec.name, request), occurrence))
            if found is not None:
                self.again += 1
                return found
        return self._cache.find(model, request, occurrence) if self._cache else None

    async def turn(self, model: Model, request: Request, occurrence: int) -> None:
        if self._cache:
            await self._cache.turn(model, request, occurrence)

    async def open(self, model: Model, request: Request, role: Role, occurrence: int) -> str:
        """Record a call's start, and return its number. Raises LimitReached if it may exceed the budget."""
        worst = Entry.of(model.spec, role, request.purpose, request.worst, seconds=0.0)
        await self.budget.reserve(worst.usd_bound or 0.0)
        if self._cache:
            await self._cache.open(model, request, role, occurrence)
        self._last += 1
        number = str(self._last)
        self._reserved[number] = worst.usd_bound or 0.0
        self._write(number, "open", request.affinity, {"entry": _dump(worst)})
        return number

    def failed(self, number: str | None, request: Request, entry: Entry) -> None:
        self.budget.charge(entry)
        self._write(number, "failed", request.affinity, {"entry": _dump(entry), "spent": self.budget.spent})

    def close(
        self, number: str | None, model: Model, request: Request, occurrence: int, entry: Entry, given: Recorded | None
    ) -> None:
        """Record a call's end, with its output if it did not fail."""
        self.budget.charge(entry)
        self.budget.release(self._reserved.pop(number or "", 0.0))
        row: dict[str, Any] = {"entry": _dump(entry), "spent": self.budget.spent}
        if given is not None:
            row |= {"digest": digest(model.spec.name, request), "occurrence": occurrence} | given.row()
        if self._cache:  # first: release the waiters for this call even if the disk is full
            self._cache.close(number, model, request, occurrence, entry, given)
        self._write(number, "end", request.affinity, row)

    def forget(self, problem: str) -> None:
        self._index.pop(problem, None)
        self._known.pop(problem, None)

    def outside(self, recorded: Collection[tuple[str, str | None]]) -> Ledger:
        """Return the entries, by (call, error), that no final record contains: paid for, but lost."""
        ledger = Ledger()
        for line in scan(self.path):
            head = _HEAD.match(line.raw)
            if head and head[2] != b"open":
                try:
                    entry = Entry.model_validate(decode(line.raw)["entry"])
                except (ValueError, KeyError):  # a damaged line; ValidationError is a ValueError
                    continue
                if (entry.call or "", entry.error) not in recorded:
                    ledger.entries.append(entry)
        return ledger

    def close_file(self) -> None:
        self._writer.sync()
        self._writer.close()

    def _write(self, number: str | None, event: str, problem: str, fields: dict[str, Any]) -> None:
        try:
            head = {"call": number, "event": event, "problem": problem, "at": round(time.time(), 3)}
            self._writer.write(head | fields)
        except TandemError as error:
            self.fault = error
            raise

    def _read(self, done: Collection[str]) -> None:
        begun: dict[str, tuple[str, bytes]] = {}
        spent = b"0"
        damages = [self._writer.torn] if self._writer.torn else []
        for line in scan(self.path):
            head = _HEAD.match(line.raw)
            if head is None or not is_intact(line.raw):
                damages.append(Damage.of(self.path, line, EDITED if head else BROKEN))
                continue  # that call is made again
            number, problem = head[1].decode(), json.loads(head[3])
            self._last = max(self._last, int(number))
            if head[2] == b"open":
                begun[number] = problem, line.raw
                continue
            if found := _SPENT.search(line.raw):
                spent = found[1]
            if head[2] in (b"end", b"lost"):
                begun.pop(number, None)
            if head[2] == b"end" and problem not in done:
                self._index.setdefault(problem, []).append(line.offset)
        self.budget.spent = float(spent)
        set_aside(damages)
        for sentence in name_damages(damages):
            _log.warning("%s", sentence)
        for number, (problem, raw) in begun.items():
            self._lose(number, problem, raw)

    def _lose(self, number: str, problem: str, raw: bytes) -> None:
        try:
            entry = Entry.model_validate(decode(raw)["entry"])
        except (ValueError, KeyError):
            return
        entry = entry.model_copy(update={"call": number, "error": LOST})
        self.lost.append(entry)
        self.budget.spent += entry.usd_bound or 0.0
        self._write(number, "lost", problem, {"entry": _dump(entry), "spent": self.budget.spent})

    def _calls_of(self, problem: str) -> dict[tuple[str, int], Recorded]:
        if problem not in self._known:
            calls: dict[tuple[str, int], Recorded] = {}
            with self.path.open("rb") as file:
                for offset in self._index[problem]:
                    try:
                        row = read_at(file, offset)
                        if "digest" in row:
                            entry = Entry.model_validate(row["entry"])
                            calls[row["digest"], row["occurrence"]] = restored(row, entry)
                    except (ValueError, KeyError, zlib.error, ValidationError):
                        continue  # damaged: that call is made again
            self._known[problem] = calls
        return self._known[problem]


def _dump(entry: Entry) -> dict[str, Any]:
    return entry.model_dump(mode="json", exclude_defaults=True)
