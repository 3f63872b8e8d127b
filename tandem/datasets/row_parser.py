"""Parsing a row of a file into a problem; every error names file and line."""

from __future__ import annotations

import ast
import math
import re
import warnings
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, cast, get_args

from tandem.boxed import last_boxed
from tandem.datasets.cards import DatasetCard, Fields, Split
from tandem.errors import UsageError, nearest
from tandem.types import CodeTests, Message, Problem, TaskKind, guess_task

MAX_CHARACTERS = 100_000
_MARKS = {"whole": "", "boxed": "\\boxed", "after_hashes": "####"}  # what an answer field must contain
_LETTER = re.compile(r"\([A-Z]\)")


@dataclass(frozen=True, slots=True)
class DataFile:
    path: Path
    fields: Fields
    stem: str  # prefix of generated ids
    task: TaskKind | None = None  # None: from the row, else guessed
    answers: bool = False  # every row must have one
    tested: bool = False  # every row must have tests
    grader: str | None = None
    template: str = "{problem}"
    part: Split | None = None  # of a card: which rows belong to the split


def card_file(path: Path, card: DatasetCard, split: str) -> DataFile:
    return DataFile(
        path,
        card.fields,
        stem=f"{card.name}-{split}",
        task=card.task,
        answers=True,
        grader=card.grader,
        template=card.template,
        part=card.splits[split],
    )


def parse_row(values: dict[str, Any], number: int, source: DataFile) -> Problem | None:
    """Return the problem of one row, None if the row belongs to another split; raises UsageError for a bad row."""
    row, fields = _Row(values, f"{source.path}:{number}"), source.fields
    own_id = row.text(fields.id)
    if source.part and not _belongs(row, own_id, source.part):
        return None
    text = row.text(fields.problem)
    if text is None:
        has = ", ".join(row.values) or "none"
        raise UsageError(
            f"{row.where}: no field {' or '.join(fields.problem)}; the line's fields: {has}"
            + (f"; name yours, as in --field problem={next(iter(row.values))}" if row.values else "")
        )
    if not text.strip():
        raise UsageError(f"{row.where}: the problem is empty")
    if len(text) > MAX_CHARACTERS:
        raise UsageError(f"{row.where}: the problem has {len(text):,} characters; at most {MAX_CHARACTERS:,} are taken")
    tests = _tests(row, fields)
    if source.tested and tests is None:
        raise UsageError(f"{row.where}: no tests in the field {' or '.join(fields.tests)}")
    answer = row.text(fields.answer) or ""
    answer = _unix(answer) if tests else answer.strip()
    if source.answers and (not answer.strip() or _MARKS[fields.take] not in answer):
        raise UsageError(f"{row.where}: no answer in the field {' or '.join(fields.answer)}")
    reference = _reference(answer, fields)
    choice = fields.letters and reference is not None and _LETTER.fullmatch(reference) is not None
    task: TaskKind = "choice" if choice else row.kind(fields.task) or source.task or _kind(text, reference, tests)
    return Problem(
        id=f"{fields.id_prefix}{own_id}" if own_id else f"{source.stem}-{number:05d}",
        messages=(
            Message(role="user", content=_fill_template(text, "{problem}" if choice else source.template, tests)),
        ),
        task=task,
        reference=reference,
        tests=tests,
        grader=None if choice else source.grader,
        metadata={key: value for key, field in fields.metadata.items() if (value := row.text((field,)))},
    )


@dataclass(frozen=True, slots=True)
class _Row:
    values: dict[str, Any]
    where: str  # file and line

    def text(self, names: tuple[str, ...]) -> str | None:
        """Return the first of these fields that is present and not null; numbers become text."""
        name = self._first(names)
        return None if name is None else self._checked(name, self.values[name])

    def code(self, names: tuple[str, ...]) -> str:
        """Return the Python in the first of these fields, as text or as a list of lines; "" without one."""
        name = self._first(names)
        if name is None:
            return ""
        value = self.values[name]
        parts = [self._checked(name, part) for part in (value if isinstance(value, list) else [value])]
        return _unix("\n".join(part.rstrip() for part in parts))

    def kind(self, names: tuple[str, ...]) -> TaskKind | None:
        kind = self.text(names)
        if kind is not None and kind not in get_args(TaskKind):
            raise UsageError(f"{self.where}: {nearest('task', kind, get_args(TaskKind))}")
        return cast("TaskKind | None", kind)

    def _first(self, names: tuple[str, ...]) -> str | None:
        """Return the first of these fields with a value; NaN is how tables write that there is none."""
        return next((name for name in names if not _absent(self.values.get(name))), None)

    def _checked(self, name: str, value: Any) -> str:
        if isinstance(value, float) and math.isinf(value):
            raise UsageError(f"{self.where}: the field '{name}' is infinite")
        if isinstance(value, bool) or not isinstance(value, (str, int, float, Decimal)):
            kind = type(value).__name__
            raise UsageError(f"{self.where}: the field '{name}' must be text or a number, this is a {kind}")
        if re.search("[\ud800-\udfff]", text := str(value)):
            raise UsageError(f"{self.where}: the field '{name}' contains a lone surrogate")
        return text


def _absent(value: Any) -> bool:
    return value is None or (isinstance(value, (float, Decimal)) and math.isnan(value))


def _belongs(row: _Row, own_id: str | None, part: Split) -> bool:
    if part.ids is not None:
        try:
            number = int(own_id or "")
        except ValueError:
            raise UsageError(f"{row.where}: the id must be a number, this is '{own_id}'") from None
        if not part.ids[0] <= number <= part.ids[1]:
            return False
    return all(row.text((key,)) == value for key, value in part.where.items())


def _tests(row: _Row, fields: Fields) -> CodeTests | None:
    code, entry_point = row.code(fields.tests), row.text(fields.entry_point) or ""
    if not code.strip():
        return None
    if entry_point and not entry_point.isidentifier():
        raise UsageError(f"{row.where}: the entry point must be a function's name, this is '{entry_point[:80]}'")
    prelude = row.code(fields.prelude)
    whole = "\n".join(part for part in (row.code(fields.setup), code, fields.tests_end) if part.strip())
    for what, python in (("tests are", whole), ("prelude is", prelude)):
        try:
            with warnings.catch_warnings(action="ignore"):  # "invalid escape sequence" and the like
                ast.parse(python)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            reason = f"line {error.lineno}: {error.msg}" if isinstance(error, SyntaxError) else str(error)
            raise UsageError(f"{row.where}: the {what} not valid Python ({reason})") from None
    return CodeTests(code=f"{whole}\n", entry_point=entry_point, prelude=prelude)


def _fill_template(text: str, template: str, tests: CodeTests | None) -> str:
    """Return the problem in its template; the model must see the name of the tested function."""
    parts = {"{problem}": text.rstrip() if tests else text, "{tests}": tests.code.strip() if tests else ""}
    filled = re.sub("|".join(map(re.escape, parts)), lambda match: parts[match[0]], template)
    if tests and tests.entry_point and not re.search(rf"\b{re.escape(tests.entry_point)}\b", filled):
        filled += f"\n\nCall the function `{tests.entry_point}`."
    return filled


def _unix(code: str) -> str:
    return code.replace("\r\n", "\n").replace("\r", "\n")


def _reference(answer: str, fields: Fields) -> str | None:
    """Return the reference part of the answer field; None if it is blank (two solutions of MATH have an empty box)."""
    if fields.take == "boxed":
        return last_boxed(answer)
    if fields.take == "after_hashes":
        return answer.rpartition("####")[2].replace(",", "").strip() or None
    return answer if answer.strip() else None


def _kind(text: str, reference: str | None, tests: CodeTests | None) -> TaskKind:
    """Guess the kind of a row in a user's file: tests mean code; a reference with digits or LaTeX means math."""
    if tests:
        return "code"
    return "math" if reference is not None and guess_task(reference) == "math" else guess_task(text)
