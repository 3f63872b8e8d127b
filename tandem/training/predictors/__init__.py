"""Training what a strategy has learned: a table goes in, a predictor comes out. One file per strategy."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from tandem.costs import Unit
from tandem.errors import nearest
from tandem.spec import ModelSpec
from tandem.sufficiency.predictor import Predictor
from tandem.training.data import Table
from tandem.training.estimators import one_thread

Say = Callable[[str], None]

# Strategy -> "module:function". A trainer is
#   def train(table: Table, specs: tuple[ModelSpec, ModelSpec], *, unit: Unit | None = None, seed: int = 0,
#             command: str = "", say: Say = ...) -> Predictor
# with the specs of mentor and intern (`data.rated_pair`) and the unit of costs (None: the pair's default). It raises
# UsageError where the table lacks what it needs.
TRAINERS: dict[str, str] = {
    "route": "tandem.training.predictors.route:train",
    "cascade": "tandem.training.predictors.cascade:train",
    "shepherding": "tandem.training.predictors.shepherding:train",
    "best-route": "tandem.training.predictors.best_route:train",
}


def silent(line: str) -> None: ...


def train_predictor(
    strategy: str,
    table: Table,
    specs: tuple[ModelSpec, ModelSpec],
    *,
    unit: Unit | None = None,
    seed: int = 0,
    command: str = "",
    say: Say = silent,
) -> Predictor:
    """Train a strategy's predictor from a table; costs are in `unit` (None: the pair's default), `seed` is the folds'.

    Raises UsageError for a strategy that learns nothing (with the nearest that do), and for a table that is too small,
    lacks a level, or has one outcome only.
    """
    if strategy not in TRAINERS:
        raise nearest("strategy to train", strategy, TRAINERS)
    module, _, name = TRAINERS[strategy].partition(":")
    trainer = getattr(import_module(module), name)
    with one_thread():  # the fits are many and small: threads only wait for one another
        trained: Predictor = trainer(table, specs, unit=unit, seed=seed, command=command, say=say)
    return trained
