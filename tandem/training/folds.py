"""Splits by problem: in an order that a grown table keeps, so that every problem stays where it was."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

FOLDS = 5


def ranked(ids: Sequence[str], seed: int) -> list[str]:
    """Order problems by the hash of their id, so that a grown table keeps every problem in its order."""
    return sorted(ids, key=lambda i: hashlib.sha256(f"{seed}:{i}".encode()).hexdigest())


def folds(ids: Sequence[str], seed: int, count: int = FOLDS) -> Iterator[tuple[list[str], list[str]]]:
    """Yield (the others, held) for each of `count` disjoint parts that are equal to within one problem."""
    order = ranked(ids, seed)
    for part in range(count):
        held = order[part::count]
        out = set(held)
        yield [i for i in order if i not in out], held


def halves(ids: Sequence[str], seed: int) -> tuple[list[str], list[str]]:
    """Return two disjoint halves: one to fit and to order operating points on, one to certify them on."""
    order = ranked(ids, seed)
    return order[0::2], order[1::2]


def digest(ids: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()


def digests(ids: Sequence[str], seed: int) -> dict[str, str]:
    """Return the digests of what was fitted on and of each fold that was held out."""
    return {"fit": digest(ids)} | {f"fold_{k}": digest(held) for k, (_, held) in enumerate(folds(ids, seed), start=1)}
