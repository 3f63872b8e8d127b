"""Options that choose problems: a data set by name or a file, and what of it."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tandem.cli.completion import dataset_name
from tandem.cli.grouped import PROBLEMS, Decorator, with_options
from tandem.cli.options import PATH
from tandem.cli.values import Window
from tandem.errors import UsageError

if TYPE_CHECKING:
    from tandem.types import Problem

DATA_KEYS = ("dataset", "split", "limit", "skip", "holdout_of", "subject", "level", "field", "sample_seed")


def dataset_options(required: bool = True, *, several: bool = False) -> Decorator:
    """Return a decorator that adds every option that `load_problems` reads (DATA_KEYS).

    With `several`, --dataset may be repeated, and each of its names is to be loaded with the other options.
    """
    return with_options(
        click.option(
            "--dataset",
            required=required,
            multiple=several,
            metavar="D",
            shell_complete=dataset_name,
            help="A name (see: tandem datasets list), reasoning-gym:<task>, or a .jsonl, .csv or .parquet file."
            + (" May be repeated." if several else ""),
        ),
        click.option("--split", metavar="S", help="train, test, … as the data set names them."),
        click.option(
            "--limit",
            type=Window(1),
            metavar="N|A-B",
            help="The first N problems; with a seed, N drawn at random. A range: 10-20 is the tenth to the twentieth, "
            "200:400 the second 200.",
        ),
        click.option("--skip", type=click.IntRange(1), metavar="N", help="Leave out the first N, before --limit."),
        click.option(
            "--holdout-of",
            type=PATH,
            metavar="COLLECTION",
            help="Only the problems that `tandem collect --holdout` (or tandem tune) held out of this collection.",
        ),
        click.option("--subject", multiple=True, metavar="S", help="Only problems of this subject; may be repeated."),
        click.option("--level", multiple=True, metavar="L", help="Only problems of this level; may be repeated."),
        click.option(
            "--field",
            multiple=True,
            metavar="KEY=NAME",
            help="The name of a field in the file, as in problem=text; may be repeated.",
        ),
        click.option("--sample-seed", type=int, metavar="N", help="Seed for drawing problems. Default: --seed."),
        group=PROBLEMS,
    )


def load_all(options: dict[str, Any]) -> tuple[list[Problem], dict[str, Any]]:
    """Take these options out of a command's whose --dataset may be repeated; return the problems of all data sets in
    turn, so that a run that is stopped has of each, and how they are described.

    Raises UsageError for everything that is wrong with them, and for an id that two of them have.
    """
    names = list(dict.fromkeys(options["dataset"]))
    own = {key: options.pop(key) for key in DATA_KEYS} | {"seed": options.get("seed")}
    parts = [own | {"dataset": name} for name in names]
    described = [describe_data(part) for part in parts]
    if len(parts) == 1:
        return load_problems(parts[0]), described[0]
    found: dict[str, Problem] = {}
    loaded = [[(name, problem) for problem in load_problems(part)] for name, part in zip(names, parts, strict=True)]
    for name, problem in filter(None, chain.from_iterable(zip_longest(*loaded))):
        if problem.id in found:
            raise UsageError(f"{name} and another data set both have a problem '{problem.id}'; run them apart")
        found[problem.id] = problem.model_copy(update={"metadata": {**problem.metadata, "dataset": name}})
    shared = {key: described[0].get(key) for key in ("split", "limit")}
    return list(found.values()), {"name": "+".join(names), **shared, "parts": described}


def load_problems(options: dict[str, Any]) -> list[Problem]:
    """Take these options out of a command's and return the problems; `seed`, if there, draws them and stays.

    Raises UsageError for everything that is wrong with them.
    """
    from tandem.datasets import load_dataset

    own = {key: options.pop(key) for key in DATA_KEYS}
    skip, limit = _window(own)
    return load_dataset(
        own["dataset"],
        split=own["split"],
        limit=limit,
        skip=skip,
        among=None if own["holdout_of"] is None else _held_out(own["holdout_of"]),
        seed=options.get("seed") if own["sample_seed"] is None else own["sample_seed"],
        fields=parse_fields(own["field"]),
        subjects=own["subject"],
        levels=own["level"],
    )


def describe_data(options: dict[str, Any]) -> dict[str, Any]:
    """Return these options as a run's manifest has them: what is needed to load the same problems again."""
    seed = options.get("seed") if options["sample_seed"] is None else options["sample_seed"]
    skip, limit = _window(options)
    data = {"name": options["dataset"], "split": options["split"], "limit": limit}
    given: dict[str, Any] = {key: list(options[key]) for key in ("subject", "level") if options[key]}
    if skip:
        given["skip"] = skip
    if options["holdout_of"]:
        given["holdout_of"] = str(options["holdout_of"])
    if options["field"]:
        given["fields"] = parse_fields(options["field"])
    return data | given | ({} if seed is None else {"seed": seed})


def _window(options: Mapping[str, Any]) -> tuple[int, int | None]:
    """Return how many problems are skipped, and how many are then taken. Raises UsageError for two ways to skip."""
    skip, limit = options["skip"] or 0, options["limit"]
    if not isinstance(limit, tuple):
        return skip, limit
    if skip:
        raise UsageError("--skip N and a range for --limit both say where to begin; give one of them")
    return limit


def _held_out(collection: Path) -> frozenset[str]:
    from tandem.collection.holdout import held_out

    return held_out(collection)


def parse_fields(pairs: tuple[str, ...]) -> dict[str, str]:
    """Return ("problem=text", …) as a mapping; raises UsageError for what is not a pair or is given twice."""
    fields: dict[str, str] = {}
    for pair in pairs:
        key, equals, name = pair.partition("=")
        if not (key and equals and name):
            raise UsageError(f"--field takes key=name, as in problem=text; this is '{pair}'")
        if key in fields:
            raise UsageError(f"--field {key} is given twice")
        fields[key] = name
    return fields


def unknown_problem(name: str, ids: list[str], where: str) -> Exception:
    """Return the error for a problem that is not in `where`, with the nearest ids; there may be thousands."""
    import difflib

    near = difflib.get_close_matches(name, ids, n=3, cutoff=0.5)
    hint = f"Did you mean {', '.join(near)}?" if near else f"Its {len(ids)} problems begin with {', '.join(ids[:3])}."
    return UsageError(f"there is no problem '{name}' in {where}. {hint}")
