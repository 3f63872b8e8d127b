"""The hold-out: problems that a collection leaves out, so that what is trained on it can be evaluated on them.

A problem's side follows from the hash of its id, so that every problem of a table that grows stays where it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from tandem.collection.manifest import NAME, read_manifest
from tandem.errors import UsageError
from tandem.types import Problem


def parse_holdout(text: str) -> float | int:
    """Read a share such as ``0.3``, or a number of problems. Raises UsageError for anything else."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if 0 < number < 1:
        return number
    if number >= 1 and text.isdecimal():
        return int(text)
    raise UsageError(f"--holdout takes a share such as 0.3, or a number of problems such as 50, not '{text}'")


def split(problems: Sequence[Problem], holdout: float | int) -> tuple[list[Problem], list[Problem]]:
    """Return the problems to collect and those held out, both in their order.

    A share holds out each problem whose hash lies below it, whatever the others are; a number holds out those with the
    lowest hashes. Raises UsageError where one side is empty.
    """
    if isinstance(holdout, int):
        held = {problem.id for problem in sorted(problems, key=lambda problem: _place(problem.id))[:holdout]}
    else:
        held = {problem.id for problem in problems if _place(problem.id) < holdout}
    sides = [p for p in problems if p.id not in held], [p for p in problems if p.id in held]
    if not all(sides):
        raise UsageError(f"--holdout {holdout:g} of {len(problems)} problems leaves one side without any")
    return sides


def held_out(folder: Path) -> frozenset[str]:
    """Return the ids that a collection held out. Raises UsageError where there is none, or no collection."""
    manifest = read_manifest(folder)
    if manifest is None:
        raise UsageError(f"{folder} holds no collection ({NAME})")
    if not manifest.get("holdout"):
        raise UsageError(f"the collection in {folder} holds nothing out; collect with --holdout 0.3")
    return frozenset(manifest["holdout"])


def check_apart(folder: Path, collected: Collection[str], problems: Iterable[Problem], held: Iterable[Problem]) -> None:
    """Raise UsageError where a problem would be on both sides of a collection that is continued."""
    before = frozenset((read_manifest(folder) or {}).get("holdout", ()))
    if back := next((problem.id for problem in problems if problem.id in before), None):
        raise UsageError(f"{folder} holds {back} out: give the same --holdout as before, or take another --out")
    if late := next((problem.id for problem in held if problem.id in collected), None):
        raise UsageError(f"{late} is collected in {folder} already and cannot be held out; take another --out")


def _place(problem: str) -> float:
    """Return where an id stands between 0 and 1, by its hash."""
    return int.from_bytes(hashlib.sha256(f"holdout:{problem}".encode()).digest()[:8]) / 2**64
