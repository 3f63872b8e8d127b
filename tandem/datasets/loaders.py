"""From a data set's name or a file's path to problems, in an order that is the same on every machine."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, cast, get_args

from tandem.boxed import last_boxed
from tandem.datasets.cards import Card, Fields, card_of_file, load_card
from tandem.datasets.jsonl import read_rows
from tandem.errors import UsageError, nearest
from tandem.paths import shipped
from tandem.types import Message, Problem, TaskKind, guess_task

MAX_CHARACTERS = 100_000
_OWN = Fields(id=("id", "unique_id"), task=("task",), metadata={"subject": "subject", "level": "level"})
_NAMEABLE = ("problem", "answer", "id", "task")
_MARKS = {"whole": "", "boxed": "\\boxed", "after_hashes": "####"}  # what an answer field must have in it
_log = logging.getLogger(__name__)


def load_dataset(
    name_or_path: str | Path,
    *,
    split: str | None = None,
    limit: int | None = None,
    seed: int | None = None,
    fields: Mapping[str, str] | None = None,
) -> list[Problem]:
    """Return the problems of a public data set by name, or of any JSONL file (plain or .gz) by path.

    With a `seed` the problems come in the order of sha256("seed:id"); `limit` takes the first of that order, else of
    the file's. `fields` names the fields of a file by path, e.g. {"problem": "task_text", "answer": "gold"} (keys:
    problem, answer, id, task). A path whose file name belongs to a public data set is read as that set. Ids are the
    file's own, else set, split and line number: "gsm8k-train-00017". Raises UsageError for everything that is wrong
    with the name, the file or a line of it.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"the limit must be at least 1, not {limit}")
    problems = _read(_source(str(name_or_path), split, fields))
    if seed is None:
        chosen = list(islice(problems, limit))
    else:
        chosen = sorted(problems, key=lambda p: hashlib.sha256(f"{seed}:{p.id}".encode()).digest())[:limit]
    if not chosen:
        raise UsageError(f"{name_or_path}: the file holds no problems")
    return chosen


@dataclass(frozen=True, slots=True)
class _Source:
    """A file and how it is read."""

    path: Path
    fields: Fields
    stem: str  # made ids start with it
    task: TaskKind | None = None  # None: the row says it, else it is guessed
    answers: bool = False  # every row must have one


def _source(name: str, split: str | None, fields: Mapping[str, str] | None) -> _Source:
    if not _is_path(name):
        if fields:
            raise UsageError(f"fields are for files given by path; '{name}' has a card")
        card, split = load_card(name).split(split)
        return _of_card(_find(card, split), card, split)
    path = Path(name).expanduser()
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    owner = None if fields else card_of_file(path)
    if owner is not None:
        card, own_split = owner
        if split not in (None, own_split):
            raise UsageError(f"{path}: this file is {card.name}'s split '{own_split}', not '{split}'")
        return _of_card(path, card, own_split)
    if split is not None:
        raise UsageError(f"{path}: a file has no splits; leave out the split '{split}'")
    named = dict(fields or {})
    for key in named:
        if key not in _NAMEABLE:
            raise nearest("field", key, _NAMEABLE)
    own = _OWN.model_copy(update={key: (field,) for key, field in named.items()})
    return _Source(path, own, path.name.removesuffix(".gz").removesuffix(".jsonl"), answers="answer" in named)


def _of_card(path: Path, card: Card, split: str) -> _Source:
    return _Source(path, card.fields, f"{card.name}-{split}", card.task, answers=True)


def _is_path(name: str) -> bool:
    return "/" in name or os.sep in name or name.endswith((".jsonl", ".json", ".gz"))


def _find(card: Card, split: str) -> Path:
    file = card.splits[split].file
    data_dir = os.environ.get("TANDEM_DATA_DIR")
    beside = shipped("data").parent.parent / "shared" / "data"  # for work on Tandem itself: beside the checkout
    places = [Path(data_dir).expanduser()] if data_dir else []
    places += [Path("data"), shipped("data")] + ([beside] if beside.is_dir() else [])
    for place in places:
        for path in (place / file, place / f"{file}.gz"):
            if path.is_file():
                if not card.splits[split].verified:
                    _log.warning("%s, split %s: this card was never tried on the real file", card.name, split)
                return path
    looked = ", ".join(str(place) for place in dict.fromkeys(place.resolve() for place in places))
    raise UsageError(
        f"no {file} (or {file}.gz) for {card.name}, split '{split}'. Looked in {looked}. "
        f"Get it from {card.source} and set TANDEM_DATA_DIR to its folder."
    )


def _read(source: _Source) -> Iterator[Problem]:
    seen: dict[str, int] = {}
    for number, row in read_rows(source.path):
        problem = _problem(_Row(row, f"{source.path}:{number}"), source, number)
        if problem.id in seen:
            raise UsageError(f"{source.path}:{number}: the id '{problem.id}' is already on line {seen[problem.id]}")
        seen[problem.id] = number
        yield problem


@dataclass(frozen=True, slots=True)
class _Row:
    values: dict[str, Any]
    where: str  # file and line

    def text(self, names: tuple[str, ...]) -> str | None:
        """Return the first of these fields that is there and not null; numbers become text."""
        for name in names:
            value = self.values.get(name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, (str, int, float)):
                kind = type(value).__name__
                raise UsageError(f"{self.where}: the field '{name}' must be text or a number, this is a {kind}")
            if re.search("[\ud800-\udfff]", text := str(value)):
                raise UsageError(f"{self.where}: the field '{name}' holds half a character (a lone surrogate)")
            return text
        return None


def _problem(row: _Row, source: _Source, number: int) -> Problem:
    fields = source.fields
    text = row.text(fields.problem)
    if text is None:
        has = ", ".join(row.values) or "none"
        raise UsageError(f"{row.where}: no field {' or '.join(fields.problem)}; the line's fields: {has}")
    if not text.strip():
        raise UsageError(f"{row.where}: the problem is empty")
    if len(text) > MAX_CHARACTERS:
        raise UsageError(f"{row.where}: the problem has {len(text):,} characters; at most {MAX_CHARACTERS:,} are taken")
    answer = (row.text(fields.answer) or "").strip()
    if source.answers and (not answer or _MARKS[fields.take] not in answer):
        raise UsageError(f"{row.where}: no answer in the field {' or '.join(fields.answer)}")
    reference = _reference(answer, fields)
    kind = row.text(fields.task)
    if kind is not None and kind not in get_args(TaskKind):
        raise UsageError(f"{row.where}: {nearest('task', kind, get_args(TaskKind))}")
    return Problem(
        id=row.text(fields.id) or f"{source.stem}-{number:05d}",
        messages=(Message(role="user", content=text),),
        task=cast("TaskKind", kind) if kind else source.task or _kind(text, reference),
        reference=reference,
        metadata={key: value for key, field in fields.metadata.items() if (value := row.text((field,)))},
    )


def _reference(answer: str, fields: Fields) -> str | None:
    """Return what of the answer field is the reference; None if it is blank (two solutions of MATH box nothing)."""
    if fields.take == "boxed":
        return last_boxed(answer)
    if fields.take == "after_hashes":
        return answer.rpartition("####")[2].replace(",", "").strip() or None
    return answer or None


def _kind(text: str, reference: str | None) -> TaskKind:
    """Guess the kind of a row in a user's file: a reference with digits or LaTeX says more than the question."""
    return "math" if reference is not None and guess_task(reference) == "math" else guess_task(text)
