"""Reading collected tables: of which pair, whether they fit together, and signals recomputed where possible."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tandem.collection.manifest import NAME, read_manifest
from tandem.collection.rows import Folder, files, signals_of
from tandem.errors import TandemError, UsageError
from tandem.models.catalog import lookup, spec_of
from tandem.models.logprobs import ESTIMATOR
from tandem.models.prices import price
from tandem.models.profiles import AssumedLoad, timed
from tandem.spec import ModelSpec
from tandem.storage.jsonl import read_strict
from tandem.sufficiency.classifier import comparable
from tandem.sufficiency.signals import SIGNAL_VERSION
from tandem.training.fit import dataset_of

Table = tuple[list[dict[str, Any]], dict[str, Any]]
_ALIKE = {
    "mentor": "mentor",
    "intern": "intern",
    "signal_version": "signal version",
    "estimator": "entropy estimator",
    "logprobs_mode": "log-probability mode",
    "insight_mode": "insight mode",
}


def read_collection(source: Path) -> Table:
    """Return the rows and the manifest of a collection folder, or of a folder with a committed table.

    Where rows still have the statistics of each token, their signals are recomputed. Raises UsageError if the folder
    holds neither or its signals are of another version, TandemError for a damaged table or manifest.
    """
    if not source.exists():
        raise UsageError(f"there is no collection at {source}")
    folder = source if source.is_dir() else source.parent
    table = source if source.is_file() else folder / "table.jsonl.gz"
    raw = source.is_dir() and not table.is_file() and bool(files(folder, "rows"))
    if not (folder / NAME).is_file() or not (raw or table.is_file()):
        raise UsageError(f"{folder} holds no collection (collection.json and table.jsonl.gz); collect one first")
    manifest = read_manifest(folder, ("mentor", "intern", "ladder", "signal_version", "estimator", "insight_mode"))
    assert manifest is not None
    try:
        if raw:
            rows = list(Folder(folder, write=False).rows())
        else:
            with gzip.open(table) as lines:
                rows = [row for _, row in read_strict(lines, table)]
        rows, manifest = _renewed(rows, manifest)
    except (OSError, EOFError, zlib.error, ValueError, TypeError, KeyError, UsageError) as error:
        raise TandemError(f"the collection in {folder} is damaged: {error}") from None
    _check(manifest, folder)
    return rows, manifest


def _renewed(rows: list[dict[str, Any]], manifest: dict[str, Any]) -> Table:
    """Make signals of this version from the statistics of each token, where every answer of the intern has them."""
    if manifest["signal_version"] == SIGNAL_VERSION:
        return rows, manifest
    own = [row for row in rows if "signals" in row]
    if not own or any("stats" not in row for row in own):
        return rows, manifest
    for row in own:
        row["signals"] |= signals_of(row["stats"], manifest["draft_lengths"])
    return rows, manifest | {"signal_version": SIGNAL_VERSION}


def _check(manifest: Mapping[str, Any], folder: Path) -> None:
    for what, here in (("signal_version", SIGNAL_VERSION), ("estimator", ESTIMATOR)):
        if manifest[what] != here and not (what == "signal_version" and comparable(manifest[what])):
            raise UsageError(
                f"the table in {folder}, which version {manifest.get('version', 'unknown')} wrote, has {_ALIKE[what]} "
                f"'{manifest[what]}', this version of Tandem has '{here}'; make it again from its raw rows "
                "(rows.jsonl), or collect again"
            )


def check_same(one: Mapping[str, Any], other: Mapping[str, Any], what: str) -> None:
    """Raise UsageError naming what differs between two manifests, if a classifier of one does not fit the other."""
    differing = [
        f"{name} '{other.get(key)}' (not '{one.get(key)}')"
        for key, name in _ALIKE.items()
        if one.get(key) != other.get(key)
        and not (key == "signal_version" and all(comparable(table[key]) for table in (one, other)))
    ]
    if differing:
        raise UsageError(f"{what} is of another set-up: {'; '.join(differing)}")


def pair_of(manifest: Mapping[str, Any]) -> tuple[ModelSpec, ModelSpec]:
    """Return the specs of a table's mentor and intern: the catalog's, with what only the collection knew."""
    mentor, intern = (_spec_of(manifest, role) for role in ("mentor", "intern"))
    return mentor.model_copy(update={"insight_mode": manifest["insight_mode"]}), intern  # as it was collected


def rated_pair(
    manifest: Mapping[str, Any],
    *,
    prices: str | Path | None = None,
    batch_prices: bool = False,
    usd_per_device_hour: float | None = None,
    mentor_profile: str | None = None,
    intern_profile: str | None = None,
    assume_load: AssumedLoad | None = None,
) -> tuple[ModelSpec, ModelSpec]:
    """Return the specs of a table's mentor and intern with what their tokens cost: prices of a file, speed profiles.

    Raises UsageError as `price` and `timed` do.
    """
    pair = [_Named(spec) for spec in pair_of(manifest)]
    price(pair, prices, batch=batch_prices)
    mentor, intern = (
        timed(one.spec, profile, assume=assume_load, usd_per_device_hour=usd_per_device_hour)
        for one, profile in zip(pair, (mentor_profile, intern_profile), strict=True)
    )
    return mentor, intern


@dataclass(slots=True)
class _Named:
    spec: ModelSpec


def _spec_of(manifest: Mapping[str, Any], role: str) -> ModelSpec:
    name = manifest[role]
    collected = ModelSpec(name=name, **(manifest.get("specs", {}).get(role) or {}))
    if (entry := lookup(name)) is None:
        return collected
    spec = spec_of(entry)
    # A size that is not published is the one that the user gave; what is billed stays the catalog's.
    return spec if spec.parameters else collected.model_copy(update={"prices": spec.prices, "local": spec.local})


def only(rows: Sequence[dict[str, Any]], sets: Sequence[str]) -> list[dict[str, Any]]:
    """Return the rows of some data sets (the part of the problem id before its number); UsageError if unknown."""
    if not sets:
        return list(rows)
    known = sorted({dataset_of(row["problem"]) for row in rows})
    unknown = sorted(set(sets) - set(known))
    if unknown:
        raise UsageError(f"the table has no problems of {', '.join(unknown)}; it has {', '.join(known)}")
    return [row for row in rows if dataset_of(row["problem"]) in sets]
