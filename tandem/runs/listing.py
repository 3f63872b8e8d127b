"""Listing runs: the state and results of each, read from its files only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tandem.errors import TandemError, UsageError
from tandem.runs.store import COMPARE, PROBLEMS, RECORDS, RUN, SUMMARY, RunStore
from tandem.runs.summary import summarise


def list_runs(root: Path, beside: Iterable[Path] = ()) -> list[dict[str, Any]]:
    """Return the runs in a folder or in its subfolders, and those in the folders `beside`, oldest first.

    The runs of a comparison are one entry, whose ``parts`` have their accuracy, unless `root` is the comparison. A run
    whose files are damaged is listed with ``state`` "damaged" and its ``problem``. Raises UsageError if there is no
    such folder and nothing beside it.
    """
    others = list(beside)
    if not root.is_dir() and not others:
        raise UsageError(f"there is no folder {root}; runs are written by: tandem run … --out {root}/<name>")
    found: list[dict[str, Any]] = []
    compared: dict[Path, list[dict[str, Any]]] = {}
    folders = (folder for top in (root, *others) for folder in _folders(top))
    for folder in {folder.resolve(): folder for folder in folders}.values():
        glance = _at_a_glance(folder)
        if folder.parent != root and is_compared(folder.parent):
            compared.setdefault(folder.parent, []).append(glance)
        else:
            found.append(glance)
    found += [_compared(folder, parts) for folder, parts in compared.items()]
    return sorted(found, key=lambda run: (run["started"] or "", run["folder"]))


def is_compared(folder: Path) -> bool:
    """Whether the runs in a folder belong to a comparison."""
    return not (folder / RUN).is_file() and any((folder / name).is_file() for name in (COMPARE, PROBLEMS))


def _compared(folder: Path, parts: list[dict[str, Any]]) -> dict[str, Any]:
    sound = [part for part in parts if part["state"] != "damaged"]
    if not sound:
        return {"folder": str(folder), "started": None, "state": "damaged", "problem": str(parts[0]["problem"])}
    states = {part["state"] for part in parts}
    ended = states == {"finished"} and (folder / COMPARE).is_file()
    first = min(sound, key=lambda part: str(part["started"]))
    return {
        **first,
        "folder": str(folder),
        "strategy": "comparison",
        "state": "running" if "running" in states else "finished" if ended else "stopped",
        "n": sum(part["n"] for part in sound),
        "errors": sum(part["errors"] for part in sound),
        **dict.fromkeys(("accuracy", "accuracy_ci95", "mentor_tokens", "usd")),
        "parts": {part["strategy"]: part["accuracy"] for part in sound},
    }


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
