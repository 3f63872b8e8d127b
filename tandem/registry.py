"""One registry for strategies, backends, data sets and graders: a name maps to "module:Attribute", imported on use.

A package adds its own by an entry point in the group ``tandem.<kind>`` (``tandem.strategies``, …).
"""

from __future__ import annotations

import importlib
from importlib.metadata import entry_points
from typing import Any

from tandem.errors import TandemError, nearest


class Registry:
    """Lazy table of one kind of thing."""

    def __init__(self, kind: str, group: str, table: dict[str, str]) -> None:
        """`kind` is the word for error messages, `group` the entry-point group, `table` the built-in names."""
        self.kind = kind
        self.group = f"tandem.{group}"
        self._table = dict(table)
        self._plugins: dict[str, str] | None = None
        self._packages: dict[str, str] = {}

    def _all(self) -> dict[str, str]:
        if self._plugins is None:
            found = entry_points(group=self.group)
            self._plugins = {e.name: e.value for e in found}
            self._packages = {e.name: e.dist.name if e.dist else e.value for e in found}
        return self._plugins | self._table  # a plugin cannot replace a built-in

    def names(self) -> list[str]:
        """Return every known name, sorted."""
        return sorted(self._all())

    def package(self, name: str) -> str | None:
        """Return the package that provides the known `name` by an entry point; None for a built-in."""
        return self._packages[name] if name in self._all() and name not in self._table else None

    def __contains__(self, name: str) -> bool:
        return name in self._all()

    def get(self, name: str) -> Any:
        """Import and return the thing behind `name`.

        Raises UsageError with the nearest names for an unknown one, TandemError for one that cannot be imported.
        """
        try:
            target = self._all()[name]
        except KeyError:
            raise nearest(self.kind, name, self.names()) from None
        module, _, attribute = target.partition(":")
        try:
            found = importlib.import_module(module)
        except ImportError as error:
            raise TandemError(f"{self.kind} '{name}' ('{target}') cannot be imported: {error}") from error
        try:
            return getattr(found, attribute)
        except AttributeError:
            raise TandemError(f"{self.kind} '{name}' points at '{target}', which does not exist") from None
