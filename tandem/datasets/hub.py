"""The data-set hub: a card's file converted from the Parquet version that the hub keeps of every data set.

All have the same layout: the branch `refs/convert/parquet` holds <configuration>/<split>/0000.parquet and so on. Only
the fields that the card reads are kept, as JSON Lines in the cache, written atomically.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx

from tandem.datasets.cards import DatasetCard
from tandem.datasets.formats import read_rows
from tandem.datasets.locations import hub_file
from tandem.errors import TandemError
from tandem.storage.files import replacing

_BRANCH = "refs/convert/parquet"
_SECONDS = 10.0  # for the hub's first response
_log = logging.getLogger(__name__)


def can_fetch(card: DatasetCard, split: str) -> bool:
    installed = find_spec("huggingface_hub") is not None and find_spec("pyarrow") is not None
    return installed and card.hub is not None and bool(card.splits[split].hub)


def fetch(card: DatasetCard, split: str) -> Path:
    """Fetch the file of a card's split into the cache and return it.

    Raises TandemError for any failure, in one line that says where to put the file by hand.
    """
    target = hub_file(card, split)
    assert card.hub is not None
    _log.info("fetching %s from %s on the data-set hub", target.name, card.hub.repository)
    try:
        _reach()
        target.parent.mkdir(parents=True, exist_ok=True)
        fetched = tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.")
        with fetched as work, replacing(target) as lines:
            for row in _rows(card, split, work):
                lines.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
    except Exception as error:  # no network, a gated set, a full disk: each client version has its own classes
        folder = os.environ.get("TANDEM_DATA_DIR") or Path("data").resolve()
        raise TandemError(
            f"{card.hub.repository} cannot be fetched from the data-set hub ({_reason(error)}). "
            f"Get it from {card.source} and put it into {folder} as {target.name}."
        ) from error
    return target


def _reach() -> None:
    """Check once that the hub is reachable, since its client retries for half a minute with warnings."""
    from huggingface_hub import constants, utils

    utils.logging.set_verbosity_error()
    if constants.HF_HUB_OFFLINE:
        raise httpx.ConnectError("HF_HUB_OFFLINE is set")
    httpx.head(constants.ENDPOINT, timeout=_SECONDS)


def _reason(error: Exception) -> str:
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    match error:
        case GatedRepoError():
            return "it is gated: accept its terms on the hub and set HF_TOKEN"
        case RepositoryNotFoundError():
            return "there is no such repository, or it needs HF_TOKEN"
        case HfHubHTTPError() if error.response is not None:
            return f"the hub answered {error.response.status_code}"
        case LocalEntryNotFoundError() | httpx.TransportError():
            return "it cannot be reached: no network, or HF_HUB_OFFLINE is set"
        case TandemError():
            return str(error)
    line = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {line[:160]}"


def _rows(card: DatasetCard, split: str, work: str) -> Iterator[dict[str, Any]]:
    assert card.hub is not None
    fields = card.fields
    named = (fields.problem, fields.answer, fields.id, fields.task, fields.tests, fields.setup, fields.entry_point)
    where = card.splits[split].where
    wanted = {*itertools.chain(*named, fields.prelude), *fields.metadata.values(), *where}
    for config, part in itertools.product(card.hub.configs, card.splits[split].hub):
        label = {card.hub.label: config} if card.hub.label else {}
        for file in _files(card.hub.repository, f"{config}/{part}", work):
            for _, row in read_rows(file):
                if all(str(row.get(key)) == value for key, value in where.items()):
                    yield {key: value for key, value in row.items() if key in wanted} | label
            file.unlink()


def _files(repository: str, folder: str, work: str) -> Iterator[Path]:
    from huggingface_hub import hf_hub_download, utils
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    if not sys.stderr.isatty():
        utils.disable_progress_bars()
    for number in itertools.count():
        path = f"{folder}/{number:04d}.parquet"
        try:
            yield Path(hf_hub_download(repository, path, revision=_BRANCH, repo_type="dataset", local_dir=work))
        except LocalEntryNotFoundError:  # the hub cannot be reached
            raise
        except EntryNotFoundError:
            if number == 0:
                raise
            return
