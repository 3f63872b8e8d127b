"""A run as a terminal sees it: models made ready, progress, the table at its end, and how to go on if it stopped."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
from contextlib import suppress
from typing import Any

import click

from tandem.cli.progress import RunProgress
from tandem.engine import Tandem
from tandem.errors import TandemError
from tandem.reports.run import summary_table
from tandem.runs.runner import run
from tandem.runs.store import RunStore
from tandem.types import Problem


class Job:
    """One run in a folder; `options` are those of `tandem.runs.runner.run`."""

    def __init__(
        self, engine: Tandem, problems: list[Problem], store: RunStore, options: dict[str, Any], *, as_json: bool
    ) -> None:
        self._engine, self._problems, self._store, self._options = engine, problems, store, options
        self._as_json = as_json
        self._go_on = f"the same command and --resume {store.folder}"

    def carry_out(self) -> None:
        """Run, print the summary, and say what is left to do.

        Raises TandemError if the run fails, or every problem of it; KeyboardInterrupt after Ctrl-C or SIGTERM.
        """
        folder = self._store.folder
        with self._store, RunProgress(len(self._problems), self._store.records()) as progress:
            try:
                summary = asyncio.run(self._run(progress))
            except (KeyboardInterrupt, asyncio.CancelledError):
                progress.stop()
                if (partial := self._store.summary()) is not None:
                    self._show(partial, progress)
                click.echo(f"stopped; what is done is in {folder}. Go on with {self._go_on}", err=True)
                raise KeyboardInterrupt from None
            except TandemError:
                if self._store.ids():
                    click.echo(f"what is done is in {folder}. Go on with {self._go_on}", err=True)
                raise
        self._show(summary, progress)
        if summary["stopped"]:
            click.echo(f"stopped: {summary['stopped']}. Go on with {self._go_on}", err=True)
        elif summary["n"] and summary["errors"] == summary["n"]:
            first = next((str(record["error"]) for record in self._store.records() if record["error"]), "")
            raise TandemError(f"every problem failed; the first error: {first} (records in {folder})")
        elif summary["errors"]:
            click.echo(f"{summary['errors']} failed. To try those again: {self._go_on}", err=True)
        if not self._as_json:
            click.echo(f"records in {folder}", err=True)

    async def _run(self, progress: RunProgress) -> dict[str, Any]:
        task = asyncio.current_task()
        if task and threading.current_thread() is threading.main_thread():
            with suppress(NotImplementedError):  # Windows; elsewhere a batch system ends a job by SIGTERM
                asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        async with self._engine:
            if len(self._store.done()) < len(self._problems):
                progress.status("getting both models ready")
                await self._engine.prepare()
                progress.status("")
            return await run(self._engine, self._problems, self._store, progress=progress, **self._options)

    def _show(self, summary: dict[str, Any], progress: RunProgress) -> None:
        if self._as_json:
            click.echo(json.dumps(summary))
        else:
            progress.console.print(summary_table(summary, self._engine.describe()))
