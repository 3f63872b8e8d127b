"""YAML files that users are sent (prices, keys), read within bounds: a file made to exhaust the reader is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tandem.errors import UsageError
from tandem.storage.files import read_within

MAX_BYTES = 1_000_000
MAX_DEPTH = 10


class _Loader(yaml.SafeLoader):
    """A loader that refuses a key that stands twice in one mapping: the first would be lost without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"'{key.value}' stands twice", key.start_mark)
            if isinstance(key.value, str):
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def load_yaml(path: Path, what: str) -> Any:
    """Return the content of a YAML file of at most 1 MB, nested at most ten deep, and without aliases.

    Raises OSError for a file that cannot be read, and UsageError, with the line where there is one, for any other;
    `what` names the file in it ("the price file").
    """
    raw = read_within(path, MAX_BYTES)
    if raw is None:
        raise UsageError(f"{what} {path} is larger than {MAX_BYTES // 1_000_000} MB")
    try:
        text = raw.decode("utf-8-sig")
        _check(text, f"{what} {path}")
        return yaml.load(text, Loader=_Loader)
    except UnicodeDecodeError:
        raise UsageError(f"{what} {path} is not YAML: it is not UTF-8 text") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date or a number that is none
        raise UsageError(f"{what} {path} is not YAML: {_reason(error)}") from None


def _check(text: str, name: str) -> None:
    """Raise UsageError for text that is nested too deeply or repeats a part by its name, before anything is built."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        where = f"line {event.start_mark.line + 1}" if event.start_mark else "it"
        if isinstance(event, yaml.AliasEvent):
            raise UsageError(f"{name}: {where} has an alias (*{event.anchor}), which is not read; write it out")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise UsageError(f"{name}: {where} is nested more than {MAX_DEPTH} deep")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _reason(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}: {error.problem}"
    return " ".join(str(error).split())
