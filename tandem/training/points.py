"""Operating points by unit, aim and kind of task: chosen out of fold, evaluated on problems that chose nothing.

A kind with OWN_POINT problems or more has ladders, drafts and thresholds of its own; the others share the point for all
kinds. Three ways of fitting compete for such a kind: one fit of all problems, one that is told the kind, one of the
kind's own problems. A way that is less simple must gain more over the chord, on problems that it never saw, by more
than a standard error.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from tandem.costs import Unit
from tandem.ladder import Ladder, format_ladder
from tandem.statistics.chord import quotient
from tandem.statistics.intervals import Bootstrap, gain_of, interval
from tandem.sufficiency.points import ALL, CardModel, Kind, OperatingPoint
from tandem.sufficiency.policy import Upgrades
from tandem.training.aims import Aim
from tandem.training.estimators import told
from tandem.training.fit import TASK, OneSidedError, Problems, kinds_of
from tandem.training.folds import folds
from tandem.training.replay import ReplayResult, replay_fixed
from tandem.training.search import DraftPredictions, Point, Space
from tandem.training.selection import (
    Choice,
    Chosen,
    Fits,
    Say,
    TrainingPlan,
    by_aim,
    estimator_of,
    fit_all,
    in_domain,
    predict_held_out,
    search,
)
from tandem.types import TaskKind

OWN_POINT = 100  # problems of a kind; benchmarks/points_by_kind.py shows that fewer choose worse than all kinds do
Way = Literal["pooled", "told", "apart"]
WAYS: dict[Way, str] = {
    "pooled": "one fit of all problems",
    "told": "one fit that is told the kind of task",
    "apart": "a fit of its own problems",
}
AIMS = ("accuracy", "cost:0.8", "cost:0.6", "cost:0.4", "gain")  # what a card has points for, beside its own aim
PAID: tuple[Unit, ...] = ("usd", "seconds", "tflops")  # the units that have points whatever a card's own is
MARGINS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)  # standard errors by which a point must lead the mentor where it is chosen
TOLERANCE = 0.01  # accuracy that a point for `accuracy` may lose against the mentor on problems that it never saw
_DIGITS = 4  # of a number in a point


@dataclass(frozen=True)
class Fold:
    """What was fitted on some problems, by way and kind, and what it predicts for others (none: nothing is held out).

    `groups` are the problems that a point is chosen on, by kind: all of them, and each kind that has enough.
    """

    problems: Problems
    plan: TrainingPlan
    ways: Mapping[tuple[Way, Kind], Fits]
    groups: Mapping[Kind, Sequence[str]]
    held: Mapping[Kind, Sequence[str]] = field(default_factory=dict)
    _searched: dict[tuple[Way, Kind, Unit], Chosen] = field(default_factory=dict)
    _ended: dict[tuple[Way, Kind, Unit, int], tuple[Point, ReplayResult]] = field(default_factory=dict)
    _predicted: dict[tuple[int, int | None], DraftPredictions] = field(default_factory=dict)

    def chosen(self, way: Way, kind: Kind, unit: Unit) -> Chosen:
        key = (way, kind, unit)
        if key not in self._searched:
            self._searched[key] = search(self.problems, self.ways[way, kind], self._in(unit), self.groups[kind])
        return self._searched[key]

    def ends(self, way: Way, kind: Kind, unit: Unit, point: Point) -> ReplayResult:
        """Return how the held-out problems of a kind end at a point, in the unit that it was chosen in."""
        key = (way, kind, unit, id(point))
        if key not in self._ended:  # the point is kept with it, so that no other one gets its id
            self._ended[key] = point, self._replay(way, kind, unit, point)
        return self._ended[key][1]

    def _replay(self, way: Way, kind: Kind, unit: Unit, point: Point) -> ReplayResult:
        fits, ids = self.ways[way, kind], self.held[kind]
        key = (id(fits), point.draft)
        if key not in self._predicted:
            self._predicted[key] = predict_held_out(self.problems, fits, point.draft, self.plan, self.held[ALL])
        found = self._predicted[key]
        upgrades = self.chosen(way, kind, unit).space.by_draft[point.draft].upgrades
        own = DraftPredictions({i: found.p[i] for i in ids}, upgrades, found.p_correct_later)
        plan = self._in(unit)
        return Space(self.problems, {point.draft: own}, plan.ladder, plan.pair).ends(point)

    def _in(self, unit: Unit) -> TrainingPlan:
        return replace(self.plan, pair=replace(self.plan.pair, unit=unit))


def fitted(
    problems: Problems,
    ids: Sequence[str],
    plan: TrainingPlan,
    own: Sequence[TaskKind],
    held: Sequence[str] = (),
    say: Say = lambda line: None,
) -> Fold:
    """Fit in every way; `own` are the kinds with points of their own, whose fits may differ."""
    pooled = fit_all(problems, ids, plan, say)
    kinds = kinds_of(problems, ids)
    groups: dict[Kind, Sequence[str]] = {ALL: in_domain(ids, plan)} | {kind: kinds[kind] for kind in own}
    ways: dict[tuple[Way, Kind], Fits] = {("pooled", kind): pooled for kind in groups}
    if own:
        # Without trees, which cannot be told apart by kind afterwards, and which a kind alone is too small for.
        plain = replace(plan, kinds=("logistic",))
        usual = Counter(recipe.strength for recipe in pooled.recipes.values()).most_common(1)[0][0]
        strengths = (usual or plan.strengths[0],)
        names = tuple(f"{TASK}{kind}" for kind in sorted(kinds))
        knows = fit_all(problems, ids, replace(plain, features=(*plan.features, *names), strengths=strengths))
        for kind in own:
            ways["told", kind] = knows
            try:
                ways["apart", kind] = fit_all(problems, kinds[kind], replace(plain, strengths=strengths))
            except OneSidedError:
                say(f"{kind}: too few right or too few wrong answers for a fit of its own")
    apart = kinds_of(problems, held)
    outside: dict[Kind, Sequence[str]] = {ALL: list(held)} | {kind: apart.get(kind, []) for kind in own}
    return Fold(problems, plan, ways, groups, outside)


def own_kinds(problems: Problems, ids: Sequence[str], plan: TrainingPlan) -> list[TaskKind]:
    """Return the kinds that have points of their own: none where all problems are of one, or a domain was chosen."""
    kinds = kinds_of(problems, ids)
    return [] if plan.domain or len(kinds) < 2 else [kind for kind in sorted(kinds) if len(kinds[kind]) >= OWN_POINT]


@dataclass(frozen=True)
class HeldOut:
    """What a choice did with problems that it never saw: their ids in order, and how they ended."""

    ids: list[str]
    ends: ReplayResult


class Selection:
    """Every choice of points, by unit, aim and kind, made on all problems and again without each fifth of them."""

    def __init__(
        self, problems: Problems, ids: Sequence[str], plan: TrainingPlan, say: Say = lambda line: None
    ) -> None:
        self.problems, self.plan = problems, plan
        self.own = own_kinds(problems, ids, plan)
        say(f"{len(ids)} problems; every sufficiency comes from a fit without its problem")
        self.all = fitted(problems, ids, plan, self.own, say=say)
        self._folds: list[Fold] = []
        for number, (others, apart) in enumerate(folds(list(ids), plan.seed + 7, plan.outer), start=1):
            say(f"outer fold {number} of {plan.outer}")
            self._folds.append(fitted(problems, others, plan, self.own, in_domain(apart, plan)))
        self.way: dict[Kind, Way] = {ALL: "pooled"}
        self.ways: dict[Kind, dict[Way, dict[str, float | None]]] = {}
        self._margins: dict[tuple[Kind, Unit], float] = {}

    def choice(self, aim: Aim, kind: Kind, unit: Unit) -> Choice:
        """Return how points are chosen for an aim: for `accuracy` with the margin that keeps it, held out.

        The best of many points is less accurate on other problems than on those that chose it, and the fewer these are,
        the less. So the margin is the one that costs least of those that lose no more than TOLERANCE, held out, else
        the one that loses least. A kind of task may be all the intern's or all the mentor's; all problems may not.
        """
        any_point = kind != ALL
        if aim.kind != "accuracy":
            return by_aim(aim, any_point=any_point)
        key = (kind, unit)
        if key not in self._margins:
            tried = []
            for margin in MARGINS:
                held = self.held_out(by_aim(aim, any_point=any_point, margin=margin), kind, unit)
                _, mentor = self._anchors(held.ids, unit)
                lost = float(mentor.correct.mean() - held.ends.correct.mean())
                tried.append((max(lost - TOLERANCE, 0.0), float(held.ends.cost.mean()), margin))
            self._margins[key] = min(tried)[2]
        return by_aim(aim, any_point=any_point, margin=self._margins[key])

    def choose_ways(self, choice: Choice) -> None:
        """Take, for each kind with points of its own, the way of fitting that gains most with a choice, held out."""
        for kind in self.own:
            best: Way = "pooled"
            gained = {}
            for way in WAYS:
                if all((way, kind) in fold.ways for fold in (self.all, *self._folds)):
                    gained[way] = self.gain(self.held_out(choice, kind, self.plan.pair.unit, way))
            for way, draws in gained.items():
                more = draws - gained[best]
                if more[0] > more[1:].std():
                    best = way
            self.way[kind] = best
            self.ways[kind] = {way: interval(draws) for way, draws in gained.items()}

    def chosen(self, kind: Kind, unit: Unit) -> Chosen:
        return self.all.chosen(self.way[kind], kind, unit)

    def held_out(self, choice: Choice, kind: Kind, unit: Unit, way: Way | None = None) -> HeldOut:
        """Return what a choice for a kind does in a unit, made without the problems that it is evaluated on."""
        way = way or self.way[kind]
        ids: list[str] = []
        parts = []
        for fold in self._folds:
            if fold.held[kind]:
                ids += fold.held[kind]
                parts.append(fold.ends(way, kind, unit, choice(fold.chosen(way, kind, unit))))
        return HeldOut(ids, ReplayResult.join(parts))

    def by_kind(self, choices: Mapping[Kind, Choice], unit: Unit) -> HeldOut:
        """Return what the points together do: each problem by that of its kind, the others by that of all kinds."""
        parts = [self.held_out(choices[kind], kind, unit) for kind in (*self.own, ALL)]
        taken = {i for part in parts[:-1] for i in part.ids}
        rest = np.asarray([n for n, i in enumerate(parts[-1].ids) if i not in taken], dtype=int)
        names = ("level", "correct", "cost", "mentor_tokens")
        last = ReplayResult(*(getattr(parts[-1].ends, name)[rest] for name in names))
        ids = [i for part in parts[:-1] for i in part.ids] + [parts[-1].ids[n] for n in rest]
        return HeldOut(ids, ReplayResult.join([*(part.ends for part in parts[:-1]), last]))

    def gain(self, held: HeldOut) -> np.ndarray:
        boot = Bootstrap(len(held.ids), seed=self.plan.seed)
        return gain_of(boot, held.ends, *self._anchors(held.ids, self.plan.pair.unit))

    def describe(self, held: HeldOut, unit: Unit) -> dict[str, Any]:
        """Return what held-out problems cost and how right they are, against the mentor alone and the chord."""
        boot = Bootstrap(len(held.ids), seed=self.plan.seed)
        cheap, expensive = self._anchors(held.ids, unit)
        return held.ends.means() | against(boot, held.ends, cheap, expensive) | {"problems": len(held.ids)}

    def _anchors(self, ids: Sequence[str], unit: Unit) -> tuple[ReplayResult, ReplayResult]:
        pair, ladder = replace(self.plan.pair, unit=unit), self.plan.ladder
        cheap, expensive = (replay_fixed(self.problems, ids, level.name, pair) for level in (ladder[0], ladder[-1]))
        return cheap, expensive


def against(boot: Bootstrap, ends: ReplayResult, cheap: ReplayResult, mentor: ReplayResult) -> dict[str, Any]:
    """Return the difference to the mentor alone, the share of its cost, and the gain over the chord, with intervals."""
    return {
        "accuracy_difference": interval(boot.mean(ends.correct) - boot.mean(mentor.correct)),
        "cost_ratio": interval(quotient(boot.mean(ends.cost), boot.mean(mentor.cost))),
        "gain_over_chord": interval(gain_of(boot, ends, cheap, mentor)),
    }


class Models:
    """The models of a card, each fitted once: by way, draft, and for what is not pooled by kind."""

    def __init__(self, selection: Selection, own: tuple[Way, Kind, int | None]) -> None:
        self.estimators: dict[str, Any] = {}
        self.cards: dict[str, CardModel] = {}
        self._selection, self._own = selection, self._key(*own)

    def name(self, kind: Kind, draft: int | None) -> str:
        """Return the name of the model that a point of a kind with a draft reads; it is fitted if it is new."""
        way = self._selection.way[kind]
        key = self._key(way, kind, draft)
        if key == self._own:
            return ""
        name = "-".join(str(part) for part in key if part)
        if name not in self.estimators:
            fold = self._selection.all
            fits = fold.ways[way, kind]
            estimator, features = estimator_of(fold.problems, fits, draft, fold.plan), fits.recipes[draft].features
            if way == "told":
                estimator = told(estimator, features, f"{TASK}{kind}")
                features = tuple(feature for feature in features if not feature.startswith(TASK))
            own = (kind,) if kind != ALL and way != "pooled" else ()
            self.estimators[name] = estimator
            self.cards[name] = CardModel(features=features, draft_tokens=draft, kinds=own)
        return name

    def _key(self, way: Way, kind: Kind, draft: int | None) -> tuple[str, str, str]:
        return ("" if way == "pooled" else way, "" if way == "pooled" else kind, f"draft{draft or 'all'}")


def operating_point(chosen: Chosen, point: Point, model: str, held: Mapping[str, Any] | None = None) -> OperatingPoint:
    """Return a point as a card holds it."""
    return OperatingPoint(
        ladder=format_ladder(point.ladder),
        draft_tokens=point.draft,
        policy=point.card(shortened(chosen.space.by_draft[point.draft].upgrades, point.ladder)),
        model=model,
        figures={"chosen": point.describe() | {"gain_over_chord": round(chosen.gain(point), 4)}}
        | ({"held_out": dict(held)} if held else {}),
    )


def shortened(upgrades: Upgrades, ladder: Ladder) -> Upgrades:
    """Return the upgrades between the levels of a ladder, with as many digits as a decision may hang on."""
    names = {level.name for level in ladder}

    def short(value: float) -> float:
        return float(f"{value:.{_DIGITS}g}")

    return {
        here: {
            there: one.model_copy(
                update={
                    "offset": short(one.offset),
                    "slope": short(one.slope),
                    "cost": short(one.cost),
                    "weights": {name: short(weight) for name, weight in one.weights.items()},
                }
            )
            for there, one in later.items()
            if there in names
        }
        for here, later in upgrades.items()
        if here in names
    }
