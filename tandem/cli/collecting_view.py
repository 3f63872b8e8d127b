"""Progress of a collection on standard error."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from tandem.evaluation.collection.collector import Progress
from tandem.types import Problem

_LINE_SECONDS = 10.0
_DRAW_SECONDS = 0.2


class CollectionView:
    """Progress on standard error: a bar and figures in a terminal, plain lines elsewhere."""

    def __init__(self, todo: list[Problem]) -> None:
        self.todo = todo
        self._err = Console(stderr=True)
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=self._err,
        )
        self._task = self._bar.add_task("collecting", total=len(todo), note="")
        self._began = self._shown = time.monotonic()
        self._said = -1

    def __enter__(self) -> CollectionView:
        if self._err.is_terminal:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._err.is_terminal:
            self._bar.stop()

    def status(self, text: str) -> None:
        """Show what is going on before the first row."""
        self._began = self._shown = time.monotonic()
        if self._err.is_terminal:
            self._bar.update(self._task, description=text or "collecting")
        elif text:
            self._print(text)

    def __call__(self, progress: Progress) -> None:
        """Show how far it is; drawn only now and then."""
        waited, last = time.monotonic() - self._shown, progress.ended == len(self.todo)
        if self._err.is_terminal:
            if waited > _DRAW_SECONDS or last:
                self._shown = time.monotonic()
                self._bar.update(self._task, completed=progress.ended, note=self._figures(progress))
        elif (waited > _LINE_SECONDS or last) and self._said != progress.ended:
            self._shown, self._said = time.monotonic(), progress.ended
            self._print(f"{progress.ended}/{len(self.todo)} problems, {self._figures(progress)}")

    def _figures(self, progress: Progress) -> str:
        seconds = max(time.monotonic() - self._began, 1e-3)
        parts = [
            f"{progress.rows} rows",
            f"mentor {progress.mentor_tokens / seconds:.0f} tokens/s",
            f"intern {progress.intern_tokens / seconds:.0f} tokens/s",
        ]
        if progress.usd is not None:
            parts.append(f"US$ {progress.usd:.4f}")
        if progress.failed:
            parts.append(f"{progress.failed} failed")
        if progress.ended and (missing := len(self.todo) - progress.ended):
            left = round(seconds / progress.ended * missing)
            parts.append(f"{left // 3600}:{left // 60 % 60:02}:{left % 60:02} left")
        return ", ".join(parts)

    def _print(self, text: str) -> None:
        self._err.print(text, markup=False, highlight=False, soft_wrap=True)
