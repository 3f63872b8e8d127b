"""Strategies: one file per method, one interface, one ledger. A package adds its own by entry point."""

from __future__ import annotations

from tandem.errors import UsageError
from tandem.ladder import parse_ladder
from tandem.registry import Registry
from tandem.strategies.base import Context, Strategy

STRATEGIES = Registry(
    "strategy",
    "strategies",
    {
        "tandem": "tandem.strategies.tandem:Tandem",
        "published": "tandem.strategies.published:Published",
        "mentor-only": "tandem.strategies.anchors:MentorOnly",
        "intern-only": "tandem.strategies.anchors:InternOnly",
        "fixed": "tandem.strategies.anchors:Fixed",
        "budget-forcing": "tandem.strategies.budget_forcing:BudgetForcing",
    },
)


def make_strategy(name: str, budgets: dict[str, int] | None = None) -> Strategy:
    """Return the strategy behind ``tandem``, ``mentor-only``, ``intern-only``, ``fixed:medium``, ``published:FOLDER``,
    ``budget-forcing:300``.

    Raises UsageError for an unknown name (with the nearest) or a missing or needless level.
    """
    base, colon, level = name.partition(":")
    factory = STRATEGIES.get(base)
    if base == "fixed":
        ladder = parse_ladder(level, budgets) if level else ()
        if len(ladder) != 1:
            raise UsageError("strategy 'fixed' takes one level, as in fixed:medium or fixed:medium=200")
        return factory(ladder[0])  # type: ignore[no-any-return]
    if base == "published":
        return factory(level)  # type: ignore[no-any-return]
    if base == "budget-forcing" and colon:
        if not level.isdecimal():
            raise UsageError(f"budget-forcing takes a number of tokens, as in budget-forcing:300, not '{level}'")
        return factory(int(level))  # type: ignore[no-any-return]
    if colon:
        raise UsageError(
            f"strategy '{base}' takes no ':{level}'; only fixed:<level>, published:<folder> and "
            "budget-forcing:<tokens> do"
        )
    return factory()  # type: ignore[no-any-return]


__all__ = ["STRATEGIES", "Context", "Strategy", "make_strategy"]
