"""Extracting a text's Python program: its last fence, or the whole text."""

from __future__ import annotations

import ast
import textwrap
import warnings

_PYTHON = ("python", "py", "python3")
_MAX_CHARACTERS = 100_000  # of a text without closed fences; a longer one is not parsed


def extract_program(text: str) -> str | None:
    """Return the last closed ```python fence; else, or where that does not parse, one that never closes, if what is
    there parses (a cut answer); else the last closed fence of any kind; else the whole text, if it is Python that
    defines something or the indented body of a function. None if there is none of these.
    """
    closed, opened = _fences(text)
    last = dict(closed)  # the last of each kind
    rest = opened[1] if opened is not None and parse_python(opened[1]) else None
    if True in last and (rest is None or parse_python(last[True])):
        return last[True]
    if rest is not None:
        return rest
    if False in last:
        return last[False]
    return None if opened else _bare(text)


def _fences(text: str) -> tuple[list[tuple[bool, str]], tuple[bool, str] | None]:
    """Return the closed fences and the open one at the end, each as (whether it says python, its text)."""
    closed: list[tuple[bool, str]] = []
    kind: bool | None = None
    indent, body = "", list[str]()
    for line in text.splitlines():
        bare = line.strip()
        if not bare.startswith("```"):
            body.append(line.removeprefix(indent))
            continue
        language = bare.strip("`").strip().lower()
        if kind is not None and not language:
            closed.append((kind, "\n".join(body)))
            kind = None
        else:  # a fence with a language opens one, even where the last was never closed
            kind, indent, body = language in _PYTHON, line[: len(line) - len(line.lstrip())], []
    return closed, None if kind is None else (kind, "\n".join(body))


def _bare(text: str) -> str | None:
    tree = parse_python(text.strip("\n"))
    if tree is not None:
        defined = any(isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) for node in tree.body)
        return text.strip("\n") if defined else None
    body = text.strip("\n").rstrip()
    indented = body[:1] in (" ", "\t") and parse_python("def _():\n" + textwrap.indent(textwrap.dedent(body), "    "))
    return body if indented else None


def parse_python(code: str) -> ast.Module | None:
    """Return the syntax tree of a text that is Python and not endless, else None."""
    if not code.strip() or len(code) > _MAX_CHARACTERS:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # no warnings about odd escapes in strings
            return ast.parse(code)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None
