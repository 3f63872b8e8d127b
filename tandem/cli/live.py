"""What long work shows on standard error: bars with figures in a terminal, plain lines elsewhere, both now and then."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

from rich.console import RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from tandem.cli.output import console
from tandem.ladder import by_level
from tandem.words import counted

if TYPE_CHECKING:
    from tandem.collection.collector import CollectionProgress
    from tandem.runs.store import RunStore
    from tandem.training.blueprints.bench import SearchProgress

LINE_SECONDS = 10.0  # between two plain lines
DRAW_SECONDS = 0.1  # between two looks of the bars
_WINDOW = 50


class LiveView:
    def __init__(self) -> None:
        self.err = console(stderr=True)
        bar = TextColumn("{task.description}", markup=False), BarColumn(bar_width=30), MofNCompleteColumn()
        self._bars = _Bars(*bar, TimeElapsedColumn(), console=self.err)
        self._shown = time.monotonic()

    def __enter__(self) -> Self:
        if self.err.is_terminal:
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        if self.err.is_terminal:  # bars that were never up would leave an empty line
            self._bars.stop()

    def say(self, line: str) -> None:
        self.err.print(line, soft_wrap=True)

    def status(self, text: str) -> None:
        """Show what is going on before there are figures; empty: it has ended."""
        if text:
            self.say(text)

    def _due(self) -> bool:
        return time.monotonic() - self._shown > (DRAW_SECONDS if self.err.is_terminal else LINE_SECONDS)


class _OneBar(LiveView):
    """One bar, a line of figures, and the time left by what was done since it began."""

    def __init__(self, doing: str, total: int, done: int = 0, unit: str = "") -> None:
        super().__init__()
        self._doing, self._total, self._done, self._unit = doing, total, done, unit
        self._task = self._bars.add_task(doing, total=total or None, completed=done, note="")
        self._said = done  # of how many the last line was
        self._begin()

    def _begin(self) -> None:
        self._began, self._before = time.monotonic(), self._done

    def status(self, text: str) -> None:
        self._begin()
        if self.err.is_terminal:
            self._bars.update(self._task, description=text or self._doing)
        else:
            super().status(text)

    def stop(self) -> None:
        if self.err.is_terminal or self._said != self._done:
            self._show()
        super().stop()

    def _show(self) -> None:
        self._shown, self._said = time.monotonic(), self._done
        if self.err.is_terminal:
            note = self._figures() + self._left()
            self._bars.update(self._task, total=self._total or None, completed=self._done, note=note)
        else:
            self.say(self._line())

    def _line(self) -> str:
        return f"{self._done}/{self._total}{self._unit} {self._figures()}{self._left()}"

    def _figures(self) -> str:
        raise NotImplementedError

    def _left(self) -> str:
        new, missing = self._done - self._before, self._total - self._done
        return f", {clock(self._seconds() / new * missing)} left" if new > 0 and missing > 0 else ""

    def _seconds(self) -> float:
        return max(time.monotonic() - self._began, 1e-3)


class RunView(_OneBar):
    """Counts problems, accuracy, levels, cost and errors as records come in; call it with each new record."""

    def __init__(self, total: int, before: Iterable[Mapping[str, Any]]) -> None:
        self._run = RunFigures(before)
        super().__init__("solving", total, self._run.n)

    def __call__(self, record: Mapping[str, Any]) -> None:
        self._run.add(record)
        self._done = self._run.n
        if self._due() or (self._done == self._total and not self.err.is_terminal):
            self._show()

    def _figures(self) -> str:
        return str(self._run)


class CollectionView(_OneBar):
    def __init__(self, total: int) -> None:
        super().__init__("collecting", total, unit=" problems,")
        self._last: CollectionProgress | None = None

    def __call__(self, progress: CollectionProgress) -> None:
        self._last, self._done = progress, progress.ended
        if self._due():
            self._show()

    def _figures(self) -> str:
        if (last := self._last) is None:
            return ""
        seconds = self._seconds()
        parts = [
            counted(last.rows, "row"),
            f"mentor {last.mentor_tokens / seconds:.0f} tokens/s",
            f"intern {last.intern_tokens / seconds:.0f} tokens/s",
            *_dollars(last.usd),
        ]
        return ", ".join([*parts, f"{last.failed} failed"] if last.failed else parts)


class BlueprintView(_OneBar):
    def __init__(self) -> None:
        super().__init__("", 0, unit=" answers,")
        self._last: SearchProgress | None = None
        self._paid = False

    def __call__(self, progress: SearchProgress) -> None:
        new, self._doing = progress.doing != self._doing, progress.doing
        self._last, self._done, self._total = progress, progress.done, progress.total
        if progress.intern_tokens and not self._paid:
            self._paid = True
            self._begin()  # the answers that were kept came at once and say nothing about the time left
        if new or self._due():
            self._bars.update(self._task, description=progress.doing)
            self._show()

    def _line(self) -> str:
        return f"{self._doing}: {super()._line()}" if self._total else self._doing

    def _figures(self) -> str:
        if (last := self._last) is None:
            return ""
        tokens = [f"mentor {last.mentor_tokens:,} tokens", f"intern {last.intern_tokens:,} tokens"]
        return ", ".join(tokens + _dollars(last.usd))

    def _left(self) -> str:
        return super()._left().replace(", ", ", at most ", 1) if self._paid else ""


class ComparisonView(LiveView):
    @contextmanager
    def run(self, name: str, store: RunStore, total: int) -> Iterator[Callable[[Mapping[str, Any]], None]]:
        figures = RunFigures(store.records())
        bar = self._bars.add_task(name, total=total, completed=figures.n, note="")

        def note(record: Mapping[str, Any]) -> None:
            figures.add(record)
            self._bars.update(bar, completed=figures.n, note=str(figures))

        try:
            yield note
        finally:
            if not self.err.is_terminal:
                self.say(f"{name}: {figures.n}/{total} {figures}")


class RunFigures:
    def __init__(self, before: Iterable[Mapping[str, Any]] = ()) -> None:
        """`before` are the records of a run that is being resumed; those with an error are tried again."""
        self.n = 0
        self._judged = self._right = self._errors = self._mentor_tokens = 0
        self._last: deque[bool] = deque(maxlen=_WINDOW)
        self._levels: Counter[str] = Counter()
        self._usd: float | None = None
        for record in before:
            if record["error"] is None:
                self.add(record)

    def add(self, record: Mapping[str, Any]) -> None:
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
        parts += _dollars(self._usd)
        if self._levels:
            parts.append("levels " + " ".join(f"{level} {count}" for level, count in by_level(self._levels).items()))
        if self._errors:
            parts.append(f"errors {self._errors}")
        return ", ".join(parts)


class _Bars(Progress):
    """The figures stand on a line of their own below each bar."""

    def get_renderables(self) -> Iterable[RenderableType]:
        for task in self.tasks:
            yield self.make_tasks_table([task])
            if note := task.fields["note"]:
                yield Text(note, style="dim")


def _dollars(usd: float | None) -> list[str]:
    return [] if usd is None else [f"US$ {usd:.4f}"]


def clock(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
