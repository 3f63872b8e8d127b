"""Loading problems from a data set's name or a file's path, in the same order on every machine."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from tandem.datasets.cards import GENERATED, DatasetCard, Fields, card_of_file, cards, load_card, plugins
from tandem.datasets.formats import is_file_name, read_rows
from tandem.datasets.locations import locate, missing
from tandem.datasets.row_parser import DataFile, card_file, parse_row
from tandem.errors import TandemError, UsageError, nearest
from tandem.types import Problem

_OWN = Fields(
    id=("id", "unique_id"),
    task=("task",),
    tests=("tests",),
    entry_point=("entry_point",),
    prelude=("prelude",),
    metadata={"subject": "subject", "level": "level"},
)
_LIKELY_ANSWERS = (
    "answer",
    "gold",
    "expected",
    "target",
    "label",
    "solution",
    "reference",
    "correct",
    "result",
    "output",
)
NAMEABLE = ("problem", "answer", "id", "task", "tests", "entry_point", "prelude", "subject", "level")


def load_dataset(
    name_or_path: str | Path,
    *,
    split: str | None = None,
    limit: int | None = None,
    skip: int = 0,
    seed: int | None = None,
    fields: Mapping[str, str] | None = None,
    subjects: Sequence[str] = (),
    levels: Sequence[str] = (),
    among: Collection[str] | None = None,
) -> list[Problem]:
    """Return the problems of a public data set or a plugin's by name, or of a JSONL, CSV or Parquet file by path.

    `subjects` and `levels` keep the problems of these (in any case; "5" is "Level 5"), `among` those with these ids.
    With a `seed` the problems come in the order of sha256("seed:id"); `limit` takes the first of that order, else of
    the file's, after the `skip` first. For reasoning-gym:<task> skip + `limit` problems (default 100) are made with
    `seed` (default 0), and then chosen from. `fields` names the fields of
    a file by path, e.g. {"problem": "task_text", "answer": "gold"} (keys: NAMEABLE). A path with the file name of a
    public data set is read as that set. Ids are the file's own, else set, split and line number: "gsm8k-train-00017".
    Raises UsageError for any error in the name, the file or a line of it, MissingPackageError if an extra is needed,
    TandemError if the hub or a plugin fails.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"the limit must be at least 1, not {limit}")
    name = str(name_or_path)
    family, _, task = name.partition(":")
    made = family == GENERATED
    problems: Iterable[Problem]
    if made:
        problems = _made(task, split, None if limit is None else skip + limit, seed, fields)
    elif name not in cards() and not is_path(name) and name in plugins:
        problems = _plugged(name, split, fields)
    else:
        problems = _read(_source(name, split, fields))
    if subjects or levels:
        problems = _keep(list(problems), name, {"subject": subjects, "level": levels})
    if among is not None:
        problems = (problem for problem in problems if problem.id in among)
    if seed is not None and not made:
        problems = sorted(problems, key=lambda p: hashlib.sha256(f"{seed}:{p.id}".encode()).digest())
    chosen = list(islice(problems, min(skip, sys.maxsize), limit and min(skip + limit, sys.maxsize)))
    if not chosen:
        chosen_from = subjects or levels or skip or among is not None
        raise UsageError(f"{name}: {'no problem is left' if chosen_from else 'the file holds no problems'}")
    return chosen


def _made(
    task: str, split: str | None, limit: int | None, seed: int | None, fields: Mapping[str, str] | None
) -> Iterator[Problem]:
    from tandem.datasets.reasoning_gym import generate

    if split is not None or fields:
        raise UsageError(f"{GENERATED}:{task}: problems are generated; leave out the {'split' if split else 'fields'}")
    return generate(load_card(GENERATED), task, size=limit, seed=seed)


def _plugged(name: str, split: str | None, fields: Mapping[str, str] | None) -> Iterator[Problem]:
    found: DatasetCard | Callable[[str | None], Iterable[Problem]] = plugins.get(name)
    if isinstance(found, DatasetCard):
        yield from _read(_source(name, split, fields))
        return
    if fields:
        raise UsageError(f"fields are for files given by path; '{name}' comes from a plugin")
    if not callable(found):
        raise TandemError(
            f"data set '{name}': its entry point must be a Card or a function, not {type(found).__name__}"
        )
    seen: set[str] = set()
    try:
        for problem in found(split):
            if not isinstance(problem, Problem):
                raise TandemError(f"data set '{name}' returned a {type(problem).__name__} instead of a Problem")
            if problem.id in seen:
                raise TandemError(f"data set '{name}' returned the id '{problem.id}' twice")
            seen.add(problem.id)
            yield problem
    except TandemError:
        raise
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0]
        raise TandemError(f"data set '{name}' failed in its plugin ({type(error).__name__}: {reason})") from error


def _source(name: str, split: str | None, fields: Mapping[str, str] | None) -> DataFile:
    if not is_path(name):
        if fields:
            raise UsageError(f"fields are for files given by path; '{name}' has a card")
        card, split = load_card(name).split(split)
        path = locate(card, split)
        if path is None:
            raise missing(card, split)
        return card_file(path, card, split)
    path = _file(name)
    owner = None if fields else card_of_file(path)
    if owner is not None:
        card, splits = owner
        own = split or (card.default_split if card.default_split in splits else splits[0])
        if own not in splits:
            raise UsageError(f"{path}: this file is {card.name}'s split '{', '.join(splits)}', not '{split}'")
        return card_file(path, card, own)
    if split is not None:
        raise UsageError(f"{path}: a file has no splits; leave out the split '{split}'")
    named = dict(fields or {})
    for key in named:
        if key not in NAMEABLE:
            raise nearest("field", key, NAMEABLE)
    metadata = {key: named.pop(key) for key in ("subject", "level") if key in named}
    changes: dict[str, Any] = {key: (field,) for key, field in named.items()}
    changes["metadata"] = _OWN.metadata | metadata
    own_fields = _OWN.model_copy(update=changes)
    stem = Path(path.name.removesuffix(".gz")).stem
    return DataFile(path, own_fields, stem, answers="answer" in named, tested="tests" in named)


def _file(name: str) -> Path:
    path = Path(name).expanduser()
    try:
        if path.is_dir():
            raise UsageError(f"{path} is a folder; name the file in it")
        if path.is_file():
            return path
    except OSError as error:  # a name that is too long, a folder without permission
        raise UsageError(f"{path}: {error.strerror}") from None
    raise UsageError(f"{path}: no such file")


def answer_hint(data: Mapping[str, Any]) -> str:
    """Return how the user names the column of a file's answers, from its own columns; "" where that is no use.

    `data` describes what was loaded; of several data sets the first is looked at.
    """
    first = data.get("parts", [data])[0]
    name, fields = str(first["name"]), first.get("fields")
    if not is_path(name):
        return ""
    source = _source(name, None, fields)
    named = {field for _, value in source.fields for field in (value if isinstance(value, tuple) else ())}
    columns = [column for column in next(read_rows(source.path), (0, {}))[1] if column not in named]
    likely = [column for column in columns if any(word in column.lower() for word in _LIKELY_ANSWERS)]
    if not columns:
        return f"{name} has no column that could hold the answers: add a column `answer`"
    if likely or len(columns) == 1:
        return f"name the column of the answers: --field answer={(likely or columns)[0]}"
    return f"name the column of the answers with --field answer=COLUMN; {name} has {', '.join(columns)}"


def is_path(name: str) -> bool:
    return "/" in name or os.sep in name or is_file_name(name)


def _read(source: DataFile) -> Iterator[Problem]:
    seen: dict[str, int] = {}
    for number, row in read_rows(source.path):
        problem = parse_row(row, number, source)
        if problem is None:
            continue
        if problem.id in seen:
            raise UsageError(f"{source.path}:{number}: the id '{problem.id}' is already on line {seen[problem.id]}")
        seen[problem.id] = number
        yield problem


def _keep(problems: list[Problem], name: str, wanted: Mapping[str, Sequence[str]]) -> list[Problem]:
    """Return the problems with these subjects and levels (none given: all); an unknown one is an error."""
    kept = problems
    for key, values in wanted.items():
        known = {_plain(value): value for p in problems if (value := p.metadata.get(key))}
        if values and not known:
            raise UsageError(f"{name} has no {key}s to filter by")
        for value in values:
            if _plain(value) not in known:
                raise nearest(f"{key} of {name}", value, known.values())
        plain = {_plain(value) for value in values}
        kept = [p for p in kept if not plain or _plain(p.metadata.get(key, "")) in plain]
    return kept


def _plain(value: str) -> str:
    """Return a subject or level normalised for comparison: "Level 5" is "5", "Number Theory" is "number_theory"."""
    return value.strip().casefold().removeprefix("level ").replace(" ", "_")
