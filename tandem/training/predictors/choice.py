"""A choice among options (the intern, hints, the mentor) by one threshold, searched and evaluated out of fold.

What each option makes of a problem is known from the table; which one is taken follows from scores that are fitted on
other problems. Everything is grouped by problem.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tandem.costs import LABELS, Unit, amount
from tandem.ladder import ANSWER, parse_ladder
from tandem.statistics.intervals import Bootstrap, gain_of, interval
from tandem.training.aims import Aim, choose
from tandem.training.fit import dataset_of
from tandem.training.folds import folds
from tandem.training.predictors.outcomes import NONE, OutcomeTable
from tandem.training.replay import means, oracle
from tandem.training.search import DEGENERATE, Point

NOTES = (
    "`chosen` is the best of many thresholds on the problems that chose it, so its figures are optimistic; "
    "`held_out` evaluates fits and choice together on problems that neither saw.",
)
_LADDER = parse_ladder(f"{NONE},{ANSWER}")
_QUANTILES = np.linspace(0.025, 0.975, 39)
_SMALL = 20  # problems of a data set below which it has no figures of its own


@dataclass(frozen=True, slots=True)
class Choice:
    """What may be done with each row (a problem, or one sample of it), and its outcome: arrays (options, rows).

    `score(train, test)` fits on some rows (positions) and returns its predictions for others, (test, columns).
    `take(scores, threshold)` returns the option of each, (test,). The first `thresholds` columns are compared with the
    threshold; at `limits` the first and the last option are taken always.
    """

    ids: tuple[str, ...]  # (rows,) the rows' problems
    names: tuple[str, ...]  # of the options; the last is the mentor's own answer
    right: np.ndarray
    cost: np.ndarray
    mentor_tokens: np.ndarray
    score: Callable[[np.ndarray, np.ndarray], np.ndarray]
    take: Callable[[np.ndarray, float], np.ndarray]
    limits: tuple[float, float]
    thresholds: int = 1

    def rows_of(self, problems: Sequence[str]) -> np.ndarray:
        wanted = set(problems)
        return np.array([k for k, i in enumerate(self.ids) if i in wanted], dtype=int)

    def out_of_fold(self, problems: Sequence[str], seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of some problems and their scores, each of a fit on those problems without the row's."""
        parts: list[tuple[np.ndarray, np.ndarray]] = []
        for kept, held in folds(problems, seed):
            test = self.rows_of(held)
            parts.append((test, self.score(self.rows_of(kept), test)))
        rows = np.concatenate([test for test, _ in parts])
        order = np.argsort(rows)
        return rows[order], np.concatenate([scores for _, scores in parts])[order]

    def ended(self, rows: np.ndarray, taken: np.ndarray) -> Ended:
        """Return how the problems of `rows` end, in the order of their ids, by the option that each row takes."""
        problems, place = np.unique(np.array(self.ids)[rows], return_inverse=True)
        counts = np.bincount(place, minlength=len(problems))

        def mean(values: np.ndarray) -> np.ndarray:
            found: np.ndarray = np.bincount(place, weights=values) / counts
            return found

        right, cost, tokens = (mean(column[taken, rows]) for column in (self.right, self.cost, self.mentor_tokens))
        return Ended(right, cost, tokens, np.array([mean(taken == k) for k in range(len(self.names))]))

    def shares(self, ended: Ended) -> dict[str, float]:
        return dict(zip(self.names, ended.shares.mean(axis=1).tolist(), strict=True))


@dataclass(frozen=True, slots=True)
class Ended:
    """How problems ended, all (problems,): 0..1 right, cost, mentor tokens; `shares` (options, problems): by what."""

    correct: np.ndarray
    cost: np.ndarray
    mentor_tokens: np.ndarray
    shares: np.ndarray

    def describe(self) -> dict[str, Any]:
        share = round(float(self.shares[-1].mean()), 4)
        return means(self.correct, self.cost, self.mentor_tokens) | {"mentor_share": share}

    def only(self, where: np.ndarray) -> Ended:
        return Ended(self.correct[where], self.cost[where], self.mentor_tokens[where], self.shares[:, where])


def search(
    choice: Choice, problems: Sequence[str], anchor: tuple[float, float], seed: int
) -> tuple[Point, Point | None]:
    """Return the point for the default aim, and the one that hardly adapts and was passed over for it, if any.

    Thresholds tried are both limits, and quantiles of the scores between them. The aim (aims.choose): the cheapest
    point that is as accurate as the mentor alone and costs no more, else the most accurate of those that cost no more.
    `anchor` is accuracy and cost of the mentor alone on these problems.
    """
    rows, scores = choice.out_of_fold(problems, seed)
    between = np.unique(np.round(np.quantile(scores[:, : choice.thresholds], _QUANTILES), 4)).tolist()
    points = []
    for threshold in (choice.limits[0], *between, choice.limits[1]):
        found = choice.ended(rows, choice.take(scores, threshold))
        right, cost, tokens = (float(a.mean()) for a in (found.correct, found.cost, found.mentor_tokens))
        points.append(Point(_LADDER, None, {NONE: float(threshold)}, None, right, cost, tokens, choice.shares(found)))
    return choose(points, Aim(), *anchor)


def cross_fitted(choice: Choice, outcomes: OutcomeTable, seed: int) -> np.ndarray:
    """Return the option of each row where each fold's threshold and fit come from the other folds."""
    accuracy, cost = outcomes.right(ANSWER), outcomes.costs(ANSWER)
    taken = np.empty(len(choice.ids), dtype=int)
    for kept, held in folds(outcomes.ids, seed):
        own = outcomes.places(kept)
        point, _ = search(choice, kept, (float(accuracy[own].mean()), float(cost[own].mean())), seed + 1)
        test = choice.rows_of(held)
        taken[test] = choice.take(choice.score(choice.rows_of(kept), test), point.thresholds[NONE])
    return taken


def settle(choice: Choice, outcomes: OutcomeTable, seed: int) -> tuple[float, dict[str, Any], list[str]]:
    """Return the threshold for all problems, the figures of what it does, and the notes that belong beside them."""
    anchors, every = anchors_of(outcomes), np.arange(len(choice.ids))
    mentor = anchors["mentor-only"]
    point, passed_over = search(choice, outcomes.ids, (mentor.correct.mean(), mentor.cost.mean()), seed)
    held = choice.ended(every, cross_fitted(choice, outcomes, seed))
    names = np.array([dataset_of(i) for i in outcomes.ids])
    always = {name: choice.ended(every, np.full(len(every), k)) for k, name in enumerate(choice.names)}
    found: dict[str, Any] = {
        "chosen": {"threshold": point.thresholds[NONE]}
        | means(point.accuracy, point.cost, point.mentor_tokens)
        | {"mentor_share": round(point.shares[ANSWER], 4), "way_shares": _rounded(point.shares)},
        "held_out": compared(held, anchors, seed) | {"way_shares": _rounded(choice.shares(held))},
        "held_out_by_set": {
            str(one): compared(held.only(names == one), {k: v.only(names == one) for k, v in anchors.items()}, seed)
            for one in np.unique(names)
            if (names == one).sum() >= _SMALL
        },
        "always": {name: ends.describe() for name, ends in always.items()},
        "anchors": {name: ends.describe() for name, ends in anchors.items()},
        "unit": outcomes.pair.unit,
    }
    notes = [f"Costs are replayed in {LABELS[outcomes.pair.unit]}, without any prefix cache."]
    return point.thresholds[NONE], found, notes + _notes(point, passed_over, found, outcomes.pair.unit)


def _rounded(shares: Mapping[str, float]) -> dict[str, float]:
    return {name: round(share, 4) for name, share in shares.items()}


def anchors_of(outcomes: OutcomeTable) -> dict[str, Ended]:
    """Return how all problems end with the intern alone, the mentor alone, and an oracle (of the first samples)."""
    found = {}
    for name, level in (("intern-only", NONE), ("mentor-only", ANSWER)):
        tokens = outcomes.mentor_tokens(level)
        shares = np.repeat([[float(level == NONE)], [float(level == ANSWER)]], len(tokens), axis=1)
        found[name] = Ended(outcomes.right(level), outcomes.costs(level), tokens, shares)
    pairs = zip(outcomes.rows(NONE), outcomes.rows(ANSWER), strict=True)
    best = [oracle({NONE: none[0], ANSWER: own[0]}, (NONE, ANSWER), outcomes.pair) for none, own in pairs]
    found["oracle"] = Ended(
        np.array([float(one.correct) for one in best]),
        np.array([one.cost for one in best]),
        np.array([float(one.mentor_tokens) for one in best]),
        np.array([[float(one.level == level) for one in best] for level in (NONE, ANSWER)]),
    )
    return found


def compared(held: Ended, anchors: Mapping[str, Ended], seed: int = 0) -> dict[str, Any]:
    """Return what was done on held-out problems: means, gain over the chord and loss against the mentor alone.

    Both have paired 95 % intervals over problems; the chord is a random mix of both models at the same cost.
    """
    boot = Bootstrap(len(held.correct), seed=seed)
    cheap, expensive = anchors["intern-only"], anchors["mentor-only"]
    return held.describe() | {
        "problems": len(held.correct),
        "gain_over_chord": interval(gain_of(boot, held, cheap, expensive)),
        "loss_against_mentor": interval(boot.mean(expensive.correct) - boot.mean(held.correct)),
    }


def _notes(point: Point, passed_over: Point | None, found: Mapping[str, Any], unit: Unit) -> list[str]:
    held, gain, notes = found["held_out"], found["held_out"]["gain_over_chord"], []
    if point.degenerate:
        notes.append(f"FAILURE: over {DEGENERATE:.0%} of the problems end with one option: it does not adapt.")
    elif passed_over:
        option, share = max(passed_over.shares.items(), key=lambda one: one[1])
        notes.append(
            f"A point that takes '{option}' for {share:.0%} of the problems would serve the aim better (accuracy "
            f"{passed_over.accuracy:.3f}, {amount(passed_over.cost, unit)}); one that hardly adapts is passed over."
        )
    for name in ("intern-only", "mentor-only"):
        other = found["anchors"][name]
        if other["accuracy"] >= held["accuracy"] and other["cost"] <= held["cost"]:
            notes.append(
                f"{name} serves better: accuracy {other['accuracy']:.3f} at {amount(other['cost'], unit)}, against "
                f"{held['accuracy']:.3f} at {amount(held['cost'], unit)}."
            )
    if gain["value"] is None:
        notes.append("The gain over a random mix of both models at the same cost is not known.")
    elif gain["low"] <= 0:
        figures = f"(gain {gain['value']:+.3f}, 95 % interval {gain['low']:+.3f} to {gain['high']:+.3f})"
        notes.append(
            f"A random mix of both models at the same cost serves better {figures}."
            if gain["high"] < 0
            else f"No gain over a random mix of both models at the same cost is shown {figures}."
        )
    return notes
