"""`tandem datasets`: which there are, what is in them, and where to get those that are not here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tandem.cli.completion import dataset_name
from tandem.cli.grouped import CommandGroup
from tandem.cli.output import emit, plain_table
from tandem.errors import TandemError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tandem.datasets import DatasetCard
    from tandem.types import Problem

_SHOWN = 20  # subjects or levels named in full


@click.group(cls=CommandGroup)
def datasets() -> None:
    """List and show data sets.

    \b
    Examples:
      tandem datasets list
      tandem datasets show math500
      tandem datasets show reasoning-gym:gsm_symbolic
      tandem datasets show my/problems.csv --field problem=text
    """


@datasets.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print the data sets as JSON on standard output.")
def list_datasets(as_json: bool) -> None:
    """List every data set, and whether its files are here.

    \b
    Examples:
      tandem datasets list
      TANDEM_DATA_DIR=~/sets tandem datasets list --json
    """
    from tandem.datasets.cards import cards, plugins

    rows = [_row(card) for card in cards().values()]
    rows += [_plugin_row(name) for name in plugins.names() if name not in cards()]
    headings = ("name", "task", "splits", "here", "title")
    emit(rows, as_json, lambda: [plain_table(headings, map(_cells, rows), left=len(headings), whole=["name"])])


@datasets.command("show")
@click.argument("name", shell_complete=dataset_name)
@click.option("--split", metavar="S", help="The split whose problems are counted and sampled.")
@click.option("--field", multiple=True, metavar="KEY=NAME", help="What a file's fields are called, as in problem=text.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON on standard output.")
def show(name: str, split: str | None, field: tuple[str, ...], as_json: bool) -> None:
    """Show what is known of NAME (a data set or a file): splits, sizes, subjects, levels and one sample problem.

    \b
    Examples:
      tandem datasets show math500 --split train
      tandem datasets show reasoning-gym:gsm_symbolic
      tandem datasets show my/problems.csv --field problem=text --field answer=gold
    """
    from tandem.cli.data_options import parse_fields
    from tandem.datasets import DatasetCard
    from tandem.datasets.cards import GENERATED, cards, load_card, plugins
    from tandem.datasets.loaders import is_path, load_dataset
    from tandem.datasets.locations import locate

    family, fields = name.partition(":")[0], parse_fields(field)
    if name == GENERATED:
        row = _row(cards()[GENERATED])
    elif family == GENERATED:
        made = load_dataset(name, limit=1, split=split, fields=fields)
        row = _row(cards()[GENERATED]) | {"name": name} | _contents(made)
    elif is_path(name) or (name in plugins and name not in cards() and not isinstance(plugins.get(name), DatasetCard)):
        row = {"name": name, "source": "a file" if is_path(name) else "a plugin"}
        row |= _contents(load_dataset(name, split=split, fields=fields))
    else:
        card = load_card(name)
        row = _row(card)
        owner, own = card.split(split)
        if locate(owner, own, fetch=False):
            row |= _contents(load_dataset(name, split=split, fields=fields))
    emit(row, as_json, lambda: _lines(row))


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    splits = ", ".join(row["splits"]) or "made on demand"
    here = ", ".join(split for split, found in row["splits"].items() if found["file"]) or _here(row)
    return row["name"], row["task"], splits, here, row["title"].partition(",")[0]  # `show` has the whole title


def _row(card: DatasetCard) -> dict[str, Any]:
    from tandem.datasets.locations import locate

    splits: dict[str, Any] = {}
    for name in card.splits:
        owner, own = card.split(name)
        path = locate(owner, own, fetch=False)
        splits[name] = {
            "file": str(path) if path else None,
            "file_name": owner.splits[own].file,
            "of": owner.name,
            "verified": owner.splits[own].verified,
            "hub": owner.hub.repository if owner.hub and owner.splits[own].hub else None,
        }
    kept = ("name", "title", "task", "grader", "licence", "source", "default_split", "notes")
    return card.model_dump(mode="json", include=set(kept)) | {"splits": splits}


def _plugin_row(name: str) -> dict[str, Any]:
    from tandem.cli.strategies import first_line
    from tandem.datasets import DatasetCard
    from tandem.datasets.cards import plugins

    row = {"name": name, "title": "", "task": "", "licence": "", "source": "a plugin", "splits": {}}
    try:
        found = plugins.get(name)
    except TandemError as error:  # a broken one must not hide the others
        return row | {"title": str(error)}
    return _row(found) if isinstance(found, DatasetCard) else row | {"title": first_line(found)}


def _here(row: dict[str, Any]) -> str:
    if row["splits"]:
        return "no"
    if row["source"] == "a plugin":
        return "plugin"
    from importlib.util import find_spec

    return "yes" if find_spec("reasoning_gym") else "no"


def _contents(problems: list[Problem]) -> dict[str, Any]:
    def counted(of: Callable[[Problem], str | None]) -> dict[str, int]:
        values = [value for problem in problems if (value := of(problem))]
        return {value: values.count(value) for value in sorted(set(values))}

    sample = problems[0]
    return {
        "problems": len(problems),
        "tasks": counted(lambda p: p.task),
        "without_reference": sum(p.reference is None and p.tests is None for p in problems),
        "subjects": counted(lambda p: p.metadata.get("subject")),
        "levels": counted(lambda p: p.metadata.get("level")),
        "sample": {"id": sample.id, "problem": sample.question, "reference": sample.reference},
    }


def _lines(row: dict[str, Any]) -> Iterator[str]:
    from tandem.reports.run import one_line

    for key in ("name", "title", "task", "grader", "licence", "source"):
        if row.get(key):
            yield f"{key:12} {row[key]}"
    for name, split in row.get("splits", {}).items():
        default = " (default)" if name == row["default_split"] else ""
        where = split["file"] or (f"not here; the hub has it ({split['hub']})" if split["hub"] else "not here")
        tried = "" if split["verified"] else "; never tested on the real file"
        yield f"{'split':12} {name}{default}: {where}{tried}"
    if lacking := sorted({split["file_name"] for split in row.get("splits", {}).values() if not split["file"]}):
        files = ", ".join(lacking)
        yield f"{'to get it':12} put {files} (from {row['source']}) into TANDEM_DATA_DIR, or install the extra hub"
    for note in row.get("notes", []):
        yield f"{'note':12} {note}"
    if "problems" not in row:
        return
    yield f"{'problems':12} {row['problems']:,}" + _rest(row)
    for key in ("subjects", "levels"):
        if counts := row[key]:
            named = [f"{value} ({count:,})" for value, count in list(counts.items())[:_SHOWN]]
            more = f", and {len(counts) - _SHOWN} more" if len(counts) > _SHOWN else ""
            yield f"{key:12} {', '.join(named)}{more}"
    yield f"\n{one_line(row['sample']['id'])}\n{_short(row['sample']['problem'])}"
    yield f"\n-> {_short(row['sample']['reference'] or '(no reference)')}"


def _rest(row: dict[str, Any]) -> str:
    kinds = ", ".join(f"{kind} {count:,}" for kind, count in row["tasks"].items()) if len(row["tasks"]) > 1 else ""
    bare = f"{row['without_reference']:,} without a reference" if row["without_reference"] else ""
    parts = "; ".join(part for part in (kinds, bare) if part)
    return f" ({parts})" if parts else ""


def _short(text: str, most: int = 1500) -> str:
    """Return a text without the terminal codes that a file may hold, and not all of a long one."""
    plain = "".join(c if c.isprintable() or c in "\n\t" else " " for c in text)
    return plain if len(plain) <= most else f"{plain[:most]} …"
