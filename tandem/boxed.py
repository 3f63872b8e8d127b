r"""The last \boxed{...} of a text: the usual place of a math answer, in data sets and in model output."""

from __future__ import annotations

import re

# A box opens (models double the backslash at times), TeX's short form `\boxed 9`, an escaped character, a brace.
_TOKEN = re.compile(
    r"(?P<open>\\{1,2}(?:boxed|fbox)\s*\{)|\\{1,2}boxed\s+(?P<short>-?\d+(?:\.\d+)?|[A-Za-z](?![A-Za-z]))|\\.|[{}]",
    re.DOTALL,
)


def last_boxed(text: str) -> str | None:
    r"""Return the stripped content of the last \boxed or \fbox, or None.

    Of nested boxes the inner one counts. Empty and unclosed boxes are skipped. Linear in the length of the text;
    escaped braces are not counted.
    """
    stack: list[int | None] = []  # where each open brace's content starts; None for braces that open no box
    best = (-1, "")
    for token in _TOKEN.finditer(text):
        if token["open"]:
            stack.append(token.end())
        elif token["short"]:
            best = (token.start("short"), token["short"])
        elif token[0] == "{":
            stack.append(None)
        elif token[0] == "}" and stack:
            start = stack.pop()
            if start is not None and start > best[0] and (content := text[start : token.start()].strip()):
                best = (start, content)
    return best[1] or None
