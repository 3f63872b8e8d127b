"""Other ways to judge sufficiency, trained on the same problems and judged on the same test table."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from tandem.errors import UsageError
from tandem.ladder import Ladder
from tandem.sufficiency.arrays import Ends
from tandem.sufficiency.published import fit_published
from tandem.sufficiency.replay import Levels, Outcome, Pair, fixed
from tandem.sufficiency.selection import Plan
from tandem.sufficiency.training import Problems, Sufficiencies, intern_rows

_WINDOW = 1024  # tokens at most that the published pass reads
_MISSING = "rows without the published signals (scripts/add_prompt_signals.py adds them)"


class Rival(Protocol):
    """Anything that is trained on one set of problems and ends another."""

    name: str

    def judge(self, known: Problems, fresh: Problems, plan: Plan) -> tuple[Ends, Sufficiencies] | str:
        """Return how the fresh problems end and what it says of them, in their order; or why it cannot be judged."""
        ...


class PublishedRival:
    """The published classifier and rule. Every level visited pays a pass over question and hint, uncached."""

    name = "published"

    def judge(self, known: Problems, fresh: Problems, plan: Plan) -> tuple[Ends, Sufficiencies] | str:
        """See `Rival`."""
        levels = tuple(level for level in plan.ladder if not level.is_answer)
        rows = intern_rows(known, list(known), levels)
        if any("published" not in row["signals"] for row in [*rows, *intern_rows(fresh, list(fresh), levels)]):
            return _MISSING
        pair = plan.pair
        try:
            model = fit_published(rows, levels, name="", mentor=pair.mentor.name, intern=pair.intern.name)
        except UsageError as error:
            return str(error)
        p = {i: model.probabilities(problem, levels) for i, problem in fresh.items()}
        places = [model.choose(values) for values in p.values()]
        outcomes = [
            published_outcome(problem, levels, place, values[place] >= model.thresholds[place], pair)
            for (problem, place, values) in zip(fresh.values(), places, p.values(), strict=True)
        ]
        positions = np.asarray([plan.ladder.index(levels[place]) for place in places])
        ends = Ends.of(outcomes)
        by_level = {i: dict(zip((level.name for level in levels), v, strict=True)) for i, v in p.items()}
        return Ends(positions, ends.correct, ends.tflops, ends.published, ends.mentor_tokens), by_level


def published_outcome(problem: Levels, levels: Ladder, place: int, passed: bool, pair: Pair) -> Outcome:
    """Return what answering at `levels[place]` costs; where no level passed, all of them were visited first."""
    visited = levels[: place + 1] if passed else levels
    row, last = problem[levels[place].name], problem[visited[-1].name]
    cost, seen = 0.0, -1
    for level in visited:
        here = problem[level.name]
        if here["insight_tokens"] != seen:
            read = min(here["question_tokens"] + here["insight_tokens"], _WINDOW)
            cost += pair.intern.tflops(read, 0, 0) or 0.0
            seen = here["insight_tokens"]
    bought = int(last["insight_tokens"])
    published = pair.published(bought, row)
    return Outcome(
        levels[place].name,
        fixed(problem, levels[place].name, pair).correct,
        cost + pair.insight(last) + pair.answer(row),
        bought,
        published,
    )
