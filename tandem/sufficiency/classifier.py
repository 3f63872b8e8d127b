"""The sufficiency classifier with its card: saved with skops, loaded from trusted types only, matched to a pair."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from tandem.costs import LABELS, Unit
from tandem.errors import ClassifierMismatchError, UsageError, nearest
from tandem.ladder import Effort, Ladder, format_ladder
from tandem.models.logprobs import ESTIMATOR
from tandem.paths import shipped
from tandem.spec import ModelSpec, Sampling
from tandem.storage.files import write_whole
from tandem.storage.formats import read_model, stamped
from tandem.sufficiency.fitted import Fitted
from tandem.sufficiency.points import (
    CardModel,
    ChosenPoints,
    DraftTokens,
    Kind,
    LadderText,
    ModelName,
    OperatingPoint,
    plain_aim,
)
from tandem.sufficiency.policy import PolicyCard, SufficiencyModel
from tandem.sufficiency.signals import ALONE, NAMES, QUESTION_CANDIDATES, SIGNAL_VERSION

# Signal versions whose signals mean what signals of the same names mean today: later ones only added some.
_STILL_MEANT = frozenset({"1", "2", SIGNAL_VERSION})
_INSIGHT = "log_insight_tokens"
FEATURES = (*NAMES, *QUESTION_CANDIDATES, *ALONE, _INSIGHT)
# Of the card; 4 renamed two fields of the policy (PolicyCard reads both names), 5 has points by unit, aim and kind.
FORMAT = 5
# The features of cards that do not name theirs: those of the first signal version.
_FIRST_FEATURES = (
    *("log_perplexity", "entropy_mean", "entropy_std", "entropy_max", "entropy_trend", "entropy_gap"),
    *("least_likely", "least_likely_5", "margin_mean", "margin_low", "length", "ended"),
    *("log_question_tokens", "log_insight_tokens"),
)
_MODEL, _CARD, _NUMBERS, _MODELS = "classifier.skops", "card.json", "linear.json", "models"


class ClassifierCard(BaseModel):
    """What a classifier was fitted on, how it is to be used, and what it achieved on held-out problems."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = 1
    id: str
    created: str
    command: str
    mentor: str
    intern: str
    ladder: LadderText  # with every budget, and `answer` where the policy may use it
    collected_ladder: str  # every level that was collected; it gives this pair's budgets
    draft_tokens: DraftTokens | None  # None: the whole answer is the draft
    signal_version: str
    features: tuple[str, ...] = _FIRST_FEATURES  # what the model takes of the signals, in its order
    estimator: str
    logprobs_mode: str
    top_logprobs: int
    temperature: float
    insight_mode: str
    aim: str
    policy: PolicyCard
    data: dict[str, Any]  # datasets, counts, and the id hashes of the fit, calibration and threshold parts
    figures: dict[str, Any]
    notes: list[str] = []
    unit: Unit = "tflops"  # of the figures, and what the card's own point was chosen in
    models: dict[ModelName, CardModel] = Field({}, max_length=64)  # beside the classifier's own, whose name is empty
    points: dict[Unit, dict[str, dict[Kind, OperatingPoint]]] = {}  # by unit, aim and kind

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if unknown := {point.model for point in self.all_points()} - {"", *self.models}:
            raise ValueError(f"points name models that the card does not have: {', '.join(sorted(unknown))}")
        return self

    @property
    def own(self) -> OperatingPoint:
        """The card's own point, for every kind without another."""
        return OperatingPoint(ladder=self.ladder, draft_tokens=self.draft_tokens, policy=self.policy)

    def all_points(self) -> list[OperatingPoint]:
        """Return the points of every unit, aim and kind; the card's own is not among them."""
        aims = (aim for by_aim in self.points.values() for aim in by_aim.values())
        return [point for by_kind in aims for point in by_kind.values()]

    def model(self, name: str) -> CardModel:
        """Return what a model takes; the empty name is the classifier's own."""
        own = CardModel(features=self.features, draft_tokens=self.draft_tokens)
        return self.models.get(name, own) if name else self.models.get("", own)

    def choose(self, unit: Unit | None = None, aim: str | None = None) -> ChosenPoints:
        """Return the points for a unit and an aim, by kind. None: the card's own.

        A unit without points gives those of the card's own unit, with a note. Raises UsageError for an aim that was
        not fitted, naming those that were.
        """
        own_aim = plain_aim(self.aim)
        wanted = own_aim if aim is None else plain_aim(aim)
        asked = unit or self.unit
        taken = asked if asked in self.points else self.unit
        by_aim = self.points.get(taken, {})
        own_holds = taken == self.unit and wanted == own_aim
        if aim is not None and wanted not in by_aim and not own_holds:
            known = sorted({*by_aim, *([own_aim] if taken == self.unit else [])})
            raise UsageError(
                f"classifier '{self.id}' has no operating point for the aim '{aim}' in {LABELS[taken]}; "
                f"it has {', '.join(known)}"
            )
        note = ""
        if taken != asked:
            note = f"classifier '{self.id}' has no operating points in {LABELS[asked]}; it decides in {LABELS[taken]}"
        elif wanted not in by_aim and not own_holds:
            note = (
                f"classifier '{self.id}' has no point for {wanted} in {LABELS[taken]}: its own in {LABELS[self.unit]}"
            )
        return ChosenPoints(taken, wanted, self.own, by_aim.get(wanted, {}), note, tuple(self.points), tuple(by_aim))

    def saw(self, problem: str) -> bool:
        return short_hash(problem) in self.data.get("seen", ())

    def check(self, intern: ModelSpec, ladder: Ladder, model: str = "") -> None:
        """Raise ClassifierMismatchError where the signals of this run would mean something else.

        That is another signal version, entropy estimator or log-probability mode, or a level without a draft that the
        `model` of the classifier was not trained for.
        """
        hard = {
            "signal version": (self.signal_version, SIGNAL_VERSION),
            "entropy estimator": (self.estimator, ESTIMATOR),
            "log-probability mode": (self.logprobs_mode, intern.logprobs_mode),
        }
        for what, (fitted, here) in hard.items():
            if fitted != here and not (what == "signal version" and comparable(fitted)):
                raise ClassifierMismatchError(
                    f"classifier '{self.id}' was fitted with {what} '{fitted}', this run has '{here}'; "
                    "train one for this set-up (tandem train) or name another with --classifier"
                )
        if ladder and ladder[0].is_question and ALONE[0] not in self.model(model).features:
            raise ClassifierMismatchError(
                f"classifier '{self.id}' was not trained to predict from a question alone; leave 'question' out of "
                "--effort, or train one with this version (tandem train)"
            )

    def differences(
        self,
        mentor: ModelSpec,
        intern: ModelSpec,
        sampling: Sampling,
        ladder: Ladder,
        top_logprobs: int | None = None,
        point: OperatingPoint | None = None,
    ) -> list[str]:
        """Return what differs between this run and the card; empty: it is calibrated.

        Compared are the pair, temperature, ladder (with that of `point`; None: the card's own), insight mode and, where
        given, `top_logprobs`.
        """
        same = {
            "mentor": self.mentor == mentor.name,
            "intern": self.intern == intern.name,
            "temperature": math.isclose(self.temperature, sampling.temperature),
            "insight mode": self.insight_mode == mentor.insight_mode,
            "number of log-probabilities": top_logprobs in {None, self.top_logprobs},
            "ladder": set(format_ladder(ladder).split(",")) <= set((point or self).ladder.split(",")),
        }
        return [what for what, equal in same.items() if not equal]


def short_hash(problem: str) -> str:
    """Return the digest by which a card knows a problem's id."""
    return hashlib.sha256(problem.encode()).hexdigest()[:12]


class Classifier:
    """A fitted classifier: `sufficiency` is what the policy asks, one draft at a time."""

    def __init__(self, estimator: Any, card: ClassifierCard, models: Mapping[str, Any] | None = None) -> None:
        """`estimator` has sklearn's `predict_proba` over the card's features, or is `Fitted`; so are other `models`."""
        given = {"": estimator, **(models or {})}
        if lacking := sorted(card.models.keys() - given.keys()):
            raise ValueError(f"the card of '{card.id}' names models that are not given: {', '.join(lacking)}")
        self.card = card
        self.id = card.id
        self.fitted = {name: made if isinstance(made, Fitted) else Fitted(made) for name, made in given.items()}

    @property
    def estimator(self) -> Any:
        """Sklearn's estimator of the classifier's own model; None where it was loaded from its plain numbers."""
        return self.fitted[""].estimator

    def sufficiency(self, level: Effort, signals: Mapping[str, float], insight_tokens: int, model: str = "") -> float:
        """Return the calibrated probability that the intern, given this insight, answers correctly.

        `model` is which of the card's models reads the signals.
        """
        return self.fitted[model].probability(_row(self.card.model(model).features, signals, insight_tokens))

    def of(self, model: str) -> SufficiencyModel:
        """Return what a policy asks that reads one of the card's models."""
        return _OneModel(self, model) if model else self

    def save(self, folder: Path) -> None:
        for name, fitted in self.fitted.items():
            fitted.save(*_files(folder, name))
        text = json.dumps(stamped(self.card.model_dump(mode="json")), indent=2, ensure_ascii=False)
        write_whole(folder / _CARD, text + "\n")
        kept = {file for name in self.fitted for file in _files(folder, name)}
        for stale in {*folder.glob(f"{_MODELS}/*.skops"), *folder.glob(f"{_MODELS}/*.json")} - kept:
            stale.unlink()


class _OneModel:
    def __init__(self, classifier: Classifier, model: str) -> None:
        self.id = classifier.id
        self._classifier, self._model = classifier, model

    def sufficiency(self, level: Effort, signals: Mapping[str, float], insight_tokens: int) -> float:
        return self._classifier.sufficiency(level, signals, insight_tokens, self._model)


def _files(folder: Path, model: str) -> tuple[Path, Path]:
    """Return the files of a model and of its plain numbers."""
    if not model:
        return folder / _MODEL, folder / _NUMBERS
    return folder / _MODELS / f"{model}.skops", folder / _MODELS / f"{model}.json"


def comparable(signal_version: str) -> bool:
    """Whether signals of a version can be compared with today's by their names."""
    return signal_version in _STILL_MEANT


def feature_matrix(rows: Iterable[tuple[Mapping[str, float], int]], features: Sequence[str] = FEATURES) -> np.ndarray:
    """Return (n, len(features)) float64 from (signals with the question's, insight tokens)."""
    return np.asarray([_row(features, signals, tokens) for signals, tokens in rows])


def _row(features: Sequence[str], signals: Mapping[str, float], tokens: int) -> list[float]:
    try:
        return [math.log1p(tokens) if name == _INSIGHT else signals[name] for name in features]
    except KeyError as error:
        raise ClassifierMismatchError(
            f"the classifier needs the signal {error}, which is not among those of this table or run; "
            "train one on the signals that there are (tandem train)"
        ) from None


def available() -> dict[str, Path]:
    return {path.parent.name: path.parent for path in sorted(shipped("classifiers").glob(f"*/{_CARD}"))}


def find_classifier(name: str) -> Path:
    """Return the folder of a shipped classifier by id, or of one by path; raises UsageError for an unknown name."""
    folder = available().get(name) or Path(name)
    if not (folder / _CARD).is_file():
        raise nearest("classifier", name, available())
    return folder


def nearest_classifier(mentor: str, intern: str) -> Path | None:
    """Return the folder of the pair's shipped classifier, else of the nearest: same intern, same mentor, any."""
    cards = {folder: read_card(folder) for folder in available().values()}
    return max(cards, key=lambda folder: (cards[folder].intern == intern, cards[folder].mentor == mentor), default=None)


def read_card(folder: Path) -> ClassifierCard:
    """Return a classifier's card without loading its model. Raises TandemError for a damaged or a later one."""
    return read_model(folder / _CARD, ClassifierCard, FORMAT, instead="train it again (tandem train)")


def load_classifier(name: str | Path, *, plain: bool = True) -> Classifier:
    """Load a shipped classifier by id, or one from a folder.

    With `plain` a model's numbers are enough where they lie beside it and belong to it; else it has its `estimator`.
    Raises UsageError for an unknown name, TandemError for a corrupt or huge file or one with untrusted types.
    """
    folder = find_classifier(str(name))
    card = read_card(folder)
    fitted = {
        name: Fitted.load(*_files(folder, name), len(card.model(name).features), plain=plain)
        for name in {"", *card.models}
    }
    return Classifier(fitted[""], card, fitted)
