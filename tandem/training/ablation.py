"""What each signal is worth: every candidate evaluated on a collected table, its cost included.

For each draft length a logistic regression is fitted without the problem that it predicts (folds by problem), on the
standing signals, on these without one of them, with one candidate more, and on each candidate alone. A variant is
evaluated by the area under its ROC curve, its calibration error and its gain over the chord (a random mix of intern and
mentor at the same cost); intervals are bootstraps over problems, differences paired. The operating point (ladder and
threshold) behind a gain is chosen on the other folds. `curve` is the mean gain over all two-step ladders (the first
level, then one other) and all shares of problems that go on: nothing is chosen for it, and two variants are compared
at the same shares, so it separates them on fewer problems.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tandem.costs import Unit
from tandem.errors import UsageError
from tandem.ladder import ANSWER, Ladder
from tandem.statistics.chord import chord
from tandem.statistics.reliability import aurocs, calibration_error
from tandem.sufficiency.policy import PolicyCard
from tandem.sufficiency.rows import Row
from tandem.sufficiency.signals import CANDIDATES, change_signals, draft_signals, question_signals
from tandem.training.estimators import one_thread
from tandem.training.fit import Problems, complete, dataset_of
from tandem.training.folds import folds
from tandem.training.replay import BatchReplay, Pair, replay_fixed
from tandem.training.search import ladders
from tandem.training.variants import Variant, paid, variants

WHOLE = "all"
_STRENGTH = 0.1  # C of the regression; the same for all variants
_SHARES = np.linspace(0.02, 0.98, 25)  # quantiles of sufficiency that are tried as thresholds
_CHANGING = ("log_perplexity", "entropy_mean", "entropy_std", "least_likely", "least_likely_5", "margin_mean", "ended")


@dataclass(slots=True)
class Data:
    """The rows of one draft length as arrays: features (rows, names), labels, and where each row belongs."""

    problems: Problems
    names: tuple[str, ...]
    x: np.ndarray
    y: np.ndarray
    owner: np.ndarray  # position of the row's problem
    level: np.ndarray
    dataset: np.ndarray
    held: list[np.ndarray]  # masks of rows, one for each fold
    weights: np.ndarray  # (resamples, problems): how often a bootstrap drew each problem


@dataclass(slots=True)
class VariantResult:
    p: np.ndarray
    aurocs: dict[str, np.ndarray]  # by part; first the value, then the resamples
    gain: np.ndarray
    curve: np.ndarray


def ablate(
    rows: Sequence[Row],
    ladder: Ladder,
    pair: Pair,
    drafts: Sequence[str],
    *,
    seed: int = 0,
    resamples: int = 500,
    read: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> list[dict[str, Any]]:
    """Return a line for each draft length and variant, the standing set first.

    `read` keeps only problems with the signals of a prompt pass; else these are evaluated if all problems have them.
    Raw rows (with `stats`) show every candidate, a table's rows those that it holds. Raises UsageError for too few
    problems or a ladder without `answer`, which the chord needs.
    """
    if not ladder[-1].is_answer:
        raise UsageError("the table has no level `answer`: without the mentor's own answers there is no chord")
    problems = complete(rows, ladder)
    with_pass = {
        i: levels
        for i, levels in problems.items()
        if all("published" in levels[e.name]["signals"] for e in ladder if not e.is_answer)
    }
    if read:
        problems = with_pass
    elif 0 < len(with_pass) < len(problems):
        say(f"{len(with_pass)} of {len(problems)} problems have prompt signals, which are left out (--read keeps them)")
    if len(problems) < 10:
        raise UsageError(f"the table has {len(problems)} problems with all of their levels; collect more (10 at least)")
    lines = []
    for draft in drafts:
        data = _data(problems, ladder, draft, seed, resamples)
        length = None if draft == WHOLE else int(draft)
        compared = list(variants(data.names))
        replays = {
            buys: _Replay(data, ladder, paid(pair, buys, draft), length)
            for buys in dict.fromkeys(variant.buys for variant in compared)
        }
        standing: VariantResult | None = None
        for variant in compared:
            result = _evaluate(data, variant, replays[variant.buys])
            standing = standing or result
            lines.append(_line(data, draft, pair.unit, variant, result, standing))
        say(f"draft {draft}: {len(data.y)} rows of {len(problems)} problems evaluated")
    return lines


def row_features(row: Row, before: Row | None, draft: str) -> dict[str, float]:
    """Return all features that a row has at one draft length; `before` is the same problem's level before it."""
    now, held = _draft_features(row, draft), row["signals"]
    then = _draft_features(before, draft) if before is not None else None
    found = now | change_signals({name: now[name] for name in _CHANGING if name in now}, then)
    found |= question_signals(row["question_tokens"]) | {"log_insight_tokens": math.log1p(row["insight_tokens"])}
    found |= held.get("question", {}) | held.get("insight", {}) | held.get("agreement", {}).get(draft, {})
    return found | {f"published_{name}": value for name, value in held.get("published", {}).items()}


def _draft_features(row: Row, draft: str) -> dict[str, float]:
    stats = row.get("stats")
    if stats is None:
        held: dict[str, float] = row["signals"][draft]
        return dict(held)
    length = len(stats) if draft == WHOLE else int(draft)
    return draft_signals(stats[:length], ended=len(stats) <= length, names=CANDIDATES)


def _data(problems: Problems, ladder: Ladder, draft: str, seed: int, resamples: int) -> Data:
    ids = list(problems)
    features, keys = [], []
    for place, i in enumerate(ids):
        before = None
        for index, effort in enumerate(e for e in ladder if not e.is_answer):
            row = problems[i][effort.name]
            tokens = {"level_index": float(index), "level_tokens": float(row["insight_tokens"])}
            features.append(row_features(row, before, draft) | tokens)
            keys.append((int(row["correct"]), place, effort.name, dataset_of(i)))
            before = row
    labels, owner, level, dataset = (np.asarray(column) for column in zip(*keys, strict=True))
    shared = set.intersection(*(set(f) for f in features))
    names = tuple(name for name in features[-1] if name in shared)
    out = [set(held) for _, held in folds(ids, seed)]
    rng = np.random.default_rng(seed)
    return Data(
        problems,
        names,
        np.asarray([[f[name] for name in names] for f in features]),
        labels,
        owner,
        level,
        dataset,
        [np.asarray([ids[o] in part for o in owner]) for part in out],
        rng.multinomial(len(ids), np.full(len(ids), 1 / len(ids)), size=resamples).astype(float),
    )


def _evaluate(data: Data, variant: Variant, replay: _Replay) -> VariantResult:
    x, p = data.x[:, [data.names.index(name) for name in variant.features]], np.zeros(len(data.y))
    groups = [data.level == level for level in dict.fromkeys(data.level.tolist())] if variant.apart else [data.y >= 0]
    for rows in groups:
        p[rows] = out_of_fold(x[rows], data.y[rows], [held[rows] for held in data.held])
    weights = np.vstack([np.ones(data.weights.shape[1]), data.weights])
    parts = {part: aurocs(data.y[mask], p[mask], weights[:, data.owner[mask]]) for part, mask in _parts(data)}
    return VariantResult(p, parts, *replay.gains(p, weights))


def _parts(data: Data) -> Iterator[tuple[str, np.ndarray]]:
    yield "pooled", np.ones(len(data.y), dtype=bool)
    for column in (data.level, data.dataset):
        for value in dict.fromkeys(column.tolist()):
            yield value, column == value


def out_of_fold(x: np.ndarray, y: np.ndarray, held: Sequence[np.ndarray]) -> np.ndarray:
    """Return each row's probability by a standardised logistic regression fitted without its fold."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    p = np.zeros(len(y))
    for mask in held:
        if not mask.any():
            continue
        if len(set(y[~mask])) < 2:  # one class only
            p[mask] = y[~mask].mean()
            continue
        model = make_pipeline(StandardScaler(), LogisticRegression(C=_STRENGTH, max_iter=2000))
        with one_thread():
            p[mask] = model.fit(x[~mask], y[~mask]).predict_proba(x[mask])[:, 1]
    return p


class _Replay:
    """The walks of all problems through every ladder, replayed for one set of sufficiencies after the other."""

    def __init__(self, data: Data, ladder: Ladder, pair: Pair, draft: int | None) -> None:
        self._data = data
        unknown: dict[str, dict[str, float]] = {i: {} for i in data.problems}
        options = ladders(ladder)
        self._replays = [BatchReplay.of(data.problems, unknown, option, pair, draft) for option in options]
        plain = Pair(pair.mentor, pair.intern, pair.prefix_cache, pair.unit)
        ends = [replay_fixed(data.problems, list(data.problems), name, plain) for name in (ladder[0].name, ANSWER)]
        self._ends = [(end.cost, end.correct) for end in ends]
        self._curve = np.repeat([len(option) == 2 for option in options], len(_SHARES))
        self._first = data.level == ladder[0].name
        self._fold = np.zeros(len(data.problems), dtype=int)
        for number, mask in enumerate(data.held):
            self._fold[data.owner[mask]] = number

    def gains(self, p: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the cross-fitted gain over the chord and the curve's mean gain, for each line of weights."""
        data = self._data
        by_problem: dict[str, dict[str, float]] = {i: {} for i in data.problems}
        ids = list(data.problems)
        # Equal sufficiencies are ordered at random, else an uninformative signal would never go on, which is free.
        p = p + 1e-9 * np.random.default_rng(0).random(len(p))
        for owner, level, value in zip(data.owner, data.level, p, strict=True):
            by_problem[ids[owner]][str(level)] = float(value)
        pooled, at_first = np.quantile(p, _SHARES), np.quantile(p[self._first], _SHARES)
        correct, cost = [], []
        for walks in self._replays:
            replay = walks.predicting(by_problem)
            names = [level.name for level in walks.ladder if not level.is_answer]
            for threshold in at_first if len(walks.ladder) == 2 else pooled:
                ends = replay.run(PolicyCard(thresholds=dict.fromkeys(names, float(threshold))))
                correct.append(ends.correct)
                cost.append(ends.cost)
        right, paid = np.asarray(correct), np.asarray(cost)
        picked_right, picked_cost = np.zeros(len(ids)), np.zeros(len(ids))
        for number in range(len(data.held)):
            held = self._fold == number
            rest = ~held / (~held).sum()
            best = int(np.argmax(self._gain(right @ rest, paid @ rest, rest)))
            picked_right[held], picked_cost[held] = right[best, held], paid[best, held]
        share = weights / weights.sum(axis=1, keepdims=True)
        gain = self._gain(share @ picked_right, share @ picked_cost, share)
        curve = self._gain(share @ right[self._curve].T, share @ paid[self._curve].T, share[:, None])
        return gain, curve.mean(axis=1)

    def _gain(self, accuracy: np.ndarray, cost: np.ndarray, share: np.ndarray) -> np.ndarray:
        """Return the gain over the chord of points that hold for problems drawn by `share` (..., problems)."""
        found: np.ndarray = accuracy - chord(cost, *((share @ cost, share @ right) for cost, right in self._ends))
        return found


def _line(
    data: Data, draft: str, unit: Unit, variant: Variant, result: VariantResult, standing: VariantResult
) -> dict[str, Any]:
    line: dict[str, Any] = {
        "draft": draft,
        "unit": unit,
        "signal": variant.name,
        "kind": variant.kind,
        "buys": variant.buys,
        "problems": len(data.problems),
        "rows": len(data.y),
        "calibration_error": round(calibration_error(data.y, result.p), 4),
    }
    for part, found in result.aurocs.items():
        line.setdefault("auroc", {})[part] = _figure(found, found - standing.aurocs[part])
    line["gain"] = _figure(result.gain, result.gain - standing.gain)
    line["curve"] = _figure(result.curve, result.curve - standing.curve)
    return line


def _figure(values: np.ndarray, differences: np.ndarray) -> dict[str, Any]:
    return {
        "value": _number(values[0]),
        "ci95": _interval(values[1:]),
        "difference": _number(differences[0]),
        "difference_ci95": _interval(differences[1:]),
    }


def _interval(values: np.ndarray) -> list[float] | None:
    known = values[~np.isnan(values)]
    return [round(float(v), 4) for v in np.percentile(known, [2.5, 97.5])] if len(known) else None


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(float(value), 4)
