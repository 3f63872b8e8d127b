"""Listing runs: the state and results of each, read from its files only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tandem.errors import TandemError, UsageError
from tandem.runs.store import RECORDS, RUN, SUMMARY, RunStore
from tandem.runs.summary import summarise


def list_runs(root: Path) -> list[dict[str, Any]]:
    """Return the runs in a folder or in its subfolders, oldest first.

    A run whose files are damaged is listed with ``state`` "damaged" and its ``problem``. Raises UsageError if there is
    no such folder.
    """
    if not root.is_dir():
        raise UsageError(f"there is no folder {root}; runs are written by: tandem run … --out {root}/<name>")
    return sorted(
        (_at_a_glance(folder) for folder in _folders(root)), key=lambda run: (run["started"] or "", run["folder"])
    )


def current_summary(store: RunStore) -> dict[str, Any]:
    """Return the summary of a run's current records, plus the figures that only the run knew when it last ended.

    A summary as new as the records is used as it is; otherwise the records are read.
    """
    saved = store.summary()
    if saved is not None and not store.is_being_written() and _is_current(store.folder):
        return saved
    classifier = saved and saved.get("classifier")
    if classifier is None and (name := store.manifest()["run"].get("classifier")):
        classifier = {"id": name, "match": "not known before the run ends"}
    return summarise(store.records(), classifier)


def state(store: RunStore, summary: dict[str, Any]) -> str:
    """Return ``running`` (a process is working on it), ``finished`` or ``stopped`` (it can be resumed)."""
    if store.is_being_written():
        return "running"
    total = _total(store.manifest())
    ended = store.summary() is not None and not summary.get("stopped")
    return "finished" if ended and (total is None or summary["n"] >= total) else "stopped"


def _folders(root: Path) -> Iterator[Path]:
    for pattern in (RUN, f"*/{RUN}", f"*/*/{RUN}"):
        yield from (path.parent for path in root.glob(pattern))


def _at_a_glance(folder: Path) -> dict[str, Any]:
    try:
        store = RunStore.open_for_reading(folder)
        manifest, summary = store.manifest(), current_summary(store)
        run = manifest["run"]
        return {
            "folder": str(folder),
            "started": manifest.get("started"),
            "state": state(store, summary),
            "strategy": run["strategy"],
            "mentor": run["mentor"]["name"],
            "intern": run["intern"]["name"],
            "dataset": run.get("dataset", {}).get("name"),
            "total": _total(manifest),
            **{key: summary.get(key) for key in ("n", "errors", "accuracy", "accuracy_ci95", "mentor_tokens", "usd")},
            "synthetic": summary["synthetic"] or bool(manifest.get("synthetic")),
        }
    except (TandemError, KeyError, TypeError) as error:
        message = str(error) if isinstance(error, TandemError) else f"{folder / RUN} is not a Tandem run"
        return {"folder": str(folder), "started": None, "state": "damaged", "problem": message}


def _total(manifest: dict[str, Any]) -> int | None:
    total = manifest["run"].get("dataset", {}).get("problems")
    return total if isinstance(total, int) else None


def _is_current(folder: Path) -> bool:
    try:
        return (folder / SUMMARY).stat().st_mtime_ns >= (folder / RECORDS).stat().st_mtime_ns
    except OSError:
        return False
