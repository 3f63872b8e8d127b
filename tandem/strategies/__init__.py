"""Strategies: one file per method, one interface, one ledger. A package adds its own by entry point."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from traceback import extract_tb

from tandem.errors import TandemError, UsageError
from tandem.registry import Registry
from tandem.strategies.base import PlannedCall, Strategy, whole_answer
from tandem.strategies.context import Context, stream_answer

_OURS = Path(__file__).parents[1]
STRATEGIES = Registry(
    "strategy",
    "strategies",
    {
        "tandem": "tandem.strategies.tandem:TandemStrategy",
        "published": "tandem.strategies.published:PublishedStrategy",
        "mentor-only": "tandem.strategies.anchors:MentorOnly",
        "intern-only": "tandem.strategies.anchors:InternOnly",
        "fixed": "tandem.strategies.anchors:Fixed",
        "budget-forcing": "tandem.strategies.budget_forcing:BudgetForcing",
        "random-mix": "tandem.strategies.random_mix:RandomMix",
        "cascade": "tandem.strategies.cascade:Cascade",
        "route": "tandem.strategies.route:Route",
        "shepherding": "tandem.strategies.shepherding:Shepherding",
        "best-route": "tandem.strategies.best_route:BestRoute",
        "delegate": "tandem.strategies.delegate:Delegate",
        "blueprint": "tandem.strategies.blueprint:Blueprint",
        "spec-reason": "tandem.strategies.spec_reason:SpecReason",
    },
)


def make_strategy(name: str, budgets: Mapping[str, int] | None = None) -> Strategy:
    """Return the strategy behind ``tandem``, ``fixed:medium``, ``budget-forcing:300``: a name, an argument if it takes
    one.

    Raises UsageError for an unknown name (with the nearest), or an argument that is missing, wrong or needless;
    TandemError for a package's strategy that is broken.
    """
    base, colon, argument = name.partition(":")
    package = STRATEGIES.package(base)
    try:
        factory = STRATEGIES.get(base)
        if hasattr(factory, "of"):
            strategy = factory.of(argument if colon else None, budgets or {})
        elif colon:
            raise UsageError(f"strategy '{base}' takes no ':{argument}'")
        else:
            strategy = factory()
    except TandemError:
        raise
    except Exception as error:
        raise fault_of_package(base, error, "is broken") from error
    where = f" of {package}" if package else ""
    if not isinstance(strategy, Strategy):
        raise TandemError(f"strategy '{base}'{where} is none: it does not inherit tandem.strategies.Strategy")
    if type(strategy).run is Strategy.run:
        raise TandemError(f"strategy '{base}'{where} is none: it has no run")
    return strategy


def fault_of_package(name: str, error: Exception, what: str = "failed") -> Exception:
    """Return one line for a fault in the code of a package's strategy, with its place; a fault of ours as it is."""
    package = STRATEGIES.package(name.partition(":")[0])
    if package is None:
        return error
    calls = [call for call in extract_tb(error.__traceback__) if _OURS not in Path(call.filename).parents]
    place = f" ({Path(calls[-1].filename).name}, line {calls[-1].lineno})" if calls else ""
    reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return TandemError(f"strategy '{name}' of {package} {what}: {reason}{place}")


__all__ = [
    "STRATEGIES",
    "Context",
    "PlannedCall",
    "Strategy",
    "fault_of_package",
    "make_strategy",
    "stream_answer",
    "whole_answer",
]
