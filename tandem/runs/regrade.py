"""Regrading the records of a finished run, without a model: from their texts and their data set."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tandem.datasets import load_card, load_dataset
from tandem.errors import TandemError, UsageError
from tandem.grading import DEADLINE, Sandbox, grade
from tandem.runs.store import RECORDS, RUN, RunStore
from tandem.runs.summary import summarise
from tandem.statistics.significance import wilson
from tandem.storage.jsonl import read_lines
from tandem.types import Message, Problem, TaskKind

_AT_ONCE = 64  # records in flight: keeps the graders' processes busy with few records in memory
Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Change:
    problem: str
    before: bool | None
    after: bool | None
    answer: str | None
    reference: str | None


@dataclass(slots=True)
class Regraded:
    n: int = 0
    not_judged: int = 0  # no reference, or code that must not run; the old verdict is kept
    graded: list[int] = field(default_factory=lambda: [0, 0])  # before, now
    right: list[int] = field(default_factory=lambda: [0, 0])
    changes: list[Change] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)  # where a grader failed

    def add(self, record: Record, verdict: bool | None, reference: str | None) -> None:
        """Count one record and its new verdict; None keeps the old one."""
        before = record["correct"]
        self.n += 1
        self.not_judged += verdict is None
        now = before if verdict is None else verdict
        for side, value in enumerate((before, now)):
            self.graded[side] += value is not None
            self.right[side] += bool(value)
        if before is not now:
            self.changes.append(Change(record["problem"], before, now, record.get("answer"), reference))

    def figures(self) -> dict[str, Any]:
        before, after = (r / g if g else None for r, g in zip(self.right, self.graded, strict=True))
        interval = wilson(self.right[1], self.graded[1])
        return {
            "n": self.n,
            "not_judged": self.not_judged,
            "accuracy_before": before,
            "accuracy": after,
            "accuracy_ci95": list(interval) if interval else None,
            "changed": [{"problem": c.problem, "before": c.before, "after": c.after} for c in self.changes],
            "faults": self.faults,
        }


class RecordsToGrade:
    """The records to grade: a run's folder, its records file, or a standalone records file."""

    def __init__(self, path: Path, *, write: bool = False) -> None:
        """`write` takes the folder's lock. Raises UsageError if there are no records, or if they cannot be written."""
        folder = path.parent if path.name == RECORDS and (path.parent / RUN).is_file() else path
        self.path = path
        self.store: RunStore | None = None
        if folder.is_dir():
            self.store = RunStore.open_for_reading(folder)
            if write:
                self.store = RunStore.reopen(folder, self.store.manifest())
        elif not path.is_file():
            raise UsageError(f"{path}: no such folder or file")
        elif write:
            raise UsageError(f"{path} has no {RUN} of a run beside it; --write needs the run's folder")
        self.manifest: Mapping[str, Any] = self.store.manifest() if self.store else {}
        self.warnings: list[str] = self.store.warnings if self.store else []

    def records(self) -> Iterable[Record]:
        if self.store:
            yield from self.store.records()
            return
        latest: dict[str, Record] = {}
        for record in read_lines(self.path, lambda damage: self.warnings.append(str(damage))):
            if not record.keys() >= {"problem", "correct", "text"}:
                raise UsageError(f"{self.path} does not hold records of a run")
            latest[record["problem"]] = record
        yield from latest.values()

    def problems(self) -> dict[str, Problem]:
        """Return the problems of the data sets that the run's manifest names, by id.

        Raises UsageError or TandemError if one cannot be loaded.
        """
        data = self.manifest.get("run", {}).get("dataset", {})
        if not data.get("name"):
            raise UsageError(f"{self.path} names no data set; give it with --dataset")
        return {problem.id: problem for part in data.get("parts", [data]) for problem in self._loaded(part)}

    def _loaded(self, data: Mapping[str, Any]) -> list[Problem]:
        name = data["name"]
        drawn: dict[str, Any] = {}
        if ":" in name:  # generated problems depend on how many were requested; a file's do not
            sampling = self.manifest["run"].get("settings", {}).get("sampling", {})
            drawn = {name: data[name] for name in ("limit", "skip") if name in data}
            drawn["seed"] = data.get("seed", sampling.get("seed"))
        return load_dataset(name, split=data.get("split"), fields=data.get("fields"), **drawn)

    def usual(self) -> Problem | None:
        """Return a problem of the data set's kind, if its card is known but its file is missing."""
        name = self.manifest.get("run", {}).get("dataset", {}).get("name", "")
        try:
            card = load_card(name)
        except UsageError:
            return None
        return Problem(id=name, messages=_NO_QUESTION, task=card.task, grader=card.grader)

    def close(self) -> None:
        if self.store:
            self.store.close()

    def write(self, regraded: Regraded) -> None:
        """Append the corrected records, and a new summary where the run had one; the last record of each counts."""
        assert self.store is not None
        changed = {change.problem: change for change in regraded.changes}
        for record in self.store.records(changed):
            change = changed[record["problem"]]
            self.store.append({**record, "correct": change.after, "reference": change.reference})
        before = self.store.summary()
        if before is None:  # it has not ended: resuming it will write one
            return
        before.pop("verdict", None)  # it is told anew from the records
        self.store.finish(before | summarise(self.store.records(), before.get("classifier"), before.get("unit")))


async def regrade(
    source: RecordsToGrade,
    problems: Mapping[str, Problem],
    *,
    sandbox: Sandbox | None = None,
    deadline: float = DEADLINE,
    progress: Callable[[], None] | None = None,
) -> Regraded:
    """Grade every record again; a problem missing in `problems` is graded by the reference in its record.

    A record with an error is always wrong. Raises UsageError if there are no records, or if `problems` contains none
    of their problems.
    """
    result = Regraded()
    usual = source.usual()
    known = False
    async for record, problem, verdict in _verdicts(source, problems, usual, sandbox, deadline):
        known |= record["problem"] in problems
        if isinstance(verdict, TandemError):
            result.faults.append(f"{problem.id}: {verdict}")
        result.add(record, None if isinstance(verdict, TandemError) else verdict, problem.reference)
        if progress:
            progress()
    if result.n == 0:
        raise UsageError(f"{source.path} holds no records")
    if problems and not known:
        raise UsageError(f"none of the {result.n} problems in {source.path} is in the data set; is it another one?")
    return result


async def _verdicts(
    source: RecordsToGrade,
    problems: Mapping[str, Problem],
    usual: Problem | None,
    sandbox: Sandbox | None,
    deadline: float,
) -> AsyncGenerator[tuple[Record, Problem, bool | TandemError | None], None]:
    """Yield each record with its problem and its new verdict, in the records' order."""

    async def one(record: Record) -> tuple[Record, Problem, bool | TandemError | None]:
        problem = problems.get(record["problem"]) or _of_record(record, usual)
        text = "" if record.get("error") is not None else record.get("text") or ""  # a failed problem is wrong
        try:
            return record, problem, await grade(problem, text, deadline=deadline, sandbox=sandbox)
        except UsageError:  # an unknown grader: every record would fail
            raise
        except TandemError as error:
            return record, problem, error

    running: deque[asyncio.Task[tuple[Record, Problem, bool | TandemError | None]]] = deque()
    try:
        for record in source.records():
            running.append(asyncio.create_task(one(record)))
            if len(running) >= _AT_ONCE:
                yield await running.popleft()
        while running:
            yield await running.popleft()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


_NO_QUESTION = (Message(role="user", content="(the question is not in the record)"),)


def _of_record(record: Record, usual: Problem | None) -> Problem:
    """Return the problem of a record whose data set is missing; without question and tests."""
    reference = record.get("reference")
    task: TaskKind = record.get("task") or (usual.task if usual else _guess(reference))
    grader = record.get("grader") or (usual.grader if usual else None)
    return Problem(id=record["problem"], messages=_NO_QUESTION, task=task, reference=reference, grader=grader)


def _guess(reference: str | None) -> TaskKind:
    if reference is None or re.fullmatch(r"\(?[A-Z]\)?", reference):
        return "choice"
    return "math" if re.search(r"[\d\\]", reference) else "general"
