"""Files read and written whole, and the one sentence for what the system refuses: where, why, what to do."""

from __future__ import annotations

import errno
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from tandem.errors import TandemError

_ADVICE = {
    errno.ENOSPC: "free some space there",
    errno.EDQUOT: "your quota is used up, free some space there",
    errno.EFBIG: "the limit on file sizes is reached (ulimit -f)",
    errno.EROFS: "take a folder that can be written",
    errno.EACCES: "take a folder that you may write to",
    errno.EPERM: "take a folder that you may write to",
    errno.ENOTDIR: "a part of that path is a file; take another folder",
    errno.EISDIR: "a folder has that name; take another",
    errno.EEXIST: "a file has that name; take another",
}


def file_error(path: Path, error: OSError, doing: str = "write") -> TandemError:
    """Return the error for a file or folder that the system refused: where, why, what to do."""
    advice = "" if doing == "read" else _ADVICE.get(error.errno or 0, "")
    return TandemError(f"cannot {doing} {path}: {error.strerror}" + (f" ({advice})" if advice else ""))


def write_whole(path: Path, text: str) -> None:
    """Replace a file by `text` in one step, on disk before it is seen. Raises TandemError if it cannot be written."""
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise file_error(path, error) from None


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file. Raises TandemError if it cannot be read or is something else."""
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise file_error(path, error, "read") from None
    except ValueError:
        raise TandemError(f"{path} is damaged: it is not JSON") from None
    if not isinstance(loaded, dict):
        raise TandemError(f"{path} is damaged: it is not a JSON object")
    return loaded
