"""A classifier of a fake pair with operating points by kind, whose models are scripted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from scripted_classifier import ScriptedClassifier

from tandem import engine
from tandem.models.logprobs import ESTIMATOR
from tandem.storage.formats import stamped
from tandem.sufficiency.classifier import FORMAT, ClassifierCard
from tandem.sufficiency.points import OperatingPoint
from tandem.sufficiency.policy import PolicyCard
from tandem.sufficiency.signals import SIGNAL_VERSION

MODELS = {name: {"features": ["alone"], "draft_tokens": 4} for name in ("of-math", "of-code", "of-all")}


class ScriptedModels:
    """What an engine loads: one scripted classifier for each of the card's models."""

    def __init__(self, card: ClassifierCard, by_model: Mapping[str, Mapping[str, float]]) -> None:
        self.card, self.id = card, card.id
        self.by_model = by_model

    def of(self, model: str) -> ScriptedClassifier:
        return ScriptedClassifier(self.by_model[model])


def point(ladder: str, model: str = "", draft: int | None = 4, policy: PolicyCard | None = None) -> OperatingPoint:
    usual = PolicyCard(thresholds=dict.fromkeys(("question", "none", "low", "medium", "high"), 0.5))
    return OperatingPoint(ladder=ladder, draft_tokens=draft, policy=policy or usual, model=model)


def write_card(folder: Path, points: Mapping[str, Any], **fields: Any) -> ClassifierCard:
    """Write a card of the pair ``m`` and ``i``, and return it."""
    own = point("none,answer")
    made = {
        **{"id": "pointed", "created": "2026-01-01", "command": "tandem train", "mentor": "m", "intern": "i"},
        **{"format": FORMAT, "ladder": own.ladder, "draft_tokens": own.draft_tokens, "policy": own.policy},
        "collected_ladder": "none,low=5,medium=12,high=30,answer",
        **{"signal_version": SIGNAL_VERSION, "estimator": ESTIMATOR, "logprobs_mode": "raw", "top_logprobs": 20},
        **{"features": ["alone"], "temperature": 0.0, "insight_mode": "gpra", "aim": "accuracy"},
        **{"data": {}, "figures": {}, "models": MODELS, "points": points},
    }
    card = ClassifierCard.model_validate(made | fields)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "card.json").write_text(json.dumps(stamped(card.model_dump(mode="json"))))
    return card


def script(monkeypatch: pytest.MonkeyPatch, by_model: Mapping[str, Mapping[str, float]]) -> None:
    """Let engines load classifiers whose models predict what is given for each level."""
    from tandem.sufficiency.classifier import read_card

    monkeypatch.setattr(engine, "load_classifier", lambda folder: ScriptedModels(read_card(folder), by_model))
