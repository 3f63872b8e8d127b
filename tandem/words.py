"""Words for numbers and verdicts, and a line that is not too long."""

from __future__ import annotations

VERDICTS = {True: "right", False: "wrong", None: "not graded"}


def counted(number: int, what: str, several: str = "") -> str:
    """Return ``1 problem`` or ``1,200 problems``; `several` is the plural that no s makes."""
    return f"{number:,} {what if number == 1 else several or f'{what}s'}"


def shortened(text: str, longest: int) -> str:
    """Return a text of at most so many characters: what is cut ends in an ellipsis."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
