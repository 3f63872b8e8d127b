"""What a blueprint search has found for one pair and one kind of problem: texts, scores, price, in one JSON file."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, model_validator

from tandem.errors import UsageError
from tandem.paths import shipped
from tandem.storage.files import write_whole
from tandem.storage.formats import read_model, stamped
from tandem.sufficiency.classifier import short_hash
from tandem.types import TaskKind

FORMAT = 1
FOLDER = "blueprints"
NONE = "none"  # the candidate without a blueprint: the plain prompt
HELD_OUT = "held-out"
Place = Literal["system", "before", "after"]


class _BlueprintPart(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Text(_BlueprintPart):
    """A blueprint as the mentor wrote it, and its size in the mentor's tokens."""

    text: str
    tokens: int


class Candidate(_BlueprintPart):
    """A prompt: which blueprint (None: none) stands where, and whether a line says to follow it."""

    name: str
    blueprint: str | None = None
    place: Place = "before"
    follow: bool = False


class Score(_BlueprintPart):
    """What a candidate did in a part (``round-1``, …, ``held-out``): right answers of `n`, and the intern's tokens."""

    candidate: str
    part: str
    n: int
    right: int
    prompt_tokens: int
    completion_tokens: int


class Price(_BlueprintPart):
    """TFLOPs and US$, of everything or of one problem; None where a part is unknown."""

    tflops: float | None = None
    usd: float | None = None


class Offline(_BlueprintPart):
    """What the search cost in all, and what a problem costs by the mentor alone and by the intern as it was chosen.

    `break_even` are the problems after which the search is repaid by unit; None where there is nothing to gain.
    """

    calls: int
    mentor_tokens: int
    intern_tokens: int
    spent: Price
    mentor_problem: Price
    intern_problem: Price

    @property
    def break_even(self) -> dict[str, int | None]:
        spent, mentor, intern = self.spent, self.mentor_problem, self.intern_problem
        return {
            "tflops": break_even(spent.tflops, mentor.tflops, intern.tflops),
            "usd": break_even(spent.usd, mentor.usd, intern.usd),
        }


class HeldOutDifference(_BlueprintPart):
    """The best blueprint against none on the held-out problems: of `n` pairs it `won` some and `lost` others."""

    candidate: str
    n: int
    won: int
    lost: int
    ci95: tuple[float, float]  # of the difference of accuracies: paired bootstrap
    p: float  # McNemar, exact, two-sided

    @property
    def value(self) -> float:
        return (self.won - self.lost) / self.n


class BlueprintCard(_BlueprintPart):
    """The outcome of one search; `chosen` names the candidate that the search part chose, which may be ``none``.

    `data` has counts and, under `seen`, the digests of the problems that the search used. No problem is in it.
    """

    format: int = FORMAT
    mentor: str
    intern: str
    task: TaskKind
    dataset: str
    chosen: str
    blueprints: dict[str, Text]
    candidates: tuple[Candidate, ...]
    scores: tuple[Score, ...]
    held_out: HeldOutDifference
    offline: Offline
    data: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    notes: tuple[str, ...] = ()
    command: str = ""
    created: str = ""
    synthetic: bool = False

    @model_validator(mode="after")
    def _whole(self) -> Self:
        known = {candidate.name: candidate.blueprint for candidate in self.candidates}
        if {self.chosen, NONE} - set(known):
            raise ValueError(f"'{self.chosen}' or '{NONE}' is not among its candidates")
        if missing := set(known.values()) - {None, *self.blueprints}:
            raise ValueError(f"the text of {missing.pop()} is missing")
        return self

    @property
    def id(self) -> str:
        """Data set, pair and the digest of everything in it."""
        digest = hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]
        return f"blueprint:{self.dataset}@{self.mentor}+{self.intern}@{digest}"

    @property
    def choice(self) -> Candidate:
        return next(candidate for candidate in self.candidates if candidate.name == self.chosen)

    @property
    def text(self) -> Text | None:
        name = self.choice.blueprint
        return None if name is None else self.blueprints[name]

    def score(self, candidate: str, part: str = HELD_OUT) -> Score | None:
        return next((s for s in self.scores if (s.candidate, s.part) == (candidate, part)), None)

    def saw(self, problem_id: str) -> bool:
        return short_hash(problem_id) in self.data.get("seen", ())

    def as_dict(self) -> dict[str, Any]:
        """Return the content as JSON values, with when the search is repaid, which is recomputed on reading."""
        content = self.model_dump(mode="json")
        content["offline"]["break_even"] = self.offline.break_even
        return content

    def save(self, folder: Path) -> Path:
        """Write it as ``blueprints/<data set>.json`` into `folder`, in one step, and return the path."""
        path = folder / FOLDER / (re.sub(r"[^\w.-]+", "-", self.dataset) + ".json")
        write_whole(path, json.dumps(stamped(self.as_dict()), indent=1, ensure_ascii=False) + "\n", parents=True)
        return path

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file. Raises TandemError for a damaged one or one of a later version."""
        again = "build it again (tandem blueprint build)"
        return read_model(path, cls, FORMAT, instead=again, drop=["offline.break_even"])


def break_even(spent: float | None, expensive: float | None, cheap: float | None) -> int | None:
    """Return the problems after which `spent` is repaid by paying `cheap` in place of `expensive` for each.

    None where one of them is unknown, or nothing is saved.
    """
    if spent is None or expensive is None or cheap is None or expensive <= cheap:
        return None
    return math.ceil(spent / (expensive - cheap))


def read_cards(where: Path) -> list[BlueprintCard]:
    """Return the card in a file, or those in a folder (its own, or its ``blueprints``); none for another folder."""
    if where.is_file():
        return [BlueprintCard.load(where)]
    inside = where / FOLDER
    return [BlueprintCard.load(path) for path in sorted((inside if inside.is_dir() else where).glob("*.json"))]


def find_cards(mentor: str, intern: str, where: str = "") -> tuple[Sequence[BlueprintCard], bool]:
    """Return the cards to use with a pair, and whether they were searched for it.

    `where` names a file or a folder; else those that are shipped are looked through. Of several pairs the nearest is
    taken (its own, same intern, same mentor, any). Raises UsageError where there is none.
    """
    if where:
        found = read_cards(Path(where))
        if not found:
            raise UsageError(f"{where} holds no blueprint; {how(mentor, intern, where)}")
    else:
        folders = sorted(path for path in shipped("classifiers").glob(f"*/{FOLDER}") if path.is_dir())
        found = [card for folder in folders for card in read_cards(folder)]
        if not found:
            raise UsageError(f"no blueprint is shipped; {how(mentor, intern, 'blueprints')}")
    best = max(found, key=lambda card: (card.intern == intern, card.mentor == mentor))
    own = [card for card in found if (card.mentor, card.intern) == (best.mentor, best.intern)]
    return own, (best.mentor, best.intern) == (mentor, intern)


def how(mentor: str, intern: str, folder: str) -> str:
    return (
        f"make one with: tandem blueprint build --mentor {mentor} --intern {intern} --dataset gsm8k --split train "
        f"--limit 128 --out {folder}"
    )


def nearest_card(cards: Sequence[BlueprintCard], task: TaskKind, problem_id: str) -> BlueprintCard | None:
    """Return the card for a problem: of its kind, of its data set (which begins its id) where there are several."""
    fitting = [card for card in cards if card.task == task]
    return max(fitting, key=lambda card: problem_id.startswith(f"{card.dataset}-"), default=None)
