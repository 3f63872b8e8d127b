"""Fitting the published classifier (arXiv 2604.23623) and replaying its rule on collected tables, for comparison."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from tandem.errors import UsageError
from tandem.ladder import Ladder, format_ladder
from tandem.sufficiency.classifier import short_hash
from tandem.sufficiency.prompt_pass import PUBLISHED, pass_cost
from tandem.sufficiency.published import PublishedClassifier, Tree
from tandem.sufficiency.rows import Levels, Row, Sufficiencies
from tandem.training.fit import Problems, complete, intern_rows
from tandem.training.folds import ranked
from tandem.training.replay import Outcome, Pair, ReplayResult
from tandem.training.selection import TrainingPlan

# How the fresh problems end and their sufficiencies, in their order, by a fit on the known ones; or why there are none.
Baseline = Callable[[Problems, Problems, TrainingPlan], tuple[ReplayResult, Sufficiencies] | str]
FIT_SHARE = 0.7
_MOST_LEVELS = 5  # the grid has 21 points a level
_GRID = np.round(np.linspace(0.0, 1.0, 21), 2)


def replay_published(
    found: PublishedClassifier, problem: Levels, ladder: Ladder, pair: Pair, p: Sequence[float] | None = None
) -> Outcome:
    """Return what the published method makes of a collected problem; `ladder` is its own, `p` its probabilities there.

    It spends a prompt pass at every level that it reaches, the mentor up to the highest of them, and one answer.
    """
    p = found.probabilities(problem, ladder) if p is None else p
    chosen = found.choose(p)
    seen = chosen if p[chosen] >= found.thresholds[chosen] else len(ladder) - 1
    row, highest = problem[ladder[chosen].name], problem[ladder[seen].name]
    passes = sum(pass_cost(pair.intern_rates, problem[e.name]) for e in ladder[: seen + 1])
    tokens = highest["insight_tokens"]
    cost = pair.insight(highest) + passes + pair.answer(row)
    return Outcome(ladder[chosen].name, bool(row["correct"]), cost, tokens)


def published_baseline(
    known: Problems, fresh: Problems, plan: TrainingPlan
) -> tuple[ReplayResult, Sufficiencies] | str:
    """Replay the published classifier and rule. Every level visited adds an uncached pass over question and hint."""
    levels = tuple(level for level in plan.ladder if level.is_drafted)
    rows = intern_rows(known, list(known), levels)
    if any("published" not in row["signals"] for row in [*rows, *intern_rows(fresh, list(fresh), levels)]):
        return "rows without the published signals (scripts/add_signals.py adds them)"
    pair = plan.pair
    try:
        model = fit_published(rows, levels, name="", mentor=pair.mentor.name, intern=pair.intern.name)
    except UsageError as error:
        return str(error)
    p = {i: model.probabilities(problem, levels) for i, problem in fresh.items()}
    outcomes = [replay_published(model, problem, levels, pair, p[i]) for i, problem in fresh.items()]
    place = {level.name: position for position, level in enumerate(plan.ladder)}
    ends = replace(ReplayResult.of(outcomes), level=np.asarray([place[outcome.level] for outcome in outcomes]))
    return ends, {i: dict(zip((level.name for level in levels), v, strict=True)) for i, v in p.items()}


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
    later = y[np.arange(count), p.argmax(axis=1)].astype(bool)  # the outcome of those that pass nowhere
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
        columns = {"feature": tree.feature, "threshold": tree.threshold, "left": tree.children_left}
        columns |= {"right": tree.children_right, "value": 0.1 * tree.value[:, 0, 0]}
        trees.append(Tree.model_validate({name: values.tolist() for name, values in columns.items()}))
    return tuple(scaler.mean_.tolist()), tuple(scaler.scale_.tolist()), math.log(share / (1 - share)), tuple(trees)
