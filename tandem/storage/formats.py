"""Files that carry the number of their format: those of a later version are refused, by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tandem.errors import TandemError


def read_format(path: Path, latest: int) -> Any:
    """Return the JSON in a file. Raises TandemError for a later format; OSError and ValueError as reading does."""
    content = json.loads(path.read_text(encoding="utf-8"))
    written = content.get("format", 1) if isinstance(content, dict) else 1
    if isinstance(written, int) and written > latest:
        raise TandemError(
            f"{path} was written by a later version of Tandem (format {written}, this one reads up to {latest}): "
            "upgrade Tandem"
        )
    return content
