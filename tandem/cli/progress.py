"""Progress of a run on standard error: a bar in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

_LINE_SECONDS = 10.0


class RunProgress:
    """Counts problems, accuracy and mentor tokens as records come in; call it with each new record."""

    def __init__(self, total: int, before: Sequence[dict[str, Any]]) -> None:
        """`before` are the records of a run that is being resumed."""
        self.console = Console()
        self._err = Console(stderr=True)
        self._total = total
        self._records = [r for r in before if r["error"] is None]
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self._err,
        )
        self._task = self._bar.add_task("solving", total=total, completed=len(self._records), note="")
        self._last_line = time.monotonic()

    def __enter__(self) -> Self:
        if self._err.is_terminal:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Take the bar down."""
        if self._err.is_terminal:  # a bar that was never up would leave an empty line
            self._bar.stop()

    def status(self, text: str) -> None:
        """Show what is going on before the first record."""
        if self._err.is_terminal:
            self._bar.update(self._task, description=text or "solving")
        elif text:
            self._err.print(text)

    def __call__(self, record: dict[str, Any]) -> None:
        """Count one more record."""
        self._records.append(record)
        self._bar.update(self._task, completed=len(self._records), note=self._note())
        ended = len(self._records) == self._total
        if not self._err.is_terminal and (ended or time.monotonic() - self._last_line > _LINE_SECONDS):
            self._last_line = time.monotonic()
            self._err.print(f"{len(self._records)}/{self._total} {self._note()}", highlight=False)

    def _note(self) -> str:
        graded = [r for r in self._records if r["correct"] is not None]
        parts = []
        if graded:
            parts.append(f"accuracy {sum(r['correct'] for r in graded) / len(graded):.3f}")
        mentor = sum(
            e["usage"]["completion"] for r in self._records for e in r["ledger"]["entries"] if e["role"] == "mentor"
        )
        parts.append(f"mentor tokens {mentor / max(len(self._records), 1):.0f} each")
        if errors := sum(r["error"] is not None for r in self._records):
            parts.append(f"errors {errors}")
        return ", ".join(parts)
