"""Numbers in words: what is counted, in the singular where there is one."""

from __future__ import annotations


def counted(number: int, what: str, several: str = "") -> str:
    """Return ``1 problem`` or ``1,200 problems``; `several` is the plural that no s makes."""
    return f"{number:,} {what if number == 1 else several or f'{what}s'}"
