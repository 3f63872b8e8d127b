"""Other predictors of sufficiency, trained on the same problems and evaluated on the same test table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from tandem.errors import UsageError
from tandem.sufficiency.rows import Sufficiencies
from tandem.training.fit import Problems, intern_rows
from tandem.training.published import fit_published, replay_published
from tandem.training.replay import ReplayResult
from tandem.training.selection import TrainingPlan

# How the fresh problems end and their sufficiencies, in their order, by what was fitted on the known; or why not.
Baseline = Callable[[Problems, Problems, TrainingPlan], tuple[ReplayResult, Sufficiencies] | str]


def published(known: Problems, fresh: Problems, plan: TrainingPlan) -> tuple[ReplayResult, Sufficiencies] | str:
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
