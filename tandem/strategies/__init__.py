"""Strategies: one file per method, one interface, one ledger. A package adds its own by entry point."""

from __future__ import annotations

from collections.abc import Mapping

from tandem.errors import UsageError
from tandem.registry import Registry
from tandem.strategies.base import Context, Parsed, Strategy

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


def make_strategy(name: str, budgets: Mapping[str, int] | None = None) -> Strategy:
    """Return the strategy behind ``tandem``, ``fixed:medium``, ``budget-forcing:300``: a name, an argument if it takes
    one.

    Raises UsageError for an unknown name (with the nearest), or an argument that is missing, wrong or needless.
    """
    base, colon, argument = name.partition(":")
    factory = STRATEGIES.get(base)
    if isinstance(factory, Parsed):
        return factory.of(argument if colon else None, budgets or {})
    if colon:
        raise UsageError(f"strategy '{base}' takes no ':{argument}'")
    return factory()  # type: ignore[no-any-return]


__all__ = ["STRATEGIES", "Context", "Strategy", "make_strategy"]
