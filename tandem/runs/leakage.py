"""Problems on which a classifier or a predictor was fitted say little about it, and are refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tandem.errors import UsageError
from tandem.types import Problem


def refuse_seen(what: str, saw: Callable[[str], bool], problems: Sequence[Problem]) -> None:
    """Raise UsageError for problems that `what` was fitted on: on those it is better than it is."""
    if seen := [problem.id for problem in problems if saw(problem.id)]:
        raise UsageError(
            f"{what} was fitted on {len(seen)} of these {len(problems)} problems (such as {seen[0]}): "
            "what it does there tells little; take another split, or --allow-seen"
        )
