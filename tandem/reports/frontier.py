"""Everything chosen on one table, evaluated on another: anchors, cascade, ours at a family of points, the oracle."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tandem.costs import LABELS, Unit, known_units
from tandem.errors import UsageError
from tandem.ladder import format_ladder
from tandem.reports.published_figures import published_frontier
from tandem.spec import ModelSpec
from tandem.statistics.chord import ace, quotient
from tandem.statistics.intervals import Bootstrap, gain_of, interval
from tandem.statistics.reliability import figures
from tandem.statistics.significance import wilson
from tandem.sufficiency.rows import BUDGET, Sufficiencies
from tandem.training.aims import parse_aim
from tandem.training.data import Table, check_same
from tandem.training.estimators import KINDS
from tandem.training.fit import Problems, by_problem, complete, counts
from tandem.training.published import Baseline
from tandem.training.replay import Pair, ReplayResult, replay_fixed, rounded
from tandem.training.search import Point, Space
from tandem.training.selection import (
    Choice,
    Chosen,
    Fits,
    Say,
    TrainingPlan,
    applied,
    by_aim,
    by_cost_weight,
    by_gain,
    cascade,
    fit_all,
    predict_held_out,
    search,
    with_features,
)
from tandem.training.train import anchor_name, anchors_of, cost_model, plan_of

OURS = "ours"  # the point that lay farthest above the chord on the training problems
_COST_WEIGHTS = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
_CHOICES: dict[str, Choice] = {
    OURS: by_gain,
    "ours, accuracy": by_aim(parse_aim("accuracy")),
    **{f"ours, cost:{x:g}": by_aim(parse_aim(f"cost:{x:g}")) for x in (0.4, 0.6, 0.8, 1.0)},
    **{f"ours, lambda {x:g}": by_cost_weight(x) for x in _COST_WEIGHTS},
}
_Gains = Mapping[Unit, Mapping[str, np.ndarray]]  # by cost and strategy, in each draw of the bootstrap
_RATIOS = (10.0, 30.0)  # what a larger mentor would change


@dataclass(frozen=True)
class _Test:
    """The test problems, and everything that was chosen without them."""

    both: Problems
    ids: list[str]
    plan: TrainingPlan
    fits: Fits
    chosen: Chosen


def evaluate(
    train: Table,
    test: Table,
    specs: tuple[ModelSpec, ModelSpec],
    *,
    baselines: Mapping[str, Baseline] | None = None,
    kinds: Sequence[str] = KINDS,
    prefix_cache: bool = False,
    domain: Sequence[str] = (),
    unit: Unit | None = None,
    seed: int = 0,
    say: Say = lambda line: None,
) -> dict[str, Any]:
    """Return the figures of every strategy on the test table, with paired 95 % intervals over its problems.

    The operating points are chosen on the training problems of `domain` (data sets; none: all of them), by their cost
    in `unit` (None: the pair's default); what they cost stands in every unit that both models have rates in.

    Raises UsageError for a test table of another pair or set-up, or with problems of the training table in it.
    """
    check_same(train[1], test[1], "the test table")
    plan = plan_of(train[1], specs, kinds=kinds, prefix_cache=prefix_cache, unit=unit, seed=seed, domain=tuple(domain))
    chosen_in = plan.pair.unit
    units = [chosen_in, *(u for u in known_units(*specs) if u not in (chosen_in, "mentor_tokens"))]
    known, fresh = by_problem(train[0], plan.ladder), complete(test[0], plan.ladder)
    if shared := sorted(known.keys() & fresh.keys()):
        raise UsageError(f"{len(shared)} problems are in both tables (as {shared[0]}): test on others")
    if not fresh:
        raise UsageError(f"no problem of the test table has all of the levels {format_ladder(plan.ladder)}")
    plan = with_features(plan, known | fresh)
    fits = fit_all(known, list(known), plan, say)
    room = _Test(known | fresh, list(fresh), plan, fits, search(known, fits, plan))
    points = _points(room)
    predicted = {
        draft: replace(
            predict_held_out(room.both, fits, draft, plan, room.ids),
            upgrades=room.chosen.space.by_draft[draft].upgrades,
        )
        for draft in {p.draft for p in points.values()}
    }
    predictions: dict[str, Sufficiencies] = {OURS: predicted[points[OURS].draft].p}
    left_out: dict[str, str] = {}
    by_unit: dict[Unit, dict[str, ReplayResult]] = {}
    for counted in units:
        own = replace(room, plan=replace(plan, pair=replace(plan.pair, unit=counted)))
        space = Space(room.both, predicted, plan.ladder, own.plan.pair)
        by_unit[counted] = {name: space.ends(point) for name, point in points.items()} | _anchors(own)
        for name, baseline in (baselines or {}).items():
            found = baseline(known, fresh, own.plan)
            if isinstance(found, str):
                left_out[name] = found
            else:
                by_unit[counted][name], predictions[name] = found
    if not any(name.startswith(BUDGET) for name in by_unit[chosen_in]):
        left_out = {"budget-forcing": "the table has no rows of it"} | left_out
    boot = Bootstrap(len(room.ids), seed=seed)
    gains: _Gains = {
        counted: {name: gain_of(boot, found, *_ends_of(ends, plan)) for name, found in ends.items()}
        for counted, ends in by_unit.items()
    }
    return {
        "train": {"problems": counts(known), "chosen_on": list(domain) or sorted(counts(known))},
        "test": {"problems": counts(fresh), "truncated": _truncated(fresh, plan)},
        "cost_model": cost_model(plan.pair),
        "units": units,
        "strategies": _strategies(boot, by_unit, gains, plan),
        "points": {name: _point(point) for name, point in points.items()},
        "differences": _differences(gains),
        "headroom_share": _headroom(gains),
        "sufficiency": {name: figures(room.both, found) for name, found in predictions.items()},
        "auroc_difference": _aurocs(boot, room, predictions),
        "left_out": left_out,
        "what_would_change": _what_if(room, specs, say),
        "published_pair": published_frontier(),
    }


def _points(room: _Test) -> dict[str, Point]:
    choices = _CHOICES | ({"cascade": cascade()} if room.plan.ladder[-1].is_answer else {})
    return {name: choice(room.chosen) for name, choice in choices.items()}


def _anchors(room: _Test) -> dict[str, ReplayResult]:
    found = anchors_of(room.both, room.ids, room.plan)
    for level in sorted(set.intersection(*(set(room.both[i]) for i in room.ids))):
        if level.startswith(BUDGET):
            found[level] = replay_fixed(room.both, room.ids, level, room.plan.pair)
    return found


def _ends_of(ends: Mapping[str, ReplayResult], plan: TrainingPlan) -> tuple[ReplayResult, ReplayResult]:
    return ends[anchor_name(plan.ladder[0])], ends[anchor_name(plan.ladder[-1])]


def _strategies(
    boot: Bootstrap, by_unit: Mapping[Unit, Mapping[str, ReplayResult]], gains: _Gains, plan: TrainingPlan
) -> dict[str, Any]:
    ends = by_unit[plan.pair.unit]
    cheap, expensive = _ends_of(ends, plan)
    rows: dict[str, Any] = {}
    for name, found in ends.items():
        n, right = len(found.correct), int(found.correct.sum())
        low, high = (round(end, 4) for end in wilson(right, n) or ())  # there is a problem
        rows[name] = {
            "accuracy": round(right / n, 4),
            "low": low,
            "high": high,
            "accuracy_difference": interval(boot.mean(found.correct) - boot.mean(expensive.correct)),
            "cost": {unit: rounded(float(own[name].cost.mean())) for unit, own in by_unit.items()},
            "cost_ratio": {
                unit: interval(_ratio(boot, own[name], _ends_of(own, plan)[1])) for unit, own in by_unit.items()
            },
            "mentor_tokens": round(float(found.mentor_tokens.mean()), 1),
            "gain_over_chord": {unit: interval(of[name]) for unit, of in gains.items()},
            "ace": _ace(found, cheap, expensive),
        }
    return rows


def _ratio(boot: Bootstrap, found: ReplayResult, mentor: ReplayResult) -> np.ndarray:
    """Return the cost as a share of the mentor's own in each draw."""
    ratio: np.ndarray = quotient(boot.mean(found.cost), boot.mean(mentor.cost))
    return ratio


def _ace(found: ReplayResult, cheap: ReplayResult, expensive: ReplayResult) -> float | None:
    ends = ((float(end.cost.mean()), float(end.correct.mean())) for end in (cheap, expensive))
    value = float(ace(float(found.cost.mean()), float(found.correct.mean()), *ends))
    return None if np.isnan(value) else round(value, 3)


def _differences(gains: _Gains) -> dict[str, Any]:
    """Return how far our gain over the chord lies above that of each baseline, with paired intervals."""
    others = [
        name for name in next(iter(gains.values())) if name in {"cascade", "published"} or name.startswith(BUDGET)
    ]
    return {name: {cost: interval(of[OURS] - of[name]) for cost, of in gains.items()} for name in others}


def _headroom(gains: _Gains) -> dict[str, Any]:
    """Return our gain over the chord as a share of the oracle's, each at its own cost."""
    return {
        cost: interval(np.where(of["oracle"] > 0, quotient(of[OURS], of["oracle"]), np.nan))
        for cost, of in gains.items()
    }


def _aurocs(boot: Bootstrap, room: _Test, predictions: Mapping[str, Sufficiencies]) -> dict[str, Any]:
    """Return ours minus each baseline's AUROC, pooled and by level, with intervals grouped by problem."""
    levels = [level.name for level in room.plan.ladder if level.is_drafted]
    found: dict[str, Any] = {}
    for name, p in predictions.items():
        if name == OURS:
            continue
        found[name] = {}
        for what, chosen in {"pooled": levels, **{level: [level] for level in levels}}.items():
            keys = [(n, i, level) for n, i in enumerate(room.ids) for level in chosen if level in p[i]]
            groups = np.asarray([n for n, _, _ in keys])
            y = np.asarray([int(room.both[i][level]["correct"]) for _, i, level in keys])
            ours, theirs = (
                boot.auroc(groups, y, np.asarray([q[i][level] for _, i, level in keys])) for q in (predictions[OURS], p)
            )
            found[name][what] = interval(ours - theirs)
    return found


def _what_if(room: _Test, specs: tuple[ModelSpec, ModelSpec], say: Say) -> list[dict[str, Any]]:
    """Return what our point and the oracle would gain at other sizes, in TFLOPs: chosen on training data."""
    mentor, intern = specs
    if "tflops" not in known_units(mentor, intern) or not mentor.parameters or not intern.parameters:
        return []
    now = mentor.parameters / intern.parameters
    found = []
    cases = [(now, not room.plan.pair.prefix_cache), *((r, c) for r in _RATIOS if r > now for c in (False, True))]
    for ratio, cache in cases:
        say(f"what if: size ratio {ratio:.3g}, prefix cache {'on' if cache else 'off'}")
        scale = ratio / now
        larger = mentor.model_copy(
            update={
                "parameters": mentor.parameters * scale,
                "active_parameters": mentor.active_parameters and mentor.active_parameters * scale,
            }
        )
        plan = replace(room.plan, pair=Pair(larger, intern, cache))
        known = {i: room.both[i] for i in room.fits.ids}
        chosen = search(known, room.fits, plan)
        point = by_gain(chosen)
        ours, _ = applied(room.both, room.fits, chosen, point, plan, room.ids)
        ends = _anchors(replace(room, plan=plan)) | {OURS: ours}
        boot = Bootstrap(len(room.ids), seed=plan.seed)
        cheap, expensive = _ends_of(ends, plan)
        found.append(
            {
                "size_ratio": round(ratio, 2),
                "prefix_cache": cache,
                "point": _point(point),
                "ours": interval(gain_of(boot, ours, cheap, expensive)),
                "oracle": interval(gain_of(boot, ends["oracle"], cheap, expensive)),
                "accuracy": round(float(ours.correct.mean()), 4),
                "share_of_mentor_cost": round(float(ours.cost.mean() / expensive.cost.mean()), 4),
            }
        )
    return found


def _point(point: Point) -> dict[str, Any]:
    return {
        "ladder": format_ladder(point.ladder),
        "draft_tokens": point.draft,
        "thresholds": dict(point.thresholds),
        "price": point.cost_weight,
        "on_training_problems": point.describe(),
    }


def _truncated(problems: Problems, plan: TrainingPlan) -> dict[str, float]:
    return {
        level.name: round(float(np.mean([bool(p[level.name].get("truncated")) for p in problems.values()])), 4)
        for level in plan.ladder
        if not level.is_question
    }


def markdown(found: Mapping[str, Any]) -> str:
    model, units = found["cost_model"], found["units"]
    cache = "with" if model["prefix_cache"] else "without"
    lines = [
        "# Everything chosen on training data, evaluated on others",
        "",
        f"Trained on {_sets(found['train']['problems'])}; points chosen on {', '.join(found['train']['chosen_on'])}; "
        f"evaluated on {_sets(found['test']['problems'])}.",
        f"Points are chosen by {LABELS[units[0]]}: {model['mentor']} (mentor), {model['intern']} (intern), {cache} the "
        f"intern's prefix cache; the insight is {model['insight']}. Costs are means per problem. Brackets are 95 % "
        "intervals (Wilson for an accuracy, paired bootstrap over problems else). Gains are over the chord between the "
        "cheapest and the most expensive level at equal cost, in points of accuracy.",
        "",
        "Truncated answers: "
        + ", ".join(f"{name} {share:.1%}" for name, share in found["test"]["truncated"].items())
        + ".",
        "",
        *_table(
            ("strategy", "accuracy", *_heads(units, "{}", "gain"), "mentor tokens", "ACE"),
            [
                (
                    name,
                    f"{100 * row['accuracy']:.1f} [{100 * row['low']:.1f}, {100 * row['high']:.1f}]",
                    *(cell for u in units for cell in (f"{row['cost'][u]:.3g}", _interval(row["gain_over_chord"][u]))),
                    f"{row['mentor_tokens']:.0f}",
                    "" if row["ace"] is None else f"{row['ace']:.2f}",
                )
                for name, row in sorted(found["strategies"].items(), key=lambda item: item[1]["cost"][units[0]])
            ],
        ),
        "`ours` is the point that lay farthest above the chord on the training problems.",
        "",
        *(f"Left out: {name}: {reason}." for name, reason in found["left_out"].items()),
        *([""] if found["left_out"] else []),
        "## Ours against the others",
        "",
        *_table(
            ("ours less", *_heads(units, "gain by {}")),
            [(name, *(_interval(row[unit]) for unit in units)) for name, row in found["differences"].items()],
        ),
        "Share of the oracle's headroom, (ours - chord) / (oracle - chord), each at its own cost: "
        + ", ".join(f"{_share(found['headroom_share'][unit])} by {LABELS[unit]}" for unit in units)
        + ".",
        "",
        "## Against the mentor alone",
        "",
        *_table(
            ("strategy", "accuracy difference", *_heads(units, "{}, share")),
            [
                (name, _interval(row["accuracy_difference"]), *(_share(row["cost_ratio"][unit]) for unit in units))
                for name, row in found["strategies"].items()
            ],
        ),
        "",
        "## Sufficiency",
        "",
        *_table(
            ("by", "level", "answers", "right", "AUROC", "Brier", "calibration error"),
            [
                (
                    name,
                    level,
                    f"{row['n']}",
                    f"{row['right']:.3f}",
                    "" if row["auroc"] is None else f"{row['auroc']:.3f}",
                    f"{row['brier']:.3f}",
                    f"{row['calibration_error']:.3f}",
                )
                for name, levels in found["sufficiency"].items()
                for level, row in levels.items()
            ],
        ),
        *_auroc_lines(found["auroc_difference"]),
        "## What would have to change",
        "",
        "The same answers at other sizes, costs in TFLOPs; points chosen on the training problems at those sizes.",
        "",
        *_table(
            ("size ratio", "prefix cache", "ladder", "accuracy", "share of mentor's cost", "gain", "oracle's gain"),
            [
                (
                    f"{row['size_ratio']:g}",
                    "yes" if row["prefix_cache"] else "no",
                    row["point"]["ladder"],
                    f"{100 * row['accuracy']:.1f}",
                    f"{row['share_of_mentor_cost']:.2f}",
                    _interval(row["ours"]),
                    _interval(row["oracle"]),
                )
                for row in found["what_would_change"]
            ],
        ),
        *_published_lines(found["published_pair"]),
    ]
    return "\n".join(lines) + "\n"


def _heads(units: Sequence[Unit], *texts: str) -> Iterator[str]:
    for unit in units:
        yield from (text.format(LABELS[unit]) for text in texts)


def _sets(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} problems of {name}" for name, count in counts.items())


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)] + [""]


def _interval(value: Mapping[str, float | None]) -> str:
    if value["value"] is None:
        return "none"
    return f"{100 * value['value']:+.1f} [{100 * (value['low'] or 0):+.1f}, {100 * (value['high'] or 0):+.1f}]"


def _share(value: Mapping[str, float | None]) -> str:
    if value["value"] is None:
        return "none"
    return f"{value['value']:.0%} [{value['low'] or 0:.0%}, {value['high'] or 0:.0%}]"


def _auroc_lines(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    lines = []
    for name, levels in found.items():
        parts = [
            f"{level} {row['value']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"
            for level, row in levels.items()
            if row["value"] is not None
        ]
        lines += [f"AUROC, ours less {name}: {'; '.join(parts)}.", ""]
    return lines


def _published_lines(found: Mapping[str, Any]) -> list[str]:
    best = found["oracle_math500"]
    return [
        "## The published pair",
        "",
        f"{found['pair']}: {found['source']}.",
        "",
        *_table(
            ("system", "accuracy", "published TFLOPs", "gain"),
            [
                (
                    name,
                    f"{100 * row['accuracy']:.2f}",
                    f"{row['tflops_published']:.2f}",
                    f"{100 * row['gain_over_chord']:+.2f}",
                )
                for name, row in sorted(found["systems"].items(), key=lambda item: item[1]["tflops_published"])
            ],
        ),
        f"On MATH-500 the best level of each problem gives {100 * best['accuracy']:.1f} with {best['mentor_tokens']:g} "
        f"mentor tokens, against {100 * best['mentor_only']:.1f} for the mentor alone with "
        f"{best['mentor_only_tokens']:,} (the paper's code, README).",
    ]
