r"""The spans of a text that may state a worded answer, in order of priority."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tandem.boxed import last_boxed

TAIL_LINES, TAIL_CHARACTERS = 3, 2000
PHRASE = re.compile(r"\banswer\b[^.:=\n]{0,60}?(?:\bis\b|[:=\n])[\s*:=]*(?P<rest>[^\s*:=].*)", re.IGNORECASE)
_BOLD = re.compile(r"\*\*(.+?)\*\*")


def tail(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return "\n".join(lines[-TAIL_LINES:])[-TAIL_CHARACTERS:]


def answer_spans(text: str) -> Iterator[str]:
    """Yield the box, the text after "the answer is", the bold part of the last line, and the last line itself."""
    if boxed := last_boxed(text):
        yield strip_markup(boxed)
    end = tail(text)
    if stated := [match["rest"] for match in PHRASE.finditer(end)]:
        yield strip_markup(stated[-1])
    line = end.rpartition("\n")[2]
    if bold := _BOLD.findall(line):
        yield strip_markup(bold[-1])
    yield strip_markup(line)


def strip_markup(text: str) -> str:
    bare = re.sub(r"\\(?:text\w*|mbox|mathrm|mathbf)\s*\{([^{}]*)\}", r"\1", text)
    return re.sub(r"\\(?=[^A-Za-z\s])", "", bare).strip(" $*_`")
