"""Progress of a run on standard error: a bar and a line of figures in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from tandem.cli.live import LINE_SECONDS, clock

_DRAW_SECONDS = 0.1
_WINDOW = 50


class RunProgress:
    """Counts problems, accuracy, levels, cost and errors as records come in; call it with each new record."""

    def __init__(self, total: int, before: Iterable[Mapping[str, Any]]) -> None:
        """`before` are the records of a run that is being resumed; they are read once, and none is kept."""
        self.console = Console()
        self._err = Console(stderr=True)
        self._total = total
        self._figures = Figures()
        for record in before:
            if record["error"] is None:
                self._figures.add(record)
        self._resumed_with = self._figures.n
        self._bar = _Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._err,
        )
        self._task = self._bar.add_task("solving", total=total, completed=self._figures.n, note="")
        self._started = self._shown = time.monotonic()
        self._said = self._figures.n  # problems that the last line counted

    def __enter__(self) -> Self:
        if self._err.is_terminal:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Take the bar down, or say the last line."""
        if self._err.is_terminal:  # a bar that was never up would leave an empty line
            self._draw()
            self._bar.stop()
        elif self._said != self._figures.n:
            self._say()

    def status(self, text: str) -> None:
        """Show what is going on before the first record."""
        if self._err.is_terminal:
            self._bar.update(self._task, description=text or "solving")
        elif text:
            self._err.print(text, markup=False, highlight=False)

    def __call__(self, record: Mapping[str, Any]) -> None:
        """Count one more record; constant work, and drawn only now and then."""
        self._figures.add(record)
        waited = time.monotonic() - self._shown
        if self._err.is_terminal:
            if waited > _DRAW_SECONDS:
                self._draw()
        elif self._figures.n == self._total or waited > LINE_SECONDS:
            self._say()

    def _draw(self) -> None:
        self._shown = time.monotonic()
        self._bar.update(self._task, completed=self._figures.n, note=str(self._figures))

    def _say(self) -> None:
        self._shown, self._said = time.monotonic(), self._figures.n
        line = f"{self._figures.n}/{self._total} {self._figures}{self._time_left()}"
        self._err.print(line, markup=False, highlight=False, soft_wrap=True)

    def _time_left(self) -> str:
        new = self._figures.n - self._resumed_with
        missing = self._total - self._figures.n
        if not new or missing <= 0:
            return ""
        return f", {clock((time.monotonic() - self._started) / new * missing)} left"


class Figures:
    """What the line says, kept up record by record."""

    def __init__(self) -> None:
        self.n = 0
        self._judged = self._right = self._errors = self._mentor_tokens = 0
        self._last: deque[bool] = deque(maxlen=_WINDOW)
        self._levels: Counter[str] = Counter()
        self._usd: float | None = None

    def add(self, record: Mapping[str, Any]) -> None:
        """Take in one more record."""
        self.n += 1
        self._errors += record["error"] is not None
        if record["correct"] is not None:
            self._judged += 1
            self._right += record["correct"]
            self._last.append(record["correct"])
        if record["level"]:
            self._levels[record["level"]] += 1
        for entry in record["ledger"]["entries"]:
            if entry["role"] == "mentor":
                self._mentor_tokens += entry["usage"]["completion"]
            if entry["usd"] is not None:
                self._usd = (self._usd or 0.0) + entry["usd"]

    def __str__(self) -> str:
        parts = []
        if self._judged:
            recent = f" (last {_WINDOW}: {sum(self._last) / _WINDOW:.2f})" if self._judged > _WINDOW else ""
            parts.append(f"accuracy {self._right / self._judged:.3f}{recent}")
        parts.append(f"mentor tokens {self._mentor_tokens / max(self.n, 1):.0f} each")
        if self._usd is not None:
            parts.append(f"US$ {self._usd:.4f}")
        if self._levels:
            parts.append("levels " + " ".join(f"{level} {count}" for level, count in self._levels.most_common()))
        if self._errors:
            parts.append(f"errors {self._errors}")
        return ", ".join(parts)


class _Bar(Progress):
    """The figures stand on a line of their own below the bar."""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        for task in self.tasks:
            if note := task.fields["note"]:
                yield Text(note, style="dim")
