"""What a trainable strategy has learned: a few linear heads over named features, in one JSON file of numbers.

Nothing but numbers is read, and a prediction is a sum: no library is loaded, and nothing in the file can run.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict

from tandem.errors import UsageError
from tandem.paths import shipped
from tandem.storage.files import write_whole
from tandem.storage.formats import read_model, stamped
from tandem.sufficiency.classifier import short_hash

FORMAT = 1
_FOLDER = "predictors"


class Head(BaseModel):
    """One linear model over standardised features: a probability (logistic), or a plain value."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Literal["probability", "value"]
    features: tuple[str, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    weights: tuple[float, ...]
    intercept: float

    def predict(self, features: Mapping[str, float]) -> float:
        """Return the prediction for features by name. Raises KeyError for one that is missing."""
        terms = zip(self.features, self.mean, self.scale, self.weights, strict=True)
        score = self.intercept + math.fsum((features[name] - mean) / scale * w for name, mean, scale, w in terms)
        return score if self.kind == "value" else 1.0 / (1.0 + math.exp(min(-score, 700.0)))


class Predictor(BaseModel):
    """The heads of one strategy for one pair, its operating point, and how it was made.

    `settings` are what the strategy decides by (a threshold, say). `data` has counts and, under `seen`, the digests of
    the problems that it was fitted on; `figures` what it did on problems that were held out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    format: int = FORMAT
    strategy: str
    mentor: str
    intern: str
    heads: dict[str, Head]
    settings: dict[str, float] = {}
    signal_version: str | None = None  # of the draft signals among the features; None: there are none
    command: str = ""
    data: dict[str, Any] = {}
    figures: dict[str, Any] = {}
    notes: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """Strategy, pair and the digest of everything in it."""
        digest = hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]
        return f"{self.strategy}@{self.mentor}+{self.intern}@{digest}"

    def saw(self, problem_id: str) -> bool:
        return short_hash(problem_id) in self.data.get("seen", ())

    def save(self, folder: Path) -> Path:
        """Write it into a classifier's folder, as ``predictors/<strategy>.json``, and return the path."""
        path = folder / _FOLDER / f"{self.strategy}.json"
        write_whole(path, json.dumps(stamped(self.model_dump(mode="json")), indent=1) + "\n", parents=True)
        return path

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file. Raises TandemError for a damaged one or one of a later version."""
        return read_model(path, cls, FORMAT, instead="train it again (tandem train)")


def find_predictor(strategy: str, mentor: str, intern: str, where: str = "") -> tuple[Predictor, bool]:
    """Return a strategy's predictor, and whether it was trained for this pair.

    `where` names a file, or a folder that `tandem train --strategy` wrote; else the pair's own is taken of those that
    are shipped, or the nearest (same intern, same mentor, any). Raises UsageError where there is none, or where the one
    that is named is another strategy's.
    """
    if where:
        given = Path(where)
        path = given if given.is_file() else given / _FOLDER / f"{strategy}.json"
        if not path.is_file():
            raise UsageError(f"{where} holds no predictor for '{strategy}'; {_how(strategy, where)}")
        found = Predictor.load(path)
        if found.strategy != strategy:
            raise UsageError(f"{path} is the predictor of '{found.strategy}', not of '{strategy}'")
    else:
        paths = sorted(shipped("classifiers").glob(f"*/{_FOLDER}/{strategy}.json"))
        every = [Predictor.load(path) for path in paths]
        if not every:
            raise UsageError(f"no predictor for '{strategy}' is shipped; {_how(strategy, 'classifiers/mine')}")
        found = max(every, key=lambda one: (one.intern == intern, one.mentor == mentor))
    return found, (found.mentor, found.intern) == (mentor, intern)


def _how(strategy: str, folder: str) -> str:
    return f"make one with: tandem train COLLECTION --strategy {strategy} --out {folder}"
