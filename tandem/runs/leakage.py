"""Refuses problems on which a classifier or predictor was fitted: results on them are too optimistic."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tandem.errors import UsageError
from tandem.types import Problem


def refuse_seen(what: str, saw: Callable[[str], bool], problems: Sequence[Problem]) -> None:
    """Raise UsageError for problems that `what` was fitted on."""
    if seen := [problem.id for problem in problems if saw(problem.id)]:
        raise UsageError(
            f"{what} was fitted on {len(seen)} of these {len(problems)} problems (such as {seen[0]}): "
            "its results there mean little; take others with --holdout-of COLLECTION (what `tandem collect --holdout` "
            "left out), --skip N or another --split; or --allow-seen"
        )
