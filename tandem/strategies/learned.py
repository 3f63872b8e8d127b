"""What strategies with a predictor share: their argument, the predictor of the pair, and the features that it reads.

The argument is the same for all of them: ``NAME``, ``NAME:THRESHOLD``, ``NAME:PATH`` or ``NAME:PATH:THRESHOLD``. A
number in 0..1 is a threshold, anything else is a predictor's file, or the folder that `tandem train --strategy` wrote
(a folder with a number for a name is written ``./5``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar, Self

from tandem.errors import ClassifierMismatchError, TandemError, UsageError
from tandem.models.call import Call
from tandem.strategies.base import Strategy
from tandem.strategies.context import Context
from tandem.sufficiency.classifier import comparable
from tandem.sufficiency.predictor import Predictor, find_predictor
from tandem.sufficiency.signals import (
    CANDIDATES,
    QUESTION_CANDIDATES,
    SIGNAL_VERSION,
    draft_signals,
    question_candidates,
    question_signals,
)

TRUNCATED = "truncated"  # whether the answer was cut at its cap, 0 or 1: beside the signals of a whole answer
_KNOWN = {*QUESTION_CANDIDATES, *CANDIDATES, TRUNCATED}
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")


class LearnedStrategy(Strategy):
    """The part of a strategy that has a predictor; a subclass gives `name`, the `heads` it asks, and the rest.

    Nothing is read before `bind`.
    """

    name: ClassVar[str]  # as in the registry, and as the predictor's file is called
    heads: ClassVar[tuple[str, ...]]  # what the predictor must have
    has_threshold: ClassVar[bool] = True  # whether its argument may be, or end with, a threshold

    def __init__(self, where: str = "", threshold: float | None = None) -> None:
        """`where` is a predictor's file or folder (empty: the pair's own, as shipped); `threshold` overrides its own.

        Raises UsageError for a threshold outside 0..1.
        """
        if threshold is not None and not 0 <= threshold <= 1:
            raise UsageError(f"the threshold of '{self.name}' lies in 0..1, not at {threshold:g}")
        self.where = where
        self._own_threshold = threshold
        self._predictor: Predictor | None = None
        self.calibrated = False  # whether the predictor was trained for this pair

    @classmethod
    def of(cls, argument: str | None, budgets: Mapping[str, int]) -> Self:
        """Return the strategy for ``[PATH][:THRESHOLD]``. Raises UsageError for an empty or a wrong one."""
        if argument is None:
            return cls()
        path, _, last = argument.rpartition(":")
        if cls.has_threshold and _NUMBER.fullmatch(last):
            return cls(path, float(last))
        if not argument:
            number = f"a threshold, as in {cls.name}:0.5, or " if cls.has_threshold else ""
            folder = f"a predictor's folder, as in {cls.name}:classifiers/mine,"
            raise UsageError(f"strategy '{cls.name}' takes {number}{folder} behind the colon")
        return cls(argument)

    def bind(self, mentor: str, intern: str) -> str:
        """Find the predictor for a pair, by the models' names, and return its id with its digest.

        Raises UsageError where there is none or it is another strategy's, TandemError for a damaged one,
        ClassifierMismatchError for one whose signals mean something else.
        """
        found, self.calibrated = find_predictor(self.name, mentor, intern, self.where)
        if found.signal_version is not None and not comparable(found.signal_version):
            raise ClassifierMismatchError(
                f"predictor '{found.id}' reads signals of version '{found.signal_version}', this version of Tandem has "
                f"'{SIGNAL_VERSION}'; train one with this version: tandem train COLLECTION --strategy {self.name}"
            )
        missing = [head for head in self.heads if head not in found.heads]
        unknown = {name for head in found.heads.values() for name in head.features} - _KNOWN
        if missing or unknown or (self.has_threshold and "threshold" not in found.settings):
            what = ", ".join([*missing, *sorted(unknown)]) or "threshold"
            raise TandemError(
                f"predictor '{found.id}' does not fit this version of Tandem ({what}); "
                f"train one with it: tandem train COLLECTION --strategy {self.name}"
            )
        self._predictor = found
        return found.id

    def saw(self, problem_id: str) -> bool:
        return self.predictor.saw(problem_id)

    @property
    def predictor(self) -> Predictor:
        if self._predictor is None:
            raise TandemError(f"strategy '{self.name}' has no predictor yet: it is bound to a pair first")
        return self._predictor

    @property
    def advice(self) -> str | None:
        """The command that trains a predictor for the pair, where that of another pair decides."""
        if self._predictor is None or self.calibrated:
            return None
        return f"tandem train COLLECTION --strategy {self.name} --out classifiers/mine"

    @property
    def threshold(self) -> float:
        """The threshold of the argument, else the one that training chose."""
        return self.predictor.settings["threshold"] if self._own_threshold is None else self._own_threshold

    def predict(self, head: str, features: Mapping[str, float]) -> float:
        """Return one head's prediction; features that it does not read are ignored."""
        return self.predictor.heads[head].predict(features)


def question_features(ctx: Context) -> dict[str, float]:
    """Return the features of the question alone, by their names in a table; the intern counts its tokens."""
    question = ctx.problem.question
    return question_signals(ctx.intern.count(question)) | question_candidates(question)


def check_stats(call: Call) -> None:
    """Raise TandemError where the server sent text without the log-probabilities that it was asked for."""
    if call.tokens and not call.stats:
        raise TandemError(
            f"{call.model.spec.name} sent no log-probabilities; serve it with them, or use --strategy fixed:<level>"
        )


def answer_features(call: Call) -> dict[str, float]:
    """Return the features of a whole answer with log-probabilities: its signals, and whether it was cut at its cap.

    Raises TandemError where the server sent none.
    """
    check_stats(call)
    signals = draft_signals(call.stats, ended=True, names=CANDIDATES)
    return signals | {TRUNCATED: float(call.finish_reason == "length")}
