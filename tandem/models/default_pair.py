"""The pair that solves where nobody named one: that of the user's config file, else the demo pair."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from tandem.errors import UsageError

DEMO_PAIR = "qwen2.5-coder-1.5b", "qwen2.5-coder-0.5b"


@dataclass(frozen=True, slots=True)
class DefaultPair:
    """Names, endpoints and sizes of a pair, as `Tandem` takes them; `source` is the file that names it, if any."""

    mentor: str = DEMO_PAIR[0]
    intern: str = DEMO_PAIR[1]
    mentor_endpoint: str | None = None
    intern_endpoint: str | None = None
    mentor_parameters: float | None = None
    intern_parameters: float | None = None
    source: Path | None = None

    def arguments(self) -> dict[str, Any]:
        """Return what `Tandem` takes."""
        return {name: value for name, value in asdict(self).items() if name != "source"}


def config_path() -> Path:
    """Return where the user's config file is, if there is one: $TANDEM_CONFIG, else ~/.config/tandem/config.yaml."""
    if named := os.environ.get("TANDEM_CONFIG"):
        return Path(named).expanduser()
    home = os.environ.get("XDG_CONFIG_HOME")
    return (Path(home).expanduser() if home else Path.home() / ".config") / "tandem" / "config.yaml"


def default_pair() -> DefaultPair:
    """Return the pair of the user's config file, whose other keys are options of commands, else the demo pair.

    Raises UsageError for a file that cannot be used: no YAML, one model without the other, a value of the wrong type.
    """
    path = config_path()
    if not path.is_file():
        if os.environ.get("TANDEM_CONFIG"):
            raise UsageError(f"TANDEM_CONFIG: there is no file {path}")
        return DefaultPair()
    from tandem.storage.bounded_yaml import load_yaml
    from tandem.storage.files import file_error

    try:
        found = load_yaml(path, "the config file") or {}
    except OSError as error:
        raise file_error(path, error, "read") from None
    if not isinstance(found, dict):
        raise UsageError(f"the config file {path} holds no options; they are lines such as `mentor: gpt-4o`")
    known = {field.name for field in fields(DefaultPair)} - {"source"}
    given = {name: value for key, value in found.items() if (name := str(key).replace("-", "_")) in known}
    if ("mentor" in given) != ("intern" in given):
        raise UsageError(f"the config file {path} names one model of the pair; give both, `mentor` and `intern`")
    if "mentor" not in given:
        return DefaultPair()
    for name, value in given.items():
        if value is not None and not isinstance(value, float | int if name.endswith("_parameters") else str):
            raise UsageError(
                f"the config file {path}: {name}: {value!r} is no {'number' if 'param' in name else 'text'}"
            )
    return DefaultPair(**given, source=path)


__all__ = ["DEMO_PAIR", "DefaultPair", "config_path", "default_pair"]
