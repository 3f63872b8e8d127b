"""What a user wants of a classifier: the mentor's accuracy for less, a budget, or a bound on the regret."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tandem.errors import UsageError
from tandem.training.search import Point


@dataclass(frozen=True, slots=True)
class Aim:
    """`accuracy`, `gain`, `cost` with a share of the mentor's own cost, `regret` with the accuracy that may be lost."""

    kind: Literal["accuracy", "gain", "cost", "regret"] = "accuracy"
    limit: float = 0.0

    def __str__(self) -> str:
        return f"{self.kind}:{self.limit:g}" if self.limit else self.kind


def parse_aim(text: str) -> Aim:
    """Read ``accuracy``, ``gain``, ``cost:0.6`` or ``regret:0.02``. Raises UsageError for anything else."""
    kind, _, number = text.partition(":")
    try:
        limit = float(number)
    except ValueError:
        limit = 0.0
    if text == "accuracy":
        return Aim()
    if text == "gain":
        return Aim("gain")
    if kind == "cost" and 0 < limit < float("inf"):
        return Aim("cost", limit)
    if kind == "regret" and 0 < limit < 1:
        return Aim("regret", limit)
    raise UsageError(
        f"unknown aim '{text}': take accuracy, gain (most above the random mix of both models at equal cost), cost:X "
        "(at most X times the mentor's own cost, as cost:0.6) or regret:X (at most X less accurate than the mentor, as "
        "regret:0.02)"
    )


def choose(
    points: Sequence[Point],
    aim: Aim,
    accuracy: float,
    cost: float,
    *,
    any_point: bool = False,
    margin: float = 0.0,
    problems: int = 1,
) -> tuple[Point, Point | None]:
    """Return the point for an aim among those that adapt, and the degenerate one it was preferred to, if any.

    With `any_point` a degenerate one will do: one kind of task may be all the intern's, or all the mentor's. Of a point
    for `accuracy` its lead over the mentor must be `margin` standard errors, where so many `problems` chose it.

    `accuracy` and `cost` are those of the mentor alone on the same problems, not rounded. Points within the budget
    count, which is the mentor's own cost, or the share of it that `cost` gives; without any, the cheapest is taken. For
    `accuracy`: the cheapest that is at least as accurate as the mentor, else the most accurate. For `cost`: the most
    accurate. `regret` is not chosen but certified (certify.py).
    """
    budget = cost * (aim.limit if aim.kind == "cost" else 1.0)

    def best(candidates: Sequence[Point]) -> Point:
        within = [point for point in candidates if point.cost <= budget]
        enough = [point for point in within if aim.kind == "accuracy" and point.accuracy >= accuracy and leads(point)]
        if within and not enough:
            return max(within, key=lambda point: (point.accuracy, -point.cost))
        return min(enough or candidates, key=lambda point: (point.cost, -point.accuracy))

    def leads(point: Point) -> bool:
        return point.won - point.lost >= margin * math.sqrt((point.won + point.lost) / problems)

    overall = best(points)
    if any_point or not overall.degenerate:
        return overall, None
    adapting = [point for point in points if not point.degenerate]
    return (best(adapting), overall) if adapting else (overall, overall)
