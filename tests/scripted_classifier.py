"""A sufficiency model for tests with scripted predictions."""

from __future__ import annotations

from collections.abc import Mapping

from tandem.ladder import Effort


class ScriptedClassifier:
    """Predicts the sufficiency that it was given for each level."""

    id = "scripted"

    def __init__(self, by_level: Mapping[str, float]) -> None:
        self.by_level = by_level

    def sufficiency(self, level: Effort, signals: Mapping[str, float], insight_tokens: int) -> float:
        return self.by_level[level.name]
