"""A comparison as a terminal sees it: progress of all its runs, and how to go on if it stopped."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Self

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from tandem.cli.progress import Figures
from tandem.engine import Tandem
from tandem.reports.comparison import report
from tandem.runs.compare import Comparison, Part
from tandem.runs.compare import carry_out as run_all
from tandem.runs.runner import Progress
from tandem.runs.store import RunStore


def carry_out(engine: Tandem, names: Sequence[str], job: Comparison) -> dict[str, Any]:
    """Run what is left of a comparison and return its figures.

    Raises TandemError if a model cannot serve; KeyboardInterrupt after Ctrl-C or SIGTERM.
    """
    go_on = f"the same command and --resume {job.folder}"

    async def work(shown: _Shown) -> list[Part]:
        task = asyncio.current_task()
        if task and threading.current_thread() is threading.main_thread():
            with suppress(NotImplementedError):  # Windows; elsewhere a batch system ends a job by SIGTERM
                asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        async with engine:
            return await run_all(engine, names, job, shown.run)

    click.echo("getting both models ready", err=True)
    try:
        with _Shown() as shown:
            parts = asyncio.run(work(shown))
    except (KeyboardInterrupt, asyncio.CancelledError):
        click.echo(f"stopped; what is done is in {job.folder}. Go on with {go_on}", err=True)
        raise KeyboardInterrupt from None
    except BaseExceptionGroup as several:  # of runs side by side: the first tells enough
        raise _first(several) from None
    if len(parts) < len(names):
        click.echo(
            f"stopped by a limit; {len(names) - len(parts)} strategies did not begin. Go on with {go_on}", err=True
        )
    return report(job.folder, parts)


def _first(several: BaseExceptionGroup) -> BaseException:
    error = several.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


class _Shown:
    """A bar for each run in a terminal; elsewhere a line when it ends."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        columns = TextColumn("{task.description}", markup=False), BarColumn(bar_width=20), MofNCompleteColumn()
        said = TextColumn("{task.fields[said]}", style="dim", markup=False)
        self._bars = Bars(*columns, TimeRemainingColumn(), said, console=self._console)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._bars.stop()

    @contextmanager
    def run(self, name: str, store: RunStore, total: int) -> Iterator[Progress]:
        """Show one run while it goes on."""
        figures = Figures()
        for record in store.records():
            if record["error"] is None:
                figures.add(record)
        bar = self._bars.add_task(name, total=total, completed=figures.n, said="")

        def note(record: Mapping[str, Any]) -> None:
            figures.add(record)
            self._bars.update(bar, completed=figures.n, said=str(figures))

        try:
            yield note
        finally:
            if not self._console.is_terminal:
                self._console.print(
                    f"{name}: {figures.n}/{total} {figures}", markup=False, highlight=False, soft_wrap=True
                )
