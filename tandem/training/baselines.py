"""Other predictors of sufficiency, trained on the same problems and evaluated on the same test table."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import numpy as np

from tandem.errors import UsageError
from tandem.sufficiency.rows import Sufficiencies
from tandem.training.fit import Problems, intern_rows
from tandem.training.published import fit_published, replay_published
from tandem.training.replay import ReplayResult
from tandem.training.selection import TrainingPlan

_MISSING = "rows without the published signals (scripts/add_signals.py adds them)"


class Baseline(Protocol):
    """Anything that is trained on one set of problems and ends another."""

    name: str

    def replay(self, known: Problems, fresh: Problems, plan: TrainingPlan) -> tuple[ReplayResult, Sufficiencies] | str:
        """Return how the fresh problems end and their sufficiencies, in their order; or why they have none."""
        ...


class PublishedBaseline:
    """The published classifier and rule. Every level visited pays a pass over question and hint, uncached."""

    name = "published"

    def replay(self, known: Problems, fresh: Problems, plan: TrainingPlan) -> tuple[ReplayResult, Sufficiencies] | str:
        levels = tuple(level for level in plan.ladder if level.is_drafted)
        rows = intern_rows(known, list(known), levels)
        if any("published" not in row["signals"] for row in [*rows, *intern_rows(fresh, list(fresh), levels)]):
            return _MISSING
        pair = plan.pair
        try:
            model = fit_published(rows, levels, name="", mentor=pair.mentor.name, intern=pair.intern.name)
        except UsageError as error:
            return str(error)
        p = {i: model.probabilities(problem, levels) for i, problem in fresh.items()}
        outcomes = [replay_published(model, problem, levels, pair, p[i]) for i, problem in fresh.items()]
        place = {level.name: position for position, level in enumerate(plan.ladder)}
        ends = replace(ReplayResult.of(outcomes), level=np.asarray([place[outcome.level] for outcome in outcomes]))
        by_level = {i: dict(zip((level.name for level in levels), v, strict=True)) for i, v in p.items()}
        return ends, by_level
