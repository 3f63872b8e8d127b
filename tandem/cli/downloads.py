"""Weights being fetched, as a terminal sees it: how much there is, how fast it comes, and how long it will take."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from tandem.cli.live import LINE_SECONDS, clock
from tandem.cli.output import console, note
from tandem.models.catalog import CatalogEntry
from tandem.models.weights import check_disk, pull, pulled


def fetch_weights(entries: Sequence[CatalogEntry]) -> Iterator[Path]:
    """Yield the folder of each model once it is here. Raises TandemError, before anything, if the disk is too full."""
    missing = [entry for entry in entries if entry.local and not pulled(entry)]
    if missing:
        check_disk(missing)
        size = sum(entry.fetch_bytes for entry in missing)
        disk = sum(entry.disk_bytes for entry in missing)
        names = " and ".join(entry.name for entry in missing)
        note(f"fetching {names}: {size / 1e9:.1f} GB, {disk / 1e9:.1f} GB on disk; if it is stopped, it goes on")
    for entry in entries:
        with _View(entry.name) as view:
            folder = pull(entry, progress=view.say)
        yield folder


class _View(Progress):
    """A bar on a terminal; elsewhere a line for every new thing that is done, and then every ten seconds."""

    def __init__(self, name: str) -> None:
        err = console(stderr=True)
        said = TextColumn("{task.description}", markup=False)
        columns = said, BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
        super().__init__(*columns, console=err, transient=True, disable=not err.is_terminal, speed_estimate_period=60)
        self._name, self._what, self._shown, self._began, self._before = name, "", 0.0, 0.0, 0

    def say(self, what: str, done: int, total: int) -> None:
        now, new = time.monotonic(), what != self._what
        if new:
            self._what, self._began, self._before = what, now, done
            for task in list(self.task_ids):
                self.remove_task(task)
            self.add_task(f"{self._name}: {what}", total=total or None, completed=done)
        else:
            self.update(self.task_ids[0], completed=done)
        if self.disable and (new or now - self._shown > LINE_SECONDS):
            self._shown = now
            note(f"{self._name}: {what}{self._figures(now, done, total)}")

    def _figures(self, now: float, done: int, total: int) -> str:
        if not total or not done:
            return ""
        found = f" {done / 1e6:,.0f} of {total / 1e6:,.0f} MB"
        if done <= self._before or now <= self._began:
            return found
        speed = (done - self._before) / (now - self._began)
        return f"{found}, {speed / 1e6:.1f} MB/s, {clock((total - done) / speed)} left"
