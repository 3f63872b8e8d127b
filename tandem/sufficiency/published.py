"""The published classifier and rule (arXiv 2604.23623), as the published code has them, for comparison.

25 features of one pass over question and hint (`reading.py`), standardised, into 100 boosted trees of depth 5 (learning
rate 0.1, seed 42). Problems whose levels are all right or all wrong are dropped; 70 % of the others fit the trees. The
levels' thresholds are the point of a grid (0, 0.05, ... 1 for each) with the best accuracy on fitted and validation
problems together: no cost, the first of equals. At run time the first level that reaches its threshold answers; where
none does, the level of the highest probability.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from pydantic import BaseModel, ConfigDict

from tandem.errors import TandemError, UsageError
from tandem.ladder import Ladder
from tandem.models.logprobs import ESTIMATOR
from tandem.storage.files import write_whole
from tandem.storage.formats import read_model, stamped
from tandem.sufficiency.prompt_pass import PUBLISHED
from tandem.sufficiency.rows import Levels

FEATURES = (*PUBLISHED, "level_index", "level_tokens")
FILE = "published.json"
FORMAT = 1


class Tree(BaseModel):
    """One regression tree as arrays over its nodes; a leaf has `left` -1 and its contribution as `value`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    feature: tuple[int, ...]
    threshold: tuple[float, ...]
    left: tuple[int, ...]
    right: tuple[int, ...]
    value: tuple[float, ...]

    def score(self, x: Sequence[float]) -> float:
        node = 0
        while self.left[node] > node:  # children lie behind their parent, so that this ends
            node = self.left[node] if x[self.feature[node]] <= self.threshold[node] else self.right[node]
        return self.value[node]


class PublishedClassifier(BaseModel):
    """The fitted trees in plain numbers, the thresholds, and what they were fitted on."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    format: int = FORMAT
    id: str
    mentor: str
    intern: str
    ladder: str  # without `answer`: the published method has no such level
    thresholds: tuple[float, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    offset: float
    trees: tuple[Tree, ...]
    entropy: str = f"{ESTIMATOR}, approximate: the published code has whole distributions"
    data: dict[str, Any] = {}

    def probability(self, signals: Mapping[str, float], level_index: int, level_tokens: int) -> float:
        """Return the chance of a right answer; `level_tokens` are the mentor tokens of the hint."""
        values = [signals[name] for name in PUBLISHED] + [float(level_index), float(level_tokens)]
        # The trees compare 32-bit numbers, as scikit-learn's do.
        x = [float(np.float32((v - m) / s)) for v, m, s in zip(values, self.mean, self.scale, strict=True)]
        score = self.offset + math.fsum(tree.score(x) for tree in self.trees)
        return 1.0 / (1.0 + math.exp(-max(min(score, 700.0), -700.0)))

    def choose(self, p: Sequence[float]) -> int:
        """Return the level at which the rule answers, given the probabilities of all levels in their order."""
        passing = [k for k, (value, bound) in enumerate(zip(p, self.thresholds, strict=True)) if value >= bound]
        return passing[0] if passing else int(np.argmax(p))

    def probabilities(self, problem: Levels, ladder: Ladder) -> list[float]:
        return [
            self.probability(problem[e.name]["signals"]["published"], k, problem[e.name]["insight_tokens"])
            for k, e in enumerate(ladder)
        ]

    def save(self, folder: Path) -> None:
        """Write the classifier into `folder`: numbers only, no code."""
        text = json.dumps(stamped(self.model_dump(mode="json")), separators=(",", ":"))
        write_whole(folder / FILE, text + "\n", parents=True)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a classifier. Raises UsageError if `folder` has none, TandemError for a damaged one."""
        path = folder / FILE
        if not path.is_file():
            raise UsageError(f"{folder} holds no published classifier ({FILE}); train one from a table first")
        found = read_model(path, cls, FORMAT, instead="train it again")
        if fault := found.fault():
            raise TandemError(f"{path} cannot be used: {fault}")
        return found

    def fault(self) -> str | None:
        if len(self.mean) != len(FEATURES) or len(self.scale) != len(FEATURES) or not all(self.scale):
            return f"its scale is not that of {len(FEATURES)} features"
        if len(self.thresholds) != len(self.ladder.split(",")):
            return "it has not one threshold for each level"
        for tree in self.trees:
            nodes = range(len(tree.left))
            sizes = {len(column) for column in (tree.feature, tree.threshold, tree.right, tree.value)}
            inner = [k for k in nodes if tree.left[k] > k]
            sound = all(tree.right[k] > k and tree.right[k] in nodes and tree.left[k] in nodes for k in inner)
            if not nodes or sizes != {len(nodes)} or not sound:
                return "a tree leads nowhere"
            if any(not 0 <= tree.feature[k] < len(FEATURES) for k in inner):
                return "a tree asks for a feature that there is not"
        return None
