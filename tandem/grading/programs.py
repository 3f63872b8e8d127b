"""Extracting a text's Python program: its last fence that defines what is wanted with what that needs, or the text."""

from __future__ import annotations

import ast
import builtins
import textwrap
import warnings
from collections.abc import Collection, Iterator, Sequence

_PYTHON = ("python", "py", "python3")
_MAX_CHARACTERS = 100_000  # of a text without closed fences; a longer one is not parsed


def extract_program(text: str, wanted: Collection[str] = ()) -> str | None:
    """Return the last closed ```python fence; else, or where that does not parse, one that never closes, if what is
    there parses (a cut answer); else the last closed fence of any kind; else the whole text, if it is Python that
    defines something or the indented body of a function. None if there is none of these.

    Where that fence defines none of the `wanted` names (without any: nothing at all, as an example of use), the last
    one that does is taken; what it needs and another fence defines or imports goes before it.
    """
    closed, opened = _fences(text)
    program = _last(text, closed, opened)
    pieces = [body for _, body in closed] + ([opened[1]] if opened else [])
    return program if program is None or len(pieces) < 2 else _whole(program, pieces, wanted)


def _last(text: str, closed: Sequence[tuple[bool, str]], opened: tuple[bool, str] | None) -> str | None:
    last = dict(closed)  # the last of each kind
    rest = opened[1] if opened is not None and parse_python(opened[1]) else None
    if True in last and (rest is None or parse_python(last[True])):
        return last[True]
    if rest is not None:
        return rest
    if False in last:
        return last[False]
    return None if opened else _bare(text)


def _whole(program: str, pieces: Sequence[str], wanted: Collection[str]) -> str:
    """Return the piece that defines what is wanted, behind those parts of others that it needs."""
    parsed = {piece: tree for piece in pieces if (tree := parse_python(piece))}
    if program not in parsed and program.strip() and not _session(program):
        return program  # cut or broken: an earlier one would hide that
    main = next((piece for piece in (program, *reversed(parsed)) if _defines(parsed.get(piece), wanted)), None)
    if main is None:
        return program
    others = [piece for piece in parsed if piece != main]
    parts, whole = list[str](), parsed[main]
    while others and (needed := _free(whole)):
        found = next((piece for piece in reversed(others) if needed & set(_bound(parsed[piece].body))), None)
        if found is None:
            break
        others.remove(found)
        parts.insert(0, "\n".join(_definitions(found, parsed[found])))
        whole = ast.Module([*parsed[found].body, *whole.body], [])
    return "\n".join([*parts, main])


def _session(code: str) -> bool:
    return any(line.lstrip().startswith(">>>") for line in code.splitlines())


def _defines(tree: ast.Module | None, wanted: Collection[str]) -> bool:
    if tree is None:
        return False
    if wanted:
        return not set(wanted).isdisjoint(_bound(tree.body))
    return any(isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) for node in tree.body)


def _bound(body: Sequence[ast.stmt]) -> Iterator[str]:
    """Yield the names that top-level statements define, assign or import."""
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from ((alias.asname or alias.name).partition(".")[0] for alias in node.names)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (one.id for target in targets for one in ast.walk(target) if isinstance(one, ast.Name))


def _free(tree: ast.Module) -> set[str]:
    """Return the names that a program reads and defines nowhere."""
    nodes = list(ast.walk(tree))
    read = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    made = {node.id for node in nodes if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)}
    made |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    made |= set(_bound([node for node in nodes if isinstance(node, ast.stmt)]))
    return {name for name in read - made if not hasattr(builtins, name)}


def _definitions(code: str, tree: ast.Module) -> Iterator[str]:
    """Yield the source of a piece's definitions, assignments and imports: not its examples of use."""
    lines = code.splitlines()
    for node in tree.body:
        if any(_bound([node])):
            first = min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", ()))])
            yield "\n".join(lines[first - 1 : node.end_lineno])


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


def called_names(tests: str, entry_point: str = "") -> list[str]:
    """Return what a program must define for its tests: the entry point, else the names that they call."""
    if entry_point:
        return [entry_point]
    tree = parse_python(tests)
    nodes = ast.walk(tree) if tree else ()
    called = (node.func.id for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name))
    return [name for name in dict.fromkeys(called) if not hasattr(builtins, name)]
