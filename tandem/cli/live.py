"""What long work shows on standard error: a bar with a line of figures in a terminal, plain lines elsewhere."""

from __future__ import annotations

from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

LINE_SECONDS = 10.0  # between two plain lines
DRAW_SECONDS = 0.2  # between two looks of the bar


class Live:
    """One bar with a note; use it as a context manager."""

    def __init__(self, doing: str = "", total: int | None = None) -> None:
        self._err = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=self._err,
        )
        self._task = self._bar.add_task(doing, total=total, note="")

    def __enter__(self) -> Self:
        if self._err.is_terminal:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._err.is_terminal:
            self._bar.stop()

    def say(self, line: str) -> None:
        """Print a line."""
        self._err.print(line, markup=False, highlight=False, soft_wrap=True)


def clock(seconds: float) -> str:
    """Return a time as hours, minutes and seconds."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
