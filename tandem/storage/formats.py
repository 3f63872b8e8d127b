"""JSON files stamped with their format and the version of Tandem that wrote them.

A file that this version cannot read is refused in one line: the file, its writer, what to do. It is not changed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tandem.errors import TandemError
from tandem.storage.files import file_error, read_within
from tandem.version import __version__

if TYPE_CHECKING:
    from pydantic import BaseModel

_Model = TypeVar("_Model", bound="BaseModel")
NEW_FOLDER = "start a new folder"
_MOST_BYTES = 64 * 2**20  # cards have some kilobytes, predictors a megabyte, comparisons a few
_MOST_DEPTH = 100
_VERSION = re.compile(rb'"version"\s*:\s*"([\w.+-]{1,40})"')


def stamped(content: Mapping[str, Any], number: int = 1) -> dict[str, Any]:
    """Return the content of a file headed by its format, unless it has one, and by this version of Tandem."""
    return {"format": number, "version": __version__, **content}


def read_stamped(
    path: Path, latest: int = 1, *, needs: Sequence[str] = (), instead: str = NEW_FOLDER
) -> dict[str, Any]:
    """Return the JSON object in a file.

    `latest` is the latest readable format (a file without a number has format 1), `needs` are required members
    ("run.strategy"), and `instead` says what to do if the file stays unreadable. Raises TandemError for another format,
    a damaged, huge or deeply nested file, since users are sent such files, a missing member and a file that cannot be
    read.
    """
    try:
        raw = read_within(path, _MOST_BYTES)
    except OSError as error:
        raise file_error(path, error, "read") from None
    if raw is None:
        raise _unreadable(path, f"is damaged: it has more than {_MOST_BYTES // 2**20} MiB", None, instead)
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError):
        found = _VERSION.search(raw)  # manifests have it at the beginning, so a truncated one too
        raise _unreadable(path, "is damaged: it is not JSON", found and found[1].decode(), instead) from None
    if not isinstance(content, dict):
        raise _unreadable(path, "is damaged: it is not a JSON object", None, instead)
    version = content.get("version")
    version = version if isinstance(version, str) else None
    if _deeper(content, _MOST_DEPTH):
        raise _unreadable(path, f"is damaged: it is nested more than {_MOST_DEPTH} deep", version, instead)
    number = content.get("format", 1)
    if not isinstance(number, int) or number > latest:
        upgrade = f"upgrade Tandem (pip install --upgrade tandem-reasoning), or {instead}"
        writer = f"Tandem {version}" if version else "a later version of Tandem"
        raise TandemError(
            f"{path} has format {number!r} and this version of Tandem reads up to {latest}; "
            f"it was written by {writer}: {upgrade}"
        )
    for name in needs:
        if _member(content, name.split(".")) is None:
            raise _unreadable(path, f"lacks '{name}'", version, instead)
    return content


def read_model(path: Path, model: type[_Model], latest: int = 1, *, instead: str, drop: Sequence[str] = ()) -> _Model:
    """Return a stamped file's content as a pydantic model, without its version and the members in `drop`.

    Raises TandemError as `read_stamped` does, and for content that is not the model's.
    """
    content = read_stamped(path, latest, instead=instead)
    version = content.pop("version", None)
    for name in drop:
        *above, last = name.split(".")
        if isinstance(inner := _member(content, above), dict):
            inner.pop(last, None)
    try:
        return model.model_validate(content)
    except ValueError as error:
        raise _unreadable(path, f"cannot be read: {_first_fault(error)}", version, instead) from None


def _unreadable(path: Path, reason: str, version: Any, instead: str) -> TandemError:
    known = isinstance(version, str)
    advice = "restore it from a copy"
    if known and version != __version__:
        advice = f"read it with that version (pip install tandem-reasoning=={version})"
    who = f"Tandem {version}" if known and version else "an unknown version of Tandem"
    return TandemError(f"{path} {reason}; it was written by {who}: {advice}, or {instead}")


def _deeper(content: Any, most: int) -> bool:
    """Return whether objects and lists are nested more than `most` deep, without recursion."""
    layer = [content]
    for _ in range(most):
        inner = (one.values() if isinstance(one, dict) else one for one in layer)
        layer = [one for ones in inner for one in ones if isinstance(one, dict | list)]
        if not layer:
            return False
    return True


def _member(content: Any, names: Sequence[str]) -> Any:
    for name in names:
        content = content.get(name) if isinstance(content, dict) else None
    return content


def _first_fault(error: ValueError) -> str:
    """Return pydantic's first error, in one line and without the value."""
    first = error.errors(include_input=False)[0] if hasattr(error, "errors") else {"loc": (), "msg": str(error)}
    where = ".".join(map(str, first["loc"]))
    return f"{where}: {first['msg']}" if where else str(first["msg"])
