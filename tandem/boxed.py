r"""The last \boxed{...} of a text: the usual place of a math answer, in data sets and in model output."""

from __future__ import annotations

import re
from typing import NamedTuple

# A box opens (models double the backslash at times), TeX's short form `\boxed 9`, an escaped character, a brace.
_TOKEN = re.compile(
    r"(?P<open>\\{1,2}(?:boxed|fbox)\s*\{)|\\{1,2}boxed\s+(?P<short>-?\d+(?:\.\d+)?|[A-Za-z](?![A-Za-z]))|\\.|[{}]",
    re.DOTALL,
)
_OPENING = r"\\{1,2}(?:boxed|fbox)\s*\{?\s*"
_JOINT = re.compile(  # two roots are one answer: \boxed{2} or $x = \boxed{3}$
    rf"\s*\$*\s*(?:,?\s*(?:\\(?:text|mbox)\s*\{{\s*(?:or|and)\s*\}}|\\(?:quad|lor|vee)|\bor\b|\band\b|,)\s*)+\$*\s*"
    rf"(?:[A-Za-z](?:_\{{?\w\}}?)?\s*=\s*)?{_OPENING}"
)


class _Box(NamedTuple):
    start: int  # of its content
    end: int  # behind its closing brace
    content: str


def last_boxed(text: str) -> str | None:
    r"""Return the stripped content of the last \boxed or \fbox, or None.

    Of nested boxes the inner one counts. Empty and unclosed boxes are skipped. Linear in the length of the text;
    escaped braces are not counted.
    """
    return max(_boxes(text), default=_Box(0, 0, "")).content or None


def joined_boxes(text: str) -> list[str]:
    """Return the contents of the last box and of those that "or", "and" or a comma joins to it, in their order."""
    boxes = sorted(_boxes(text))
    found = boxes[-1:]
    for box in reversed(boxes[:-1]):
        if not _JOINT.fullmatch(text, box.end, found[0].start):
            break
        found.insert(0, box)
    return [box.content for box in found]


def _boxes(text: str) -> list[_Box]:
    stack: list[int | None] = []  # where each open brace's content starts; None for braces that open no box
    found: list[_Box] = []
    for token in _TOKEN.finditer(text):
        if token["open"]:
            stack.append(token.end())
        elif token["short"]:
            found.append(_Box(token.start("short"), token.end(), token["short"]))
        elif token[0] == "{":
            stack.append(None)
        elif token[0] == "}" and stack:
            start = stack.pop()
            if start is not None and (content := text[start : token.start()].strip()):
                found.append(_Box(start, token.end(), content))
    return found
