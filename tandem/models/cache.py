"""The response cache: whole answers on disk, replayed for an identical request. Off by default.

A key is the model, its revision, where it is served, the whole request, and which of several equal requests of one
problem it is (samples must stay different). Errors, refusals and calls that were cut are never kept.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tandem.errors import TandemError
from tandem.ledger import Entry, Role
from tandem.models.base import Model, Request
from tandem.models.recorded import Recorded, digest, restored
from tandem.storage.files import write_whole


class ResponseCache:
    """A folder of answers, one small file each, safe for several processes; a `Recorder`.

    A cached answer is charged like a new one, so that figures do not depend on the cache; `Entry.paid` is False.
    """

    def __init__(self, folder: Path) -> None:
        """Raises TandemError if the folder cannot be made."""
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TandemError(f"the folder of answers {folder} cannot be used: {error.strerror}") from None

    def find(self, model: Model, request: Request, occurrence: int) -> Recorded | None:
        row = read_answer(self.path(model, request, occurrence))
        return row and row[0]

    async def turn(self, model: Model, request: Request, occurrence: int) -> None:
        """Do nothing: several runs use the folder, without knowing each other's requests in flight."""

    async def open(self, model: Model, request: Request, role: Role, occurrence: int) -> None:
        """Do nothing: only ends are stored."""

    def failed(self, number: str | None, request: Request, entry: Entry) -> None:
        """Do nothing: failures are never stored."""

    def close(
        self, number: str | None, model: Model, request: Request, occurrence: int, entry: Entry, given: Recorded | None
    ) -> None:
        """Store a whole, non-empty answer. A full disk loses the entry, not the answer."""
        if given is None or given.finish_reason not in ("stop", "length") or not given.text.strip():
            return
        keep_answer(self.path(model, request, occurrence), given.row())

    def path(self, model: Model, request: Request, occurrence: int) -> Path:
        spec = model.spec
        parts = [spec.backend, spec.revision or "", model.address, digest(spec.name, request), str(occurrence)]
        key = hashlib.sha256("\n".join(parts).encode()).hexdigest()
        return self.folder / key[:2] / f"{key[2:40]}.json"


def read_answer(path: Path) -> tuple[Recorded, dict[str, Any]] | None:
    """Return a stored answer and its row; None for a missing or damaged file."""
    try:
        row = json.loads(path.read_bytes())
        return restored(row), row
    except (OSError, ValueError, KeyError, zlib.error):
        return None


def keep_answer(path: Path, row: Mapping[str, Any]) -> None:
    """Store an answer, unless the disk is full."""
    with suppress(TandemError):
        write_whole(path, json.dumps(row), private=True, durable=False, parents=True)
