"""How a prelude and a candidate's code make one program: a whole definition, or a body that continues the prelude."""

from __future__ import annotations

import symtable
import textwrap

_FAULTS = (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError)


def stages(prelude: str, code: str, entry_point: str) -> list[str]:
    """Return the sources to execute one after the other in the same namespace.

    Code that stands by itself (and defines the entry point, if the prelude only opens it) runs after the prelude.
    Otherwise it is taken for the body that continues the prelude's last definition: as it is, indented by four, or
    with only its first line indented (what is left of a body after its surrounding blanks were cut off).
    """
    prelude, code = prelude.replace("\r\n", "\n"), code.replace("\r\n", "\n")
    alone = [standing(prelude), code]
    if not entry_point or (compiles(code) and (defines(code, entry_point) or not _opens(prelude, entry_point))):
        return alone
    head = prelude.rstrip() + "\n"
    for body in (code, textwrap.indent(code, "    "), "    " + code.lstrip()):
        if compiles(head + body):
            return [head + body]
    return alone


def standing(prelude: str) -> str:
    """Return the longest head of the prelude that compiles: one that ends in an open definition loses that line."""
    lines = prelude.replace("\r\n", "\n").split("\n")
    for end in range(len(lines), max(0, len(lines) - 200), -1):
        if compiles(head := "\n".join(lines[:end])):
            return head
    return ""


def compiles(code: str) -> bool:
    """Whether `code` is a program by itself."""
    try:
        compile(code, "<candidate>", "exec")
    except _FAULTS:
        return False
    return True


def defines(code: str, name: str) -> bool:
    """Whether `code` binds `name` at its top level."""
    try:
        symbol = symtable.symtable(code, "<candidate>", "exec").lookup(name)
    except (*_FAULTS, KeyError):
        return False
    return symbol.is_assigned() or symbol.is_imported()


def _opens(prelude: str, name: str) -> bool:
    return f"def {name}(" in prelude
