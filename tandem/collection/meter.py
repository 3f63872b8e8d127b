"""Every call of a collection, in a line when it begins and one when it ends: what was paid, and when who was busy."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tandem.collection.folder import files, shard_file
from tandem.ledger import Entry, Role
from tandem.models.base import Model, Request
from tandem.models.recorded import Recorded
from tandem.runs.budget import Budget
from tandem.storage.jsonl import JsonlWriter, read_lines


class Meter:
    """Counts calls and keeps within a budget; a `Recorder` that never gives a call again."""

    def __init__(self, folder: Path, shard: int | None = None, max_usd: float | None = None) -> None:
        """`max_usd` is what this worker may still spend, in the worst case."""
        self.budget = Budget(max_usd)
        self.tokens: Counter[str] = Counter()  # written, by role
        self.usd: float | None = None  # of calls with a price
        self._reserved: dict[str, float] = {}
        path = shard_file(folder, "calls", shard)
        self._writer = JsonlWriter(path)
        self._last = sum(1 for _ in read_lines(path))  # not below the last call's number

    def find(self, model: Model, request: Request, occurrence: int) -> Recorded | None:
        """Return nothing: what can be given again is in rows and texts."""
        return None

    async def turn(self, model: Model, request: Request, occurrence: int) -> None:
        """Do nothing: no two rows ask the same."""

    async def open(self, model: Model, request: Request, role: Role, occurrence: int) -> str:
        """Note that a call begins, and return its number. Raises LimitReached if the money may not reach."""
        worst = Entry.of(model.spec, role, request.purpose, request.worst, seconds=0.0)
        await self.budget.reserve(worst.usd_bound or 0.0)
        self._last += 1
        number = str(self._last)
        self._reserved[number] = worst.usd_bound or 0.0
        self._write(number, "open", request, {"role": role, "cap": request.max_tokens, "usd_bound": worst.usd_bound})
        return number

    def failed(self, number: str | None, request: Request, entry: Entry) -> None:
        """Note a try that failed, of a call that goes on."""
        self._book(number, "failed", request, entry)

    def close(
        self, number: str | None, model: Model, request: Request, occurrence: int, entry: Entry, given: Recorded | None
    ) -> None:
        """Note how a call ended."""
        self.budget.release(self._reserved.pop(number or "", 0.0))
        self._book(number, "end", request, entry)

    def close_file(self) -> None:
        """Close the file."""
        self._writer.close()

    def _book(self, number: str | None, event: str, request: Request, entry: Entry) -> None:
        self.tokens[entry.role] += entry.usage.completion
        self.budget.spent += entry.usd_bound or 0.0
        if entry.usd is not None:
            self.usd = (self.usd or 0.0) + entry.usd
        usage = {"prompt": entry.usage.prompt, "cached": entry.usage.cached, "completion": entry.usage.completion}
        money = {"usd": entry.usd, "usd_bound": entry.usd_bound}
        rest = {"role": entry.role, **usage, **money, "seconds": round(entry.seconds, 3), "error": entry.error}
        self._write(number, event, request, rest)

    def _write(self, number: str | None, event: str, request: Request, fields: dict[str, Any]) -> None:
        head = {"call": number, "event": event, "problem": request.affinity, "purpose": request.purpose}
        self._writer.write(head | {"at": round(time.time(), 3)} | fields)


def spent(folder: Path) -> float:
    """Return what all parts of a collection have cost in US$ in the worst case, killed calls included."""
    total = 0.0
    for path in files(folder, "calls"):
        begun: dict[str, float] = {}
        for row in read_lines(path):
            bound = row["usd_bound"] or 0.0
            if row["event"] == "open":
                begun[row["call"]] = bound
                continue
            total += bound
            if row["event"] == "end":
                begun.pop(row["call"], None)
        total += sum(begun.values())
    return total


def calls(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of all workers."""
    for path in files(folder, "calls"):
        yield from read_lines(path)
