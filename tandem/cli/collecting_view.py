"""Progress of a collection on standard error."""

from __future__ import annotations

import time

from tandem.cli.live import DRAW_SECONDS, LINE_SECONDS, Live, clock
from tandem.collection.collector import CollectionProgress
from tandem.types import Problem


class CollectionView(Live):
    """How far a collection is, with tokens a second and the time left."""

    def __init__(self, todo: list[Problem]) -> None:
        super().__init__("collecting", len(todo))
        self.todo = todo
        self._began = self._shown = time.monotonic()
        self._said = -1

    def status(self, text: str) -> None:
        """Show what is going on before the first row."""
        self._began = self._shown = time.monotonic()
        if self._err.is_terminal:
            self._bar.update(self._task, description=text or "collecting")
        elif text:
            self.say(text)

    def __call__(self, progress: CollectionProgress) -> None:
        """Show how far it is; drawn only now and then."""
        waited, last = time.monotonic() - self._shown, progress.ended == len(self.todo)
        if self._err.is_terminal:
            if waited > DRAW_SECONDS or last:
                self._shown = time.monotonic()
                self._bar.update(self._task, completed=progress.ended, note=self._figures(progress))
        elif (waited > LINE_SECONDS or last) and self._said != progress.ended:
            self._shown, self._said = time.monotonic(), progress.ended
            self.say(f"{progress.ended}/{len(self.todo)} problems, {self._figures(progress)}")

    def _figures(self, progress: CollectionProgress) -> str:
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
            parts.append(f"{clock(seconds / progress.ended * missing)} left")
        return ", ".join(parts)
