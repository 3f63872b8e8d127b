"""A judge for tests, whose sufficiencies are written down beforehand."""

from __future__ import annotations

from collections.abc import Mapping

from tandem.ladder import Effort


class Judge:
    """Says beforehand how sufficient each level is."""

    id = "scripted"

    def __init__(self, by_level: Mapping[str, float]) -> None:
        self.by_level = by_level

    def sufficiency(self, level: Effort, signals: Mapping[str, float], insight_tokens: int) -> float:
        return self.by_level[level.name]
