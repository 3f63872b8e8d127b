"""Weights on disk: a catalog model becomes a Transformers folder in the cache, once, surviving interruptions.

A pull works in ``models/.<name>.partial``, resumes there after an interruption, writes the manifest last and then
renames the finished folder to ``models/<name>``. A lock makes processes that want the same model wait for one another.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tandem.errors import TandemError, UsageError
from tandem.models.catalog import CatalogEntry
from tandem.models.weights.export import export
from tandem.models.weights.hub import Progress, hub, size_of
from tandem.models.weights.sources import fetch
from tandem.paths import cache_dir
from tandem.storage.lock import FileLock

MANIFEST = "tandem.json"
_FILES = ["*.safetensors", "*.json", "*.jinja", "*.txt", "*.model"]


def folder_of(entry: CatalogEntry) -> Path:
    return cache_dir() / "models" / entry.name


def _work_of(entry: CatalogEntry) -> Path:
    """Return the folder that a pull works in."""
    return folder_of(entry).with_name(f".{entry.name}.partial")


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Return what a pull wrote beside the weights (name, source, sha256 or revision), or None without one."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError):
        return None
    return manifest if isinstance(manifest, dict) else None


def pulled(entry: CatalogEntry) -> bool:
    """Whether the whole model is here, made from the weights that the catalog pins."""
    manifest = read_manifest(folder_of(entry))
    if manifest is None:
        return False
    return entry.gguf is None or manifest.get("sha256") == entry.gguf.sha256


def pull(entry: CatalogEntry, *, progress: Progress | None = None) -> Path:
    """Return the model's Transformers folder, fetched now if it is not here.

    `progress` is called with what is going on, the bytes done and the bytes in all (0 if unknown), from any thread.
    Raises UsageError for a model without weights, DigestError for a file that is not the pinned one,
    MissingPackageError without the extra that the source or the export needs, and TandemError where no source can be
    reached or the disk is too full.
    """
    if not entry.local:
        raise UsageError(f"{entry.name} is served at {entry.endpoint}: there is nothing to pull")
    say: Progress = progress or (lambda what, done, total: None)
    target = folder_of(entry)
    if pulled(entry):
        return target
    work = _work_of(entry)
    work.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as held:
        lock = FileLock(target.with_name(f".{entry.name}.lock"))  # it goes with the process, however that ends
        held.callback(lock.release)
        if not lock.take():
            say("waiting for another process that pulls it", 0, 0)
            lock.wait()
        if pulled(entry):
            return target
        work.mkdir(exist_ok=True)  # the last holder of the lock may have removed it
        check_disk([entry])
        finished = work / "model"
        manifest = _from_gguf(entry, work, finished, say) if entry.gguf else _from_hub(entry, finished, say)
        (finished / MANIFEST).write_text(json.dumps({"name": entry.name, **manifest}, indent=2) + "\n")
        if target.exists():  # without a manifest, or made from other weights
            shutil.rmtree(target)
        finished.rename(target)
        shutil.rmtree(work, ignore_errors=True)
    return target


def _from_gguf(entry: CatalogEntry, work: Path, finished: Path, progress: Progress) -> dict[str, Any]:
    assert entry.gguf is not None
    path, source = fetch(entry.gguf, work, progress)
    shutil.rmtree(finished, ignore_errors=True)  # an export that was interrupted
    progress("turning it into a model folder", 0, 0)
    export(path, finished, tied=entry.gguf.tied)
    return {"source": source, "file": entry.gguf.file, "sha256": entry.gguf.sha256}


def _from_hub(entry: CatalogEntry, finished: Path, progress: Progress) -> dict[str, Any]:
    """Fetch the repository as it is on the hub now; the hub's client resumes by itself."""
    assert entry.hub is not None
    with hub(entry.hub, finished, entry.disk_bytes, progress) as client:
        revision = client.model_info(entry.hub).sha
        client.snapshot_download(entry.hub, revision=revision, local_dir=finished, allow_patterns=_FILES)
    if not (finished / "config.json").is_file() or not any(finished.glob("*.safetensors")):
        raise TandemError(f"{entry.hub} on the model hub has no config.json with safetensors weights")
    return {"source": "hub", "hub": entry.hub, "revision": revision}


def check_disk(entries: Sequence[CatalogEntry]) -> None:
    """Raise TandemError where these models, pulled one after another, will not fit on the cache's disk."""
    kept = needed = 0
    for entry in entries:
        here = size_of(_work_of(entry))
        needed = max(needed, kept + _most(entry) - here)
        kept += entry.disk_bytes - here
    folder = cache_dir() / "models"
    folder.mkdir(parents=True, exist_ok=True)
    room = shutil.disk_usage(folder).free
    if room < needed:
        names = " and ".join(entry.name for entry in entries)
        raise TandemError(
            f"{names} {'needs' if len(entries) == 1 else 'need'} {needed / 1e9:.1f} GB in {folder}, where "
            f"{room / 1e9:.1f} GB are free; free some space, or set TANDEM_HOME to another folder"
        )


def _most(entry: CatalogEntry) -> int:
    """Return the bytes on disk at the most: the folder, the file and its parts."""
    return entry.disk_bytes + (2 * entry.gguf.bytes if entry.gguf else 0)
