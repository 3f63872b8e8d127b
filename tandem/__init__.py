"""Tandem: a large mentor writes a few structured insights, a small intern writes the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tandem.version import __version__

if TYPE_CHECKING:
    from tandem.config import SolveOptions
    from tandem.datasets import load_dataset
    from tandem.engine import Tandem, asolve, solve
    from tandem.errors import TandemError, UsageError
    from tandem.experiments import acompare, atune, compare, estimate, tune
    from tandem.ladder import Effort
    from tandem.ledger import Ledger
    from tandem.reports.tune import Tuning
    from tandem.results import ComparisonResult, CostEstimate, TuningResult
    from tandem.types import Message, Problem, Solution

__all__ = [
    "ComparisonResult",
    "CostEstimate",
    "Effort",
    "Ledger",
    "Message",
    "Problem",
    "Solution",
    "SolveOptions",
    "Tandem",
    "TandemError",
    "Tuning",
    "TuningResult",
    "UsageError",
    "__version__",
    "acompare",
    "asolve",
    "atune",
    "compare",
    "estimate",
    "load_dataset",
    "solve",
    "tune",
]

_HOMES = {
    "ComparisonResult": "tandem.results",
    "CostEstimate": "tandem.results",
    "Effort": "tandem.ladder",
    "Ledger": "tandem.ledger",
    "Message": "tandem.types",
    "Problem": "tandem.types",
    "Solution": "tandem.types",
    "SolveOptions": "tandem.config",
    "Tandem": "tandem.engine",
    "TandemError": "tandem.errors",
    "Tuning": "tandem.reports.tune",
    "TuningResult": "tandem.results",
    "UsageError": "tandem.errors",
    "acompare": "tandem.experiments",
    "asolve": "tandem.engine",
    "atune": "tandem.experiments",
    "compare": "tandem.experiments",
    "estimate": "tandem.experiments",
    "load_dataset": "tandem.datasets",
    "solve": "tandem.engine",
    "tune": "tandem.experiments",
}


if not TYPE_CHECKING:  # a type checker would take every name for granted

    def __getattr__(name: str) -> Any:
        # Lazy, so that `tandem --help` and `import tandem` load no model code.
        if name in _HOMES:
            import importlib

            return getattr(importlib.import_module(_HOMES[name]), name)
        raise AttributeError(f"module 'tandem' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*(name for name in globals() if name.startswith("__")), *__all__})
