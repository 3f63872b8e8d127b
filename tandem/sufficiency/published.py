"""The published classifier and rule (arXiv 2604.23623), as the published code has them, for comparison.

25 features of one pass over question and hint (`reading.py`), standardised, into 100 boosted trees of depth 5 (learning
rate 0.1, seed 42). Problems whose levels are all right or all wrong are dropped; 70 % of the others fit the trees. The
levels' thresholds are the point of a grid (0, 0.05, ... 1 for each) with the best accuracy on fitted and validation
problems together: no cost, the first of equals. At run time the first level that reaches its threshold answers; where
none does, the level of the highest probability.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from tandem.errors import TandemError, UsageError
from tandem.ladder import Ladder, format_ladder
from tandem.models.logprobs import ESTIMATOR
from tandem.sufficiency.classifier import short_hash
from tandem.sufficiency.folds import ranked
from tandem.sufficiency.reading import PUBLISHED, pass_tflops
from tandem.sufficiency.replay import Levels, Outcome, Pair, Row
from tandem.sufficiency.training import Problems, complete

FEATURES = (*PUBLISHED, "level_index", "level_tokens")
FILE = "published.json"
FIT_SHARE = 0.7
_MOST_LEVELS = 5  # the grid has 21 points a level
_GRID = np.round(np.linspace(0.0, 1.0, 21), 2)


class Tree(BaseModel):
    """One regression tree as arrays over its nodes; a leaf has `left` -1 and its contribution as `value`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    feature: tuple[int, ...]
    threshold: tuple[float, ...]
    left: tuple[int, ...]
    right: tuple[int, ...]
    value: tuple[float, ...]

    def score(self, x: Sequence[float]) -> float:
        """Return the leaf's contribution for one row of features."""
        node = 0
        while self.left[node] > node:  # children lie behind their parent, so that this ends
            node = self.left[node] if x[self.feature[node]] <= self.threshold[node] else self.right[node]
        return self.value[node]


class PublishedClassifier(BaseModel):
    """The fitted trees in plain numbers, the thresholds, and what they were fitted on."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

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
        """Return the probabilities at all levels of a collected problem."""
        return [
            self.probability(problem[e.name]["signals"]["published"], k, problem[e.name]["insight_tokens"])
            for k, e in enumerate(ladder)
        ]

    def save(self, folder: Path) -> None:
        """Write the classifier into `folder`: numbers only, no code."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FILE).write_text(self.model_dump_json() + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a classifier. Raises UsageError if `folder` has none, TandemError for a damaged one."""
        path = folder / FILE
        if not path.is_file():
            raise UsageError(f"{folder} holds no published classifier ({FILE}); train one from a table first")
        try:
            found = cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise TandemError(f"{path} cannot be read: {str(error).splitlines()[0]}") from None
        if fault := found.fault():
            raise TandemError(f"{path} cannot be used: {fault}")
        return found

    def fault(self) -> str | None:
        """Return what is wrong with the numbers, if anything is."""
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


def replay_published(
    found: PublishedClassifier, problem: Levels, ladder: Ladder, pair: Pair, p: Sequence[float] | None = None
) -> Outcome:
    """Return what the published method makes of a collected problem; `ladder` is its own, `p` its probabilities there.

    It pays a prompt pass at every level that it comes to, the mentor up to the highest of them, and one answer.
    """
    p = found.probabilities(problem, ladder) if p is None else p
    chosen = found.choose(p)
    seen = chosen if p[chosen] >= found.thresholds[chosen] else len(ladder) - 1
    row, highest = problem[ladder[chosen].name], problem[ladder[seen].name]
    passes = sum(pass_tflops(pair.intern, problem[e.name]) for e in ladder[: seen + 1])
    tokens = highest["insight_tokens"]
    cost = pair.insight(highest) + passes + pair.answer(row)
    return Outcome(ladder[chosen].name, bool(row["correct"]), cost, tokens, pair.published(tokens, row))


def fit_published(
    rows: Sequence[Row],
    ladder: Ladder,
    *,
    name: str,
    mentor: str,
    intern: str,
    seed: int = 42,
    only: Sequence[str] = (),
) -> PublishedClassifier:
    """Fit the published classifier on rows with ``signals["published"]`` (scripts/add_signals.py adds them).

    `only` restricts it to those problems (the others are held out); `seed` orders the problems for the 70/30 split.
    Raises UsageError for rows without these signals, or too few problems whose levels differ.
    """
    levels = tuple(level for level in ladder if not level.is_answer)
    if len(levels) > _MOST_LEVELS:
        raise UsageError(f"the published search over thresholds is exhaustive: {_MOST_LEVELS} levels at most")
    allowed = set(only)
    kept = [row for row in rows if row["level"] in {e.name for e in levels} and "published" in row["signals"]]
    if not kept:
        raise UsageError("no row has the published signals; add them with scripts/add_signals.py")
    problems = {i: found for i, found in complete(kept, levels).items() if not allowed or i in allowed}
    differing = {i: found for i, found in problems.items() if len({found[e.name]["correct"] for e in levels}) == 2}
    if len(differing) < 10:
        raise UsageError(
            f"the published method learns from problems whose levels differ, and {len(differing)} of {len(problems)} "
            "do: collect more (10 at least)"
        )
    order = ranked(list(differing), seed)
    fitted = order[: round(FIT_SHARE * len(order))]
    mean, scale, offset, trees = _boost(*_matrix(differing, fitted, levels))
    found = PublishedClassifier(
        id=name,
        mentor=mentor,
        intern=intern,
        ladder=format_ladder(levels),
        thresholds=(0.0,) * len(levels),
        mean=mean,
        scale=scale,
        offset=offset,
        trees=trees,
        data={
            "problems": len(problems),
            "differing": len(differing),
            "fitted": len(fitted),
            "seed": seed,
            "seen": sorted(map(short_hash, differing)),
        },
    )
    p = np.asarray([found.probabilities(differing[i], levels) for i in order])
    y = np.asarray([[int(differing[i][e.name]["correct"]) for e in levels] for i in order])
    return found.model_copy(update={"thresholds": search_thresholds(p, y)})


def search_thresholds(p: np.ndarray, y: np.ndarray) -> tuple[float, ...]:
    """Return the first grid point of the best accuracy; `p` and `y` are (problems, levels), 21^levels points."""
    count, levels = p.shape
    passes = p.T[:, None, :] >= _GRID[None, :, None]  # (levels, 21, problems)
    later = y[np.arange(count), p.argmax(axis=1)].astype(bool)  # what comes of those that pass nowhere
    for k in range(levels - 1, 0, -1):
        shape = (len(_GRID),) + (1,) * (later.ndim - 1) + (count,)
        later = np.where(passes[k].reshape(shape), y[:, k].astype(bool), later)
    best, at = -1, 0
    for first in range(len(_GRID)):  # one by one: all at once they would fill the memory
        right = np.where(passes[0][first], y[:, 0].astype(bool), later).sum(axis=-1).ravel()
        place = int(right.argmax())
        if right[place] > best:
            best, at = int(right[place]), first * right.size + place
    return tuple(float(_GRID[i]) for i in np.unravel_index(at, (len(_GRID),) * levels))


def _matrix(problems: Problems, ids: Sequence[str], levels: Ladder) -> tuple[np.ndarray, np.ndarray]:
    x, y = [], []
    for i in ids:
        for index, effort in enumerate(levels):
            row = problems[i][effort.name]
            signals = row["signals"]["published"]
            x.append([*(signals[name] for name in PUBLISHED), float(index), float(row["insight_tokens"])])
            y.append(int(row["correct"]))
    return np.asarray(x), np.asarray(y)


def _boost(x: np.ndarray, y: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...], float, tuple[Tree, ...]]:
    from sklearn.ensemble import GradientBoostingClassifier
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(x)
    model = GradientBoostingClassifier(n_estimators=100, max_depth=5, learning_rate=0.1, random_state=42)
    model.fit(scaler.transform(x), y)
    share = float(y.mean())
    trees = []
    for (estimator,) in model.estimators_:
        tree = estimator.tree_
        trees.append(
            Tree(
                feature=tree.feature.tolist(),
                threshold=tree.threshold.tolist(),
                left=tree.children_left.tolist(),
                right=tree.children_right.tolist(),
                value=(0.1 * tree.value[:, 0, 0]).tolist(),
            )
        )
    return tuple(scaler.mean_.tolist()), tuple(scaler.scale_.tolist()), math.log(share / (1 - share)), tuple(trees)
