"""Selecting an operating point on training data, and evaluating the whole selection on problems that it never saw.

`fit_all` makes sufficiencies out of fold for every draft length; `search` looks for operating points on them. All of it
is repeated without each fifth of the problems, and what was selected is replayed on that fifth (`Selection` in
points.py): figures of the selected point itself are optimistic (the best of thousands), those are not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from tandem.errors import UsageError
from tandem.ladder import Ladder, format_ladder
from tandem.statistics.chord import chord
from tandem.sufficiency.classifier import FEATURES
from tandem.sufficiency.rows import Sufficiencies
from tandem.training.aims import Aim, choose
from tandem.training.estimators import Recipe
from tandem.training.fit import (
    STRENGTHS,
    Problems,
    choose_recipe,
    counts,
    dataset_of,
    features_in,
    fit,
    intern_rows,
    signals_by_problem,
    sufficiencies,
)
from tandem.training.folds import FOLDS
from tandem.training.replay import LevelCosts, Pair, ReplayResult
from tandem.training.search import DraftPredictions, Point, Space
from tandem.training.upgrades import extra_costs, fit_upgrades, predict_later, with_costs

Say = Callable[[str], None]
Choice = Callable[["Chosen"], Point]


@dataclass(frozen=True)
class TrainingPlan:
    """What is common to every fit and search: ladder, draft lengths (None: the whole answer), prices and folds."""

    ladder: Ladder
    drafts: Mapping[int | None, str]
    pair: Pair
    hand_over: bool = True
    kinds: Sequence[str] = ("logistic", "boosted")
    features: tuple[str, ...] = FEATURES
    strengths: tuple[float, ...] = STRENGTHS  # of the regression, to choose among
    outer: int = FOLDS  # folds that evaluate the selection
    domain: tuple[str, ...] = ()  # the data sets that the operating point is chosen for; none: all that are there
    seed: int = 0


def with_features(plan: TrainingPlan, problems: Problems) -> TrainingPlan:
    return replace(plan, features=features_in(problems, plan.ladder, next(iter(plan.drafts.values()))))


@dataclass(frozen=True)
class Fits:
    """For each draft length the recipe that was chosen, and its predictions for every problem out of fold."""

    ids: list[str]
    recipes: Mapping[int | None, Recipe]
    predictions: Mapping[int | None, DraftPredictions]


@dataclass(frozen=True)
class Chosen:
    """A searched space of operating points with the anchors on the same problems, as (cost, accuracy)."""

    space: Space
    points: Sequence[Point]
    cheap: tuple[float, float]
    expensive: tuple[float, float]

    def gain(self, point: Point) -> float:
        """Return how far a point lies above the random mix of its ends at equal cost, in accuracy."""
        return point.accuracy - float(chord(point.cost, self.cheap, self.expensive))


def fit_all(problems: Problems, ids: Sequence[str], plan: TrainingPlan, say: Say = lambda line: None) -> Fits:
    """Choose a recipe for each draft length and return its sufficiencies out of fold, with the gains fitted on them."""
    recipes, predictions = {}, {}
    for draft, column in plan.drafts.items():
        recipe, p = choose_recipe(
            problems,
            ids,
            plan.ladder,
            column,
            kinds=plan.kinds,
            features=plan.features,
            strengths=plan.strengths,
            seed=plan.seed,
        )
        recipes[draft] = recipe
        signals = signals_by_problem(problems, ids, plan.ladder, column, plan.features)
        predictions[draft] = DraftPredictions(p, *fit_upgrades(problems, p, plan.ladder, signals, seed=plan.seed))
        say(f"draft {column:>3}: {recipe.describe()['kind']}")
    return Fits(list(ids), recipes, predictions)


def search(
    problems: Problems, fits: Fits, plan: TrainingPlan, ids: Sequence[str] | None = None, *, every: bool = False
) -> Chosen:
    """Search the operating points on sufficiencies out of fold, on some problems (None: those of the plan's domain).

    What going on costs is that of these problems, in the unit of the plan's pair. The points are those that none beats,
    or `every` one. Raises UsageError where the domain has no problems, or the plan allows no ladder.
    """
    ids = in_domain(fits.ids, plan) if ids is None else ids
    costs = LevelCosts(problems, ids, plan.pair)
    predictions = {
        draft: DraftPredictions(
            {i: one.p[i] for i in ids},
            with_costs(one.upgrades, extra_costs(costs, plan.ladder, draft)),
            one.p_correct_later,
        )
        for draft, one in fits.predictions.items()
    }
    space = Space(problems, predictions, plan.ladder, plan.pair, costs)
    points = space.search(hand_over=plan.hand_over, every=every)
    if not points:
        raise UsageError(
            f"of the levels {format_ladder(plan.ladder)} only the mentor can end a ladder: train without --no-hand-over"
        )
    cheap, expensive = (
        (float(costs.fixed(level.name).mean()), float(costs.column(level.name, "correct").mean()))
        for level in (plan.ladder[0], plan.ladder[-1])
    )
    return Chosen(space, points, cheap, expensive)


def in_domain(ids: Sequence[str], plan: TrainingPlan) -> list[str]:
    """Return the problems of the plan's domain. Raises UsageError where there are none."""
    found = [i for i in ids if not plan.domain or dataset_of(i) in plan.domain]
    if not found:
        raise UsageError(f"the table has no problems of {', '.join(plan.domain)}; it has {', '.join(counts(ids))}")
    return found


def by_aim(aim: Aim, *, any_point: bool = False, margin: float = 0.0) -> Choice:
    """Return the choice for an aim; see `choose` for the others."""
    if aim.kind == "gain":
        return partial(by_gain, any_point=any_point)

    def chosen_from(chosen: Chosen) -> Point:
        (cost, accuracy), size = chosen.expensive, len(chosen.space.ids)
        how: dict[str, Any] = {"any_point": any_point, "margin": margin, "problems": size}
        return choose(chosen.points, aim, accuracy, cost, **how)[0]

    return chosen_from


def by_gain(chosen: Chosen, *, any_point: bool = False) -> Point:
    """Choose the point that lies farthest above the chord, among those that adapt."""
    adapting = [point for point in chosen.points if any_point or not point.degenerate] or list(chosen.points)
    return max(adapting, key=lambda point: (chosen.gain(point), -point.cost))


def by_cost_weight(weight: float) -> Choice:
    """Return the choice of the best accuracy less `weight` x cost, as a share of the expensive end's: a family."""

    def value(chosen: Chosen, point: Point) -> tuple[float, float]:
        return point.accuracy - weight * point.cost / chosen.expensive[0], -point.cost

    return lambda chosen: max(chosen.points, key=lambda point: value(chosen, point))


def cascade(aim: Aim | None = None) -> Choice:
    """Return the choice of a cascade's threshold: the whole answer of the intern first, then the mentor's.

    For an aim the threshold that serves it, else the one that lies farthest above the chord. Needs a table with the
    mentor's own answers and whole answers of the intern (`None` among the draft lengths).
    """

    def chosen_from(chosen: Chosen) -> Point:
        first, last = next(level for level in chosen.space.full if not level.is_question), chosen.space.full[-1]
        grid = [round(0.02 * k, 2) for k in range(1, 50)]
        points = chosen.space.many((first, last), None, [{first.name: threshold} for threshold in grid], None)
        if aim:
            return choose(points, aim, chosen.expensive[1], chosen.expensive[0])[0]
        return max(points, key=lambda point: (chosen.gain(point), -point.cost))

    return chosen_from


def estimator_of(problems: Problems, fits: Fits, draft: int | None, plan: TrainingPlan) -> Any:
    rows = intern_rows(problems, fits.ids, plan.ladder)
    return fit(rows, plan.drafts[draft], fits.recipes[draft], seed=plan.seed)


def applied(
    problems: Problems, fits: Fits, chosen: Chosen, point: Point, plan: TrainingPlan, held: Sequence[str]
) -> tuple[ReplayResult, Sufficiencies]:
    """Fit the point's recipe on all that `fits` saw, and replay the point on other problems.

    `chosen` is the search that the point is from: what going on costs is as it was there.
    """
    predicted = predict_held_out(problems, fits, point.draft, plan, held)
    predicted = replace(predicted, upgrades=chosen.space.by_draft[point.draft].upgrades)
    return Space(problems, {point.draft: predicted}, plan.ladder, plan.pair).ends(point), predicted.p


def predict_held_out(
    problems: Problems, fits: Fits, draft: int | None, plan: TrainingPlan, held: Sequence[str]
) -> DraftPredictions:
    """Return what a draft length's recipe and gains, fitted on all that `fits` saw, predict for other problems."""
    recipe, column, upgrades = fits.recipes[draft], plan.drafts[draft], fits.predictions[draft].upgrades
    p = sufficiencies(estimator_of(problems, fits, draft, plan), problems, held, plan.ladder, column, recipe.features)
    return DraftPredictions(
        p, upgrades, predict_later(upgrades, p, signals_by_problem(problems, held, plan.ladder, column, plan.features))
    )


def sequence(chosen: Chosen, limit: float, most: int = 20) -> list[Point]:
    """Return points to certify, from the most expensive down: at each of `most` costs, the one that promises the most.

    A point promises what betting on its losses would grow: (limit - mean)^2 / 2 (variance + (limit - mean)^2).
    """

    def promise(point: Point) -> float:
        mean, room = point.lost - point.won, limit - (point.lost - point.won)
        return room * room / (point.lost + point.won - mean * mean + room * room + 1e-9) if room > 0 else 0.0

    top = chosen.expensive[0]
    able = [p for p in chosen.points if p.ladder[-1].is_answer and p.cost < top and promise(p) > 0]
    if not able:
        return []
    low = min(point.cost for point in able)
    found: list[Point] = []
    for cost in np.linspace(top, low, most):
        below = [point for point in able if point.cost <= cost + 1e-12]
        best = max(below, key=lambda point: (promise(point), -point.cost))
        if not found or best is not found[-1]:
            found.append(best)
    return sorted(found, key=lambda point: -point.cost)


def losses(problems: Problems, ids: Sequence[str], ends: ReplayResult, last: str) -> np.ndarray:
    """Return mentor right minus ours right for each problem, in {-1, 0, 1}."""
    lost: np.ndarray = np.asarray([int(problems[i][last]["correct"]) for i in ids]) - ends.correct.astype(int)
    return lost
