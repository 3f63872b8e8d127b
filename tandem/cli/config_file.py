"""Files of options: YAML whose values are kept as text, so that a key means what its flag would, letter for letter."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

import yaml

from tandem.errors import UsageError
from tandem.storage.files import read_within

_MOST_BYTES = 100_000
_OURS = "tag:yaml.org,2002:"
_TAGS = {f"{_OURS}{kind}" for kind in ("str", "int", "float", "bool", "null", "timestamp", "seq", "map")}


class ConfigEntry(NamedTuple):
    """One key of a file: as it was written there, in which section (None: at top level), and what it holds."""

    key: str
    section: str | None
    node: yaml.Node

    def __str__(self) -> str:
        return f"{self.section}: '{self.key}'" if self.section else f"'{self.key}'"

    @property
    def value(self) -> str | tuple[str, ...] | None:
        """The text, the texts of a list, or None for null. Raises UsageError for anything else."""
        if not isinstance(self.node, yaml.SequenceNode):
            return self._text(self.node)
        found = tuple(text for item in self.node.value if (text := self._text(item)) is not None)
        if len(found) < len(self.node.value):
            raise UsageError(f"{self}: an item of the list is null")
        return found

    def _text(self, node: yaml.Node) -> str | None:
        if not isinstance(node, yaml.ScalarNode):
            kind = "a mapping" if isinstance(node, yaml.MappingNode) else "a list"
            raise UsageError(f"{self}: {kind} is not a value here")
        if node.tag not in _TAGS:
            raise UsageError(f"{self}: the tag {node.tag.replace(_OURS, '!!')} means nothing here")
        text: str = node.value
        if any(char == "\0" or "\ud800" <= char <= "\udfff" for char in text):  # YAML can escape them
            raise UsageError(f"{self}: holds a character that no flag could")
        if _is_null(node):
            return None
        return os.path.expanduser(text) if text.startswith("~/") else text  # as a shell does with a flag's value


def read_config(path: Path, sections: Collection[str]) -> Iterator[ConfigEntry]:
    """Yield the entries of a file: those at top level and those of `sections`, in its order.

    Raises UsageError, in words that leave out the file's name, for one that cannot be read, is not YAML or no mapping,
    and for a key that is there twice (`max-usd` and `max_usd` are one key).
    """
    for key, node in _pairs(_compose(path), ""):
        if key not in sections:
            yield ConfigEntry(key, None, node)
        elif isinstance(node, yaml.MappingNode):
            yield from (ConfigEntry(name, key, value) for name, value in _pairs(node, f"{key}: "))
        elif not _is_null(node):
            raise UsageError(f"'{key}' is a section; it holds options of `tandem {key}`")


def _compose(path: Path) -> yaml.MappingNode:
    """Return the file's nodes; nothing is constructed from them, so that no tag can run code."""
    try:
        raw = read_within(path.expanduser(), _MOST_BYTES)
        if raw is None:
            raise UsageError(f"larger than {_MOST_BYTES // 1000} kB; it holds options only")
        root = yaml.compose(raw.decode("utf-8"), Loader=yaml.BaseLoader)
    except OSError as error:
        raise UsageError("no such file" if isinstance(error, FileNotFoundError) else str(error.strerror)) from None
    except UnicodeDecodeError as error:
        raise UsageError(f"not UTF-8 text ({error.reason}); save it as UTF-8") from None
    except RecursionError:
        raise UsageError("not YAML: nested too deeply") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)  # none for a character that is allowed nowhere
        where = f"line {mark.line + 1}: " if mark else ""
        raise UsageError(f"not YAML: {where}{getattr(error, 'problem', error)}") from None
    if not isinstance(root, yaml.MappingNode):
        raise UsageError("no options in it; they are lines such as `mentor: gpt-4o`")
    return root


def _pairs(mapping: yaml.MappingNode, where: str) -> Iterator[tuple[str, yaml.Node]]:
    lines: dict[str, int] = {}
    for key, value in mapping.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise UsageError(f"{where}line {line}: a key is the name of an option")
        plain = key.value.replace("_", "-")
        if plain in lines:
            raise UsageError(f"{where}'{key.value}' is given twice, in lines {lines[plain]} and {line}")
        lines[plain] = line
        yield key.value, value


def _is_null(node: yaml.Node) -> bool:
    return getattr(node, "style", "") is None and node.value in ("", "~", "null", "Null", "NULL")
