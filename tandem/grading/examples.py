"""The examples in a question, in doctest's form: a line `>>> f(1)` and its result below.

Nothing but the question's own text is read, so that an example is what any reader of the prompt has. Asserts are no
examples: where a prompt shows some, as MBPP's does, they are the grader's own tests, and to choose an answer by these
would be to grade it before it is given.

Docstrings are read as they are written, not as Python would read them: authors write `'a\\nb'` there for a line break.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass

from tandem.grading.programs import parse_python

_MAX_CHARACTERS = 100_000  # of a question; a longer one is not searched
_OPENS = re.compile(r"^([ \t]*)[rR]?(?:\"\"\"|''')[ \t]*(?=>>>)", re.MULTILINE)  # a docstring whose first line is one
_CLOSES = re.compile(r"(?:\"\"\"|'''|```\w*)[ \t]*$", re.MULTILINE)  # a docstring, a fence: no part of what is printed
_NO_SPACE = re.compile(r"^([ \t]*>>>)(?=[^ >\n])", re.MULTILINE)
_BLANK = re.compile(r"\n[ \t]*\n")


@dataclass(frozen=True, slots=True)
class DoctestExample:
    """A statement, what it is shown to print, and the exception that it is shown to raise ("" where none is)."""

    source: str
    wanted: str
    raises: str = ""

    @property
    def tells(self) -> bool:
        """Whether it shows a result; otherwise it only prepares later examples."""
        return bool(self.wanted or self.raises)


def examples_of(question: str) -> tuple[DoctestExample, ...]:
    """Return the examples in order, with those that prepare others; none if no example shows a result.

    What doctest cannot read, or is no Python, is left out.
    """
    if ">>>" not in question or len(question) > _MAX_CHARACTERS:
        return ()
    import doctest

    text = _CLOSES.sub("", _OPENS.sub(r"\1", question.replace("\r\n", "\n")))
    text = _NO_SPACE.sub(r"\1 ", text)
    found = []
    for paragraph in _BLANK.split(text):  # one by one, so that one refused by doctest does not lose the others
        try:
            shown = doctest.DocTestParser().get_examples(paragraph)
        except ValueError:
            continue
        for one in shown:
            tree = parse_python(one.source)
            if tree is not None and not one.options.get(doctest.SKIP):
                wanted = one.want or ("True\n" if _equates(tree) else "")
                found.append(DoctestExample(one.source, wanted, (one.exc_msg or "").strip()))
    return tuple(found) if any(one.tells for one in found) else ()


def _equates(tree: ast.Module) -> bool:
    """Whether a line has the form `f(1) == 2`, which includes its result."""
    match tree.body:
        case [ast.Expr(ast.Compare(ops=[ast.Eq()]))]:
            return True
    return False
