"""Which strategies a comparison runs, in which order, and where each lies."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from tandem.errors import UsageError
from tandem.ladder import Ladder
from tandem.paths import shipped
from tandem.strategies import STRATEGIES, make_strategy

ALL = "all"
# These ask for the most, so that whoever asks for less is served from what they leave.
_FIRST = ("mentor-only", "intern-only", "fixed")


def strategies_of(text: str, ladder: Ladder, budgets: Mapping[str, int] | None = None) -> list[str]:
    """Read ``a,b,c`` or ``all``; both anchors are always among them, and those that ask for most come first.

    `ladder` has the levels that ``fixed`` stands for in ``all``, `budgets` their usual tokens. Raises UsageError for a
    name that is unknown or doubled, or has a wrong argument; what ``all`` stands for is tried when its turn comes.
    """
    asked: list[str] = []
    for name in filter(None, (part.strip() for part in text.split(","))):
        found = every(ladder) if name == ALL else [name]
        if name != ALL:
            make_strategy(name, budgets)
        for one in found:
            if one in asked and name != ALL:
                raise UsageError(f"strategy '{one}' is named twice in '{text}'")
            if one not in asked:
                asked.append(one)
    if not asked:
        raise UsageError(f"no strategy is named in '{text}'; give names, as in tandem,cascade, or {ALL}")
    return in_order([*[anchor for anchor in _FIRST[:2] if anchor not in asked], *asked], ladder)


def every(ladder: Ladder) -> list[str]:
    """Return every strategy that is installed, each as it is used where nobody says how."""
    names: list[str] = []
    for name in STRATEGIES.names():
        if name == "fixed":
            names += [f"fixed:{level.name}={level.tokens}" for level in ladder if level.tokens]
        elif name == "published":
            names.append(_published())
        elif name == "shepherding":
            names += [f"shepherding:{way}" for way in ("proactive", "reactive", "oracle")]
        else:
            names.append(name)
    return names


def in_order(names: Sequence[str], ladder: Ladder) -> list[str]:
    """Return the names in the order in which calls can be shared best: long answers and high levels first."""
    tokens = {f"fixed:{level.name}": level.tokens or 0 for level in ladder}

    def place(name: str) -> tuple[int, int]:
        base, _, argument = name.partition(":")
        rank = _FIRST.index(base) if base in _FIRST else len(_FIRST)
        _, equals, number = argument.partition("=")
        budget = int(number) if equals and number.isdecimal() else tokens.get(name, 0)
        return rank, -budget if base == "fixed" else 0

    return sorted(names, key=place)


def folder_of(name: str) -> str:
    """Return what a strategy's folder is called: its name, as far as a file system takes it."""
    return re.sub(r"[^A-Za-z0-9.=_-]+", "-", name).strip("-.") or "strategy"


def folders_of(names: Sequence[str]) -> Mapping[str, str]:
    """Return each name's folder, no two the same whatever the names are."""
    found: dict[str, str] = {}
    for name in names:
        folder, number = folder_of(name), 2
        while folder in found.values():
            folder, number = f"{folder_of(name)}-{number}", number + 1
        found[name] = folder
    return found


def _published() -> str:
    for path in sorted(Path(shipped("classifiers")).glob("*/published.json")):
        return f"published:{path.parent}"
    return "published"
