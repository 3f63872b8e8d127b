"""What a user wants of a classifier: the mentor's accuracy for less, a budget, or a bound on the regret."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tandem.errors import UsageError
from tandem.training.search import Point


@dataclass(frozen=True, slots=True)
class Aim:
    """`accuracy`, `cost` with the share of the mentor's own cost, or `regret` with the accuracy that may be lost."""

    kind: Literal["accuracy", "cost", "regret"] = "accuracy"
    limit: float = 0.0

    def __str__(self) -> str:
        return self.kind if self.kind == "accuracy" else f"{self.kind}:{self.limit:g}"


def parse_aim(text: str) -> Aim:
    """Read ``accuracy``, ``cost:0.6`` or ``regret:0.02``. Raises UsageError for anything else."""
    kind, _, number = text.partition(":")
    try:
        limit = float(number)
    except ValueError:
        limit = 0.0
    if text == "accuracy":
        return Aim()
    if kind == "cost" and 0 < limit < float("inf"):
        return Aim("cost", limit)
    if kind == "regret" and 0 < limit < 1:
        return Aim("regret", limit)
    raise UsageError(
        f"unknown aim '{text}': take accuracy, cost:X (at most X times the mentor's own cost, as cost:0.6) or regret:X "
        "(at most X less accurate than the mentor, as regret:0.02)"
    )


def choose(points: Sequence[Point], aim: Aim, accuracy: float, cost: float) -> tuple[Point, Point | None]:
    """Return the point for an aim among those that adapt, and the degenerate one it was preferred to, if any.

    `accuracy` and `cost` are those of the mentor alone on the same problems, not rounded. Points within the budget
    count, which is the mentor's own cost, or the share of it that `cost` gives; without any, the cheapest is taken. For
    `accuracy`: the cheapest that is at least as accurate as the mentor, else the most accurate. For `cost`: the most
    accurate. `regret` is not chosen but certified (certify.py).
    """
    budget = cost * (aim.limit if aim.kind == "cost" else 1.0)

    def best(candidates: Sequence[Point]) -> Point:
        within = [point for point in candidates if point.cost <= budget]
        enough = [point for point in within if point.accuracy >= accuracy and aim.kind == "accuracy"]
        if within and not enough:
            return max(within, key=lambda point: (point.accuracy, -point.cost))
        return min(enough or candidates, key=lambda point: (point.cost, -point.accuracy))

    overall = best(points)
    if not overall.degenerate:
        return overall, None
    adapting = [point for point in points if not point.degenerate]
    return (best(adapting), overall) if adapting else (overall, overall)
