"""The response cache: whole answers on disk, given again for the very same request. Off unless asked for.

A key is the model, its revision, where it is served, the whole request, and which of several equal requests of one
problem it is (samples must stay different). Errors, refusals and calls that were cut are never kept.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from contextlib import suppress
from pathlib import Path

from tandem.errors import TandemError
from tandem.ledger import Entry, Role
from tandem.models.base import Model, Request
from tandem.models.recorded import Recorded, digest, restored
from tandem.storage.files import write_whole


class ResponseCache:
    """A folder of answers, one small file each, safe for several processes; a `Recorder`.

    A cached answer is charged like a fresh one, so that figures do not depend on the cache; `Entry.paid` is False.
    """

    def __init__(self, folder: Path) -> None:
        """Raises TandemError if the folder cannot be made."""
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TandemError(f"the response cache {folder} cannot be used: {error.strerror}") from None

    def find(self, model: Model, request: Request, occurrence: int) -> Recorded | None:
        """Return the kept answer, or None (also for a file that is damaged)."""
        try:
            row = json.loads(self._file(model, request, occurrence).read_bytes())
            return restored(row)
        except (OSError, ValueError, KeyError, zlib.error):
            return None

    async def turn(self, model: Model, request: Request, occurrence: int) -> None:
        """Do nothing: several runs use the folder, and none knows what another is asking."""

    async def open(self, model: Model, request: Request, role: Role, occurrence: int) -> None:
        """Do nothing: only ends are kept."""

    def failed(self, number: str | None, request: Request, entry: Entry) -> None:
        """Do nothing: failures are never kept."""

    def close(
        self, number: str | None, model: Model, request: Request, occurrence: int, entry: Entry, given: Recorded | None
    ) -> None:
        """Keep a whole, non-empty answer. A full disk costs the entry, not the answer."""
        if given is None or given.finish_reason not in ("stop", "length") or not given.text.strip():
            return
        path = self._file(model, request, occurrence)
        with suppress(TandemError):
            write_whole(path, json.dumps(given.row()), private=True, durable=False, parents=True)

    def _file(self, model: Model, request: Request, occurrence: int) -> Path:
        spec = model.spec
        parts = [spec.backend, spec.revision or "", model.address, digest(spec.name, request), str(occurrence)]
        key = hashlib.sha256("\n".join(parts).encode()).hexdigest()
        return self.folder / key[:2] / f"{key[2:40]}.json"
