"""A tool's call out of a stream, in which it comes in fragments."""

from __future__ import annotations

import json
from typing import Any

from tandem.models.tools import write_call


class Called:
    """The first call of a stream. The name comes once, the arguments in pieces; of further calls nothing is kept."""

    def __init__(self) -> None:
        self._key: tuple[Any, Any] | None = None  # of the first call: its place and its id
        self._name = ""
        self._arguments: list[str] = []

    @property
    def text(self) -> str:
        """The call in its textual form, as far as it came; empty where none came."""
        return write_call(self._name, "".join(self._arguments)) if self._key else ""

    def take(self, fragments: Any) -> bool:
        """Take a chunk's fragments; return whether there are any."""
        found = [part for part in fragments if isinstance(part, dict)] if isinstance(fragments, list) else []
        for part in found:
            place, name = part.get("index") or 0, part.get("id")
            self._key = self._key or (place, name)
            # Some servers give every call the same place: a further id is a further call.
            if place == self._key[0] and name in (None, "", self._key[1]):
                self._add(part.get("function"))
        return bool(found)

    def _add(self, function: Any) -> None:
        if not isinstance(function, dict):
            return
        self._name = self._name or str(function.get("name") or "")
        arguments = function.get("arguments")
        if arguments:
            self._arguments.append(arguments if isinstance(arguments, str) else json.dumps(arguments))
