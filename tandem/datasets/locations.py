"""The search path of a data set's file, and the error when it is not found."""

from __future__ import annotations

import logging
import os
from importlib.util import find_spec
from pathlib import Path

from tandem.datasets.cards import DatasetCard
from tandem.errors import UsageError
from tandem.paths import cache_dir, shipped

_log = logging.getLogger(__name__)


def locate(card: DatasetCard, split: str, *, fetch: bool = True) -> Path | None:
    """Return the file of a card's own split, or None.

    Search order: TANDEM_DATA_DIR, `data` in the working folder, Tandem's own data (for developers also `shared/data`
    beside the checkout), an installed package that contains it, earlier downloads from the hub; with `fetch` the hub
    last. An untested card is logged as such. Raises TandemError if the hub fails.
    """
    from tandem.datasets import hub

    part = card.splits[split]
    folders = _folders()
    candidates = [folder / f"{part.file}{end}" for folder in folders for end in ("", ".gz")]
    candidates += [*_packaged(card), hub_file(card, split)]
    found = next((path for path in candidates if path.is_file()), None)
    if found is not None and not part.verified:
        _log.warning("%s, split %s: this card was never tested on the real file", card.name, split)
    return hub.fetch(card, split) if found is None and fetch and hub.can_fetch(card, split) else found


def hub_file(card: DatasetCard, split: str) -> Path:
    return cache_dir() / "datasets" / Path(card.splits[split].file).name


def missing(card: DatasetCard, split: str) -> UsageError:
    file = card.splits[split].file
    looked = ", ".join(str(folder) for folder in dict.fromkeys(folder.resolve() for folder in _folders()))
    ways = [f"Get it from {card.source} and set TANDEM_DATA_DIR to its folder"]
    if card.package:
        ways.append(f"or: pip install {card.package.partition('/')[0].replace('_', '-')}")
    if card.hub:
        ways.append("or have it fetched: pip install 'tandem-reasoning[hub]'")
    return UsageError(
        f"no {file} (or {file}.gz) for {card.name}, split '{split}'. Looked in {looked}. {', '.join(ways)}."
    )


def _folders() -> list[Path]:
    data_dir = os.environ.get("TANDEM_DATA_DIR")
    beside = shipped("data").parent.parent / "shared" / "data"
    folders = [Path(data_dir).expanduser()] if data_dir else []
    return folders + [Path("data"), shipped("data")] + ([beside] if beside.is_dir() else [])


def _packaged(card: DatasetCard) -> list[Path]:
    """Return the file within an installed package, which is not imported."""
    package, _, inside = card.package.partition("/")
    spec = find_spec(package) if package else None
    roots = spec.submodule_search_locations or [] if spec else []
    return [Path(root) / inside for root in roots]
