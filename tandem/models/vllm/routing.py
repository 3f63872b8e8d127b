"""Choosing a request's replica: the one that has its prompt's beginning cached, unless it is overloaded."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping

SLACK = 1.25
_REMEMBERED = 65_536  # keys


def ranked(key: str, members: Iterable[str]) -> list[str]:
    """Return `members` in the order in which they suit a key.

    Rendezvous hashing (Thaler and Ravishankar 1998): a member's rank depends on the key and itself alone, so that
    one that goes moves its own keys and no others.
    """
    return sorted(members, key=lambda member: hashlib.blake2b(f"{member}\n{key}".encode(), digest_size=8).digest())


def bound(loads: Iterable[int], slack: float = SLACK) -> int:
    """Return the most requests that a member may have once one more is placed: ceil(slack x mean load).

    Consistent hashing with bounded loads (Mirrokni, Thorup and Zadimoghaddam, arXiv 1608.01350); `slack` is at least 1.
    """
    counts = list(loads)
    return math.ceil(slack * (sum(counts) + 1) / len(counts))


class Router:
    """Chooses among members by key and load. A key stays where its latest request went, while load allows."""

    def __init__(self, slack: float = SLACK) -> None:
        """Raises ValueError for a `slack` below 1: there would not be room for all."""
        if not slack >= 1:
            raise ValueError(f"slack is {slack}, and must be at least 1")
        self.slack = slack
        self._homes: dict[str, str] = {}

    def choose(self, key: str, loads: Mapping[str, int]) -> str:
        """Return the member for a request; `loads` are the open requests of those that may get it.

        Without a key it is the one with the least to do. With one it is the first within the bound: where the key's
        latest request went (its levels share a growing prompt), then by rank.
        """
        if not key:
            return min(loads, key=loads.__getitem__)
        most = bound(loads.values(), self.slack)
        home = self._homes.pop(key, "")
        if loads.get(home, most) >= most:
            home = next(member for member in ranked(key, loads) if loads[member] < most)
        self._homes[key] = home  # put back behind all others: the first is the one unused for longest
        if len(self._homes) > _REMEMBERED:
            del self._homes[next(iter(self._homes))]
        return home
