"""From a collected table to a classifier in a folder: the work behind `tandem train` and `tandem calibrate`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from tandem.costs import LABELS, Unit, amount, default_unit, known_units
from tandem.errors import UsageError
from tandem.ladder import ANSWER, NONE, QUESTION, Effort, Ladder, format_ladder, parse_ladder
from tandem.spec import ModelSpec
from tandem.statistics.intervals import Bootstrap, gain_of, interval
from tandem.statistics.reliability import figures, reliability
from tandem.sufficiency.classifier import FORMAT, Classifier, ClassifierCard, short_hash
from tandem.sufficiency.points import ALL, Kind, OperatingPoint
from tandem.training import certify
from tandem.training.aims import Aim, parse_aim
from tandem.training.estimators import KINDS
from tandem.training.fit import Problems, by_problem, counts, kinds_of, with_question
from tandem.training.folds import FOLDS, digest, digests, halves
from tandem.training.points import AIMS, PAID, WAYS, HeldOut, Models, Selection, operating_point
from tandem.training.replay import Pair, ReplayResult, oracle, replay_fixed
from tandem.training.search import DEGENERATE, Point
from tandem.training.selection import (
    Choice,
    Chosen,
    Fits,
    Say,
    TrainingPlan,
    applied,
    by_aim,
    cascade,
    estimator_of,
    fit_all,
    in_domain,
    losses,
    search,
    sequence,
    with_features,
)


@dataclass(frozen=True)
class Trained:
    """A classifier for an aim, and what else the table shows: `classifier` is None where nothing could be certified."""

    classifier: Classifier | None
    report: dict[str, Any]


def plan_of(
    manifest: Mapping[str, Any],
    specs: tuple[ModelSpec, ModelSpec],
    *,
    hand_over: bool = True,
    kinds: Sequence[str] = KINDS,
    prefix_cache: bool = False,
    unit: Unit | None = None,
    seed: int = 0,
    **more: Any,
) -> TrainingPlan:
    """Return the plan for a table: its ladder, draft lengths and rates; `more` are fields of `TrainingPlan`.

    `unit` None is the pair's default. Raises UnknownRatesError for a unit in which a model has no rates.
    """
    ladder = with_question(parse_ladder(manifest["ladder"]))
    drafts: dict[int | None, str] = {int(n): str(n) for n in manifest["draft_lengths"]} | {None: "all"}
    pair = Pair(*specs, prefix_cache, unit or default_unit(*specs))
    return TrainingPlan(ladder, drafts, pair, hand_over, tuple(kinds), seed=seed, **more)


def train(
    rows: list[dict[str, Any]],
    manifest: dict[str, Any],
    specs: tuple[ModelSpec, ModelSpec],
    *,
    name: str,
    command: str,
    aim: Aim | None = None,
    seed: int = 0,
    hand_over: bool = True,
    kinds: Sequence[str] = KINDS,
    prefix_cache: bool = False,
    unit: Unit | None = None,
    say: Say = lambda line: None,
    **more: Any,
) -> Trained:
    """Fit, calibrate, choose the operating point for an aim out of fold, evaluate that choice by nested folds.

    `specs` are mentor and intern, with rates in the `unit` that costs are counted in (None: the pair's default).
    `hand_over` lets the policy end at the mentor's own answer; else the intern always writes it. An aim of regret fits
    on one half of the problems and certifies on the other, and always may hand over. `more` are fields of the plan.
    Raises UsageError for a table too small, UnknownRatesError for a unit that a model has no rates in.
    """
    aim = aim or Aim()
    regret = aim.kind == "regret"
    how: dict[str, Any] = {"kinds": kinds, "prefix_cache": prefix_cache, "unit": unit, "seed": seed} | more
    plan = plan_of(manifest, specs, hand_over=hand_over or regret, **how)
    problems = by_problem(rows, plan.ladder)
    plan = with_features(plan, problems) if "features" not in more else plan
    ids, certified = halves(list(problems), seed) if regret else (list(problems), [])
    certified = in_domain(certified, plan) if regret else []
    report: dict[str, Any] = {"aim": str(aim), "problems": len(problems)}
    models: Models | None = None
    points: dict[Unit, dict[str, dict[Kind, OperatingPoint]]] = {}
    more_figures: dict[str, Any] = {}
    passed_over = None
    if regret:
        _enough(plan.ladder, aim, len(certified))
        say(f"{len(problems)} problems; every sufficiency comes from a fit without its problem")
        fits = fit_all(problems, ids, plan, say)
        chosen = search(problems, fits, plan, every=True)
        found_point, certificate = _certify(problems, fits, chosen, plan, aim, certified)
        report["certificate"] = more_figures["certificate"] = certificate
        if found_point is None:
            return Trained(None, report | {"alternatives": [_mentor_serves(certificate)]})
        point, rivals = found_point, {"cascade": cascade(Aim())(chosen)}
        held, *others = (
            HeldOut(certified, applied(problems, fits, chosen, own, plan, certified)[0])
            for own in (point, *rivals.values())
        )
        evaluated = dict(zip(rivals, others, strict=True))
    else:
        selection = Selection(problems, ids, plan, say)
        fits, chosen = selection.all.ways["pooled", ALL], selection.chosen(ALL, plan.pair.unit)
        selection.choose_ways(by_aim(Aim("gain"), any_point=True))
        point = selection.choice(aim, ALL, plan.pair.unit)(chosen)
        best = by_aim(aim, any_point=True)(chosen)
        passed_over = best if best.degenerate and best is not point else None
        held = selection.by_kind(_by_kind(aim, selection, plan.pair.unit), plan.pair.unit)
        cut = plan.ladder[-1].is_answer
        evaluated = {"cascade": selection.held_out(cascade(aim), ALL, plan.pair.unit)} if cut else {}
        models = Models(selection, ("pooled", ALL, point.draft))
        points, more_figures = _points(selection, models, aim, specs, say)
    recipe, predictions = fits.recipes[point.draft], fits.predictions[point.draft]
    estimator = estimator_of(problems, fits, point.draft, plan)
    anchors = anchors_of(problems, held.ids, plan) | {name: other.ends for name, other in evaluated.items()}
    found = _held_figures(held, anchors, plan)
    alternatives = _alternatives(aim, found, anchors, plan)
    card = ClassifierCard(
        format=FORMAT,
        id=name,
        created=datetime.now(UTC).date().isoformat(),
        command=command,
        mentor=manifest["mentor"],
        intern=manifest["intern"],
        ladder=format_ladder(point.ladder),
        collected_ladder=manifest["ladder"],
        draft_tokens=point.draft,
        signal_version=manifest["signal_version"],
        features=recipe.features,
        estimator=manifest["estimator"],
        logprobs_mode=manifest["logprobs_mode"],
        top_logprobs=manifest["top_logprobs"],
        temperature=manifest["sampling"]["temperature"],
        insight_mode=manifest["insight_mode"],
        aim=str(aim) + ("" if plan.hand_over else "; the intern always writes the answer"),
        policy=operating_point(chosen, point, "").policy,
        unit=plan.pair.unit,
        models=models.cards if models else {},
        points=points,
        data={
            "problems": counts(problems),
            "rows": len(rows),
            "max_tokens": manifest["max_tokens"],
            "split": {"seed": seed, "folds": FOLDS, "fit": len(ids), "certify": len(certified)},
            "id_sha256": digests(ids, seed) | ({"certify": digest(certified)} if certified else {}),
            "seen": sorted(map(short_hash, ids)),
        },
        figures={
            "model": recipe.describe(),
            "cost_model": cost_model(plan.pair),
            "out_of_fold": figures(problems, predictions.p),
            "reliability": reliability(problems, predictions.p),
            "auroc_by_draft": {
                plan.drafts[draft]: figures(problems, other.p)["pooled"]["auroc"]
                for draft, other in fits.predictions.items()
            },
            "chosen": point.describe() | {"gain_over_chord": round(chosen.gain(point), 4)},
            "held_out": found,
            "anchors": {name: ends.means() for name, ends in anchors.items()},
            "usual_tokens": usual_tokens(problems),
            **more_figures,
        },
        notes=_notes(point, passed_over, plan, more_figures.get("kinds", {})) + alternatives,
    )
    figures_of_card = {key: card.figures[key] for key in ("chosen", "held_out", "anchors")}
    made = Classifier(estimator, card, models.estimators if models else None)
    return Trained(made, report | {"ladder": card.ladder, "alternatives": alternatives} | figures_of_card)


def _by_kind(aim: Aim, selection: Selection, unit: Unit) -> dict[Kind, Choice]:
    return {kind: selection.choice(aim, kind, unit) for kind in (ALL, *selection.own)}


def _points(
    selection: Selection, models: Models, aim: Aim, specs: tuple[ModelSpec, ModelSpec], say: Say
) -> tuple[dict[Unit, dict[str, dict[Kind, OperatingPoint]]], dict[str, Any]]:
    """Return the points by unit, aim and kind, and what those of a unit and an aim do together, held out."""
    points: dict[Unit, dict[str, dict[Kind, OperatingPoint]]] = {}
    together: dict[Unit, dict[str, Any]] = {}
    own = selection.plan.pair.unit
    for unit in (own, *(unit for unit in known_units(*specs) if unit != own and unit in PAID)):
        say(f"points by {LABELS[unit]}")
        for wanted in dict.fromkeys((aim, *map(parse_aim, AIMS))):
            choices = _by_kind(wanted, selection, unit)
            by_kind = points.setdefault(unit, {}).setdefault(str(wanted), {})
            for kind, choice in choices.items():
                chosen = selection.chosen(kind, unit)
                point = choice(chosen)
                held = selection.describe(selection.held_out(choice, kind, unit), unit)
                by_kind[kind] = operating_point(chosen, point, models.name(kind, point.draft), held)
            together.setdefault(unit, {})[str(wanted)] = selection.describe(selection.by_kind(choices, unit), unit)
    sizes = {kind: len(selection.all.groups[kind]) for kind in selection.own}
    kinds = {
        kind: {"problems": sizes[kind], "fit": WAYS[selection.way[kind]], "gain_over_chord": selection.ways[kind]}
        for kind in selection.own
    }
    rated = {unit: cost_model(replace(selection.plan.pair, unit=unit)) for unit in points}
    return points, {"points": together, "kinds": kinds, "rates": rated}


def cost_model(pair: Pair) -> dict[str, Any]:
    """Return what costs were counted by: the unit, where each model's rates come from, and the cache."""
    sources = {role: own.source for role, own in (("mentor", pair.mentor_rates), ("intern", pair.intern_rates))}
    insight = "one generation, cut at the level reached"
    return {"unit": pair.unit, **sources, "prefix_cache": pair.prefix_cache, "insight": insight}


def _enough(ladder: Ladder, aim: Aim, count: int) -> None:
    if not ladder[-1].is_answer:
        raise UsageError("a regret can be certified only against the mentor's own answers: collect the level 'answer'")
    fewest = certify.fewest(aim.limit)
    if count < fewest:
        raise UsageError(
            f"{count} problems are left to certify {aim} at {certify.CONFIDENCE:.0%} confidence; even without a single "
            f"loss it takes {fewest}, so the table needs at least {2 * fewest} problems (half fit the classifier)"
        )


def _certify(
    problems: Problems, fits: Fits, chosen: Chosen, plan: TrainingPlan, aim: Aim, held: list[str]
) -> tuple[Point | None, dict[str, Any]]:
    """Test points on problems that neither fitted nor ordered them; return the last that passed."""
    points = sequence(chosen, aim.limit)
    samples = []
    for point in points:
        ends, _ = applied(problems, fits, chosen, point, plan, held)
        samples.append(losses(problems, held, ends, plan.ladder[-1].name))
    passed = certify.fixed_sequence(samples, aim.limit)
    # How many it would take follows from what ordered the points, which the test has not touched.
    own = [losses(problems, fits.ids, chosen.space.ends(point), plan.ladder[-1].name) for point in points]
    wanted = [n for n in (certify.needed(sample, aim.limit) for sample in own) if n]
    certificate = {
        "limit": aim.limit,
        "confidence": certify.CONFIDENCE,
        "problems": len(held),
        "points": len(points),
        "passed": passed.passed,
        "tests": list(passed.tests),
        "needed": None if not wanted else 2 * min(wanted),
    }
    return (points[passed.passed - 1] if passed.passed else None), certificate


def _mentor_serves(certificate: Mapping[str, Any]) -> str:
    limit, needed = certificate["limit"], certificate["needed"]
    why = (
        f"a table of about {needed} problems would be enough, if they go on like these"
        if needed
        else "no number of problems would change that: on the half that was searched, every cheaper point loses more"
    )
    return (
        f"Nothing cheaper than mentor-only is certified to lose at most {limit:g} with "
        f"{certificate['confidence']:.0%} confidence ({certificate['problems']} problems); {why}. "
        "Until then: --strategy mentor-only."
    )


def anchors_of(problems: Problems, ids: Sequence[str], plan: TrainingPlan) -> dict[str, ReplayResult]:
    """Return how problems end at each level alone, by its strategy's name, and with the cheapest right level."""
    found = {anchor_name(level): replay_fixed(problems, ids, level.name, plan.pair) for level in plan.ladder}
    names = [level.name for level in plan.ladder]
    return found | {"oracle": ReplayResult.of([oracle(problems[i], names, plan.pair) for i in ids])}


def usual_tokens(problems: Problems) -> dict[str, dict[str, float]]:
    """Return the mean tokens of either model's answer alone, by kind of task and for all, which estimates count by."""
    found: dict[str, dict[str, float]] = {}
    for kind, ids in [("all", list(problems)), *kinds_of(problems, problems).items()]:
        answers = {"mentor": ANSWER, "intern": NONE}
        written = {
            role: [problems[i][level]["completion_tokens"] for i in ids if level in problems[i]]
            for role, level in answers.items()
        }
        found[kind] = {role: round(float(np.mean(tokens)), 1) for role, tokens in written.items() if tokens}
    return found


def anchor_name(level: Effort) -> str:
    alone = {QUESTION: "intern-only", "none": "intern-only", ANSWER: "mentor-only"}
    return alone.get(level.name, f"fixed:{level.name}")


def _held_figures(held: HeldOut, anchors: Mapping[str, ReplayResult], plan: TrainingPlan) -> dict[str, Any]:
    """Return what the selection does on problems that it never saw, with paired 95 % intervals."""
    boot = Bootstrap(len(held.ids), seed=plan.seed)
    cheap, expensive = (anchors[anchor_name(level)] for level in (plan.ladder[0], plan.ladder[-1]))
    ladder = [level.name for level in plan.ladder]
    shares = np.bincount(held.ends.level, minlength=len(ladder)) / len(held.ids)
    return held.ends.means() | {
        "problems": len(held.ids),
        "level_shares": {name: round(float(share), 4) for name, share in zip(ladder, shares, strict=True)},
        "gain_over_chord": interval(gain_of(boot, held.ends, cheap, expensive)),
        "loss_against_dearest": interval(boot.mean(expensive.correct) - boot.mean(held.ends.correct)),
    }


def _alternatives(
    aim: Aim, ours: Mapping[str, Any], anchors: Mapping[str, ReplayResult], plan: TrainingPlan
) -> list[str]:
    """Say what would serve better on the same held-out problems, where something does."""
    notes = []
    if aim.kind != "regret":
        for name, ends in anchors.items():
            accuracy, cost = float(ends.correct.mean()), float(ends.cost.mean())
            # A cascade is a ladder of two levels, with the whole answer as the draft.
            how = "ladder none,answer with whole answers as drafts" if name == "cascade" else f"--strategy {name}"
            if name != "oracle" and accuracy >= ours["accuracy"] and cost <= ours["cost"]:
                notes.append(
                    f"{name} serves better on this pair: accuracy {accuracy:.3f} at {amount(cost, plan.pair.unit)}, "
                    f"against {ours['accuracy']:.3f} at {amount(ours['cost'], plan.pair.unit)} here ({how})."
                )
    gain = ours["gain_over_chord"]
    if plan.ladder[-1].is_answer and not notes and gain["value"] is not None and gain["value"] <= 0:
        notes.append(
            f"A random mix of intern-only and mentor-only at the same cost serves better by {-gain['value']:.3f} in "
            f"accuracy (95 % interval of the gain {gain['low']:.3f} to {gain['high']:.3f})."
        )
    return notes


def _notes(
    point: Point, passed_over: Point | None, plan: TrainingPlan, kinds: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    cache = "with the intern's prefix cache" if plan.pair.prefix_cache else "without any prefix cache"
    notes = [
        "`chosen` is the best of many points on the problems that chose it, so its figures are optimistic; those of "
        "`held_out` evaluate the whole selection on problems that it never saw.",
        f"Costs are replayed in {LABELS[plan.pair.unit]}, {cache}.",
    ]
    if point.degenerate:
        notes.append(f"FAILURE: over {DEGENERATE:.0%} of the problems end at one level: it does not adapt.")
    elif passed_over:
        best = f"accuracy {passed_over.accuracy:.3f}, {amount(passed_over.cost, plan.pair.unit)}"
        notes.append(
            "A point that hardly adapts would serve the aim better and was passed over: "
            f"{format_ladder(passed_over.ladder)} ({best})."
        )
    dropped = [level.name for level in plan.ladder if level not in point.ladder and not level.is_question]
    if dropped:
        notes.append(f"Levels collected but not used by the chosen ladder: {', '.join(dropped)}.")
    if kinds:
        own = ", ".join(f"{kind} ({found['problems']} problems, {found['fit']})" for kind, found in kinds.items())
        notes.append(f"Points of their own, which `held_out` is about too: {own}.")
    return notes
