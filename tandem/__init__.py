"""Tandem: a large mentor writes a few structured insights, a small intern writes the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tandem.version import __version__

if TYPE_CHECKING:
    from tandem.config import SolveOptions
    from tandem.engine import Tandem, solve
    from tandem.ladder import Effort
    from tandem.reports.tune import Tuning
    from tandem.types import Solution

__all__ = ["Effort", "Solution", "SolveOptions", "Tandem", "Tuning", "__version__", "solve"]

_HOMES = {
    "Tandem": "tandem.engine",
    "solve": "tandem.engine",
    "Effort": "tandem.ladder",
    "Tuning": "tandem.reports.tune",
    "Solution": "tandem.types",
    "SolveOptions": "tandem.config",
}


def __getattr__(name: str) -> Any:
    # Lazy, so that `tandem --help` and `import tandem` load no model code.
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'tandem' has no attribute '{name}'")
