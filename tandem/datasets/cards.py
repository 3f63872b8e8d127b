"""Cards of the public data sets: one YAML file each under data/, with its source and the meaning of its fields."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict

from tandem.errors import UsageError, nearest
from tandem.paths import shipped
from tandem.registry import Registry
from tandem.types import TaskKind

GENERATED = "reasoning-gym"  # the card whose problems are generated: reasoning-gym:<task>

plugins = Registry("data set", "datasets", {})  # group tandem.datasets: a Card, or load(split) -> Iterable[Problem]


class _CardPart(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Fields(_CardPart):
    """Field names of a row, in the order they are tried. The defaults are for a user's own file."""

    problem: tuple[str, ...] = ("problem", "question", "prompt", "text")
    answer: tuple[str, ...] = ("answer", "reference", "target", "expected", "expected_answer")
    id: tuple[str, ...] = ()
    id_prefix: str = ""
    task: tuple[str, ...] = ()
    take: Literal["whole", "boxed", "after_hashes"] = "whole"  # which part of the answer field is the reference
    letters: bool = False  # a reference like "(B)" makes the row a choice, graded by its letter
    tests: tuple[str, ...] = ()  # Python, or a list of lines of it
    setup: tuple[str, ...] = ()  # Python between the candidate and the tests
    tests_end: str = ""  # Python after the tests, the same for every row
    entry_point: tuple[str, ...] = ()
    prelude: tuple[str, ...] = ()
    metadata: dict[str, str] = {}  # key in Problem.metadata -> field


class Hub(_CardPart):
    """Its source on the data-set hub: a repository and its configurations, read one after another.

    `label` is the field that gets the configuration's name.
    """

    repository: str
    configs: tuple[str, ...] = ("default",)
    label: str = ""


class Split(_CardPart):
    """One file of a data set (plain or with `.gz`), or a part of it, or another card's split (`same_as: card/split`).

    The file is searched in every location; an absolute path is used as it is. `ids` keeps the rows with an id in this
    range, `where` those with these field values. `hub` names the splits on the hub that make up the file.
    """

    file: str = ""
    same_as: str = ""
    verified: bool = False  # whether this card was tested on the real file
    ids: tuple[int, int] | None = None
    where: dict[str, str] = {}
    hub: tuple[str, ...] = ()


class DatasetCard(_CardPart):
    """A public data set.

    `template` is the text around a problem that is not multiple choice; it may contain {problem} and {tests}. `package`
    names an installed package that contains the file, as "package/path". `notes` are caveats shown by `datasets show`.
    """

    name: str
    title: str
    licence: str
    source: str
    task: TaskKind
    default_split: str
    splits: dict[str, Split]
    fields: Fields
    grader: str | None = None
    template: str = "{problem}"
    hub: Hub | None = None
    package: str = ""
    notes: tuple[str, ...] = ()

    def split(self, name: str | None) -> tuple[DatasetCard, str]:
        """Return the card and split that contain `name` (None: the default split); raises UsageError if unknown."""
        name = name or self.default_split
        if name not in self.splits:
            raise nearest(f"split of {self.name}", name, self.splits)
        other, _, split = self.splits[name].same_as.partition("/")
        return load_card(other).split(split) if other else (self, name)


@cache
def cards() -> dict[str, DatasetCard]:
    found = [
        DatasetCard.model_validate(yaml.safe_load(p.read_text("utf-8"))) for p in sorted(shipped("data").glob("*.yaml"))
    ]
    return {card.name: card for card in found}


def card_of_set(name: str) -> DatasetCard | None:
    """Return the shipped card of a data set as problem ids begin with it: ``gsm8k-train``, ``HumanEval``."""
    name = name.lower()
    return cards().get(name) or cards().get(name.partition("-")[0])


def training_split(name: str) -> str | None:
    card = cards().get(name)
    return "train" if card and "train" in card.splits else None


def load_card(name: str) -> DatasetCard:
    """Return a card, shipped or from a plugin; raises UsageError with the nearest names."""
    if name in cards():
        return cards()[name]
    if name in plugins and isinstance(found := plugins.get(name), DatasetCard):
        return found
    known = [*(f"{GENERATED}:<task>" if known == GENERATED else known for known in cards()), *plugins.names()]
    raise UsageError(f"{nearest('data set', name, known)} A file of your own is given by its path, my/set.jsonl.")


def card_of_file(path: Path) -> tuple[DatasetCard, tuple[str, ...]] | None:
    name = path.name.removesuffix(".gz")
    for card in cards().values():
        if splits := tuple(split for split, part in card.splits.items() if part.file == name):
            return card, splits
    return None
