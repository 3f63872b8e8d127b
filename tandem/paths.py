"""Paths of the user's cache and of the files that ship with the package (in the wheel or in a checkout)."""

from __future__ import annotations

import os
from pathlib import Path

_PACKAGE = Path(__file__).parent


def cache_dir() -> Path:
    """Return the folder for weights and probe results: TANDEM_HOME, else ~/.cache/tandem."""
    home = os.environ.get("TANDEM_HOME")
    return Path(home).expanduser() if home else Path.home() / ".cache" / "tandem"


def shipped(folder: str) -> Path:
    """Return a folder that ships with Tandem (`classifiers`, `data`): inside the wheel, else at the checkout's root."""
    inside = _PACKAGE / "_shipped" / folder
    return inside if inside.is_dir() else _PACKAGE.parent / folder
