"""Cards of the public data sets: one YAML file each under data/, saying where it is from and how its rows read."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict

from tandem.errors import UsageError, nearest
from tandem.paths import shipped
from tandem.types import TaskKind


class Fields(BaseModel):
    """Which fields of a row hold what: names in the order they are tried. The defaults read a user's own file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    problem: tuple[str, ...] = ("problem", "question", "prompt", "text")
    answer: tuple[str, ...] = ("answer", "reference", "target")
    id: tuple[str, ...] = ()
    task: tuple[str, ...] = ()
    take: Literal["whole", "boxed", "after_hashes"] = "whole"  # what of the answer field is the reference
    metadata: dict[str, str] = {}  # key in Problem.metadata -> field


class Split(BaseModel):
    """One file of a data set (plain or with `.gz`), or another card's split (`same_as: card/split`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str = ""
    same_as: str = ""
    verified: bool = False  # whether this card was run on the real file


class Card(BaseModel):
    """A public data set."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: str
    licence: str
    source: str
    task: TaskKind
    default_split: str
    splits: dict[str, Split]
    fields: Fields

    def split(self, name: str | None) -> tuple[Card, str]:
        """Return the card and the split that hold `name` (None: the default split); raises UsageError if unknown."""
        name = name or self.default_split
        if name not in self.splits:
            raise nearest(f"split of {self.name}", name, self.splits)
        other, _, split = self.splits[name].same_as.partition("/")
        return load_card(other).split(split) if other else (self, name)


@cache
def cards() -> dict[str, Card]:
    """Return every shipped card by name."""
    found = [Card.model_validate(yaml.safe_load(p.read_text("utf-8"))) for p in sorted(shipped("data").glob("*.yaml"))]
    return {card.name: card for card in found}


def load_card(name: str) -> Card:
    """Return a card; raises UsageError with the nearest names."""
    if name not in cards():
        raise UsageError(f"{nearest('data set', name, cards())} A file of your own is given by its path, my/set.jsonl.")
    return cards()[name]


def card_of_file(path: Path) -> tuple[Card, str] | None:
    """Return the card and split that own a file of this name, wherever it lies, or None."""
    name = path.name.removesuffix(".gz")
    return next(((c, s) for c in cards().values() for s, split in c.splits.items() if split.file == name), None)
