"""A collected row and its kinds: what the intern, or the mentor itself, made of one problem at one level."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tandem.ladder import ANSWER

HINT = "hint-"  # the intern goes on from that share (%) of the mentor's answer
BUDGET = "budget-"  # a mentor whose reasoning is cut at that many tokens
Row = Mapping[str, Any]
Levels = Mapping[str, Row]
PCorrectLater = Mapping[str, Mapping[str, Mapping[str, float]]]  # by problem, level and later level
Sufficiencies = Mapping[str, Mapping[str, float]]  # the predicted probability of a right answer, by problem and level


def is_mentors(level: str) -> bool:
    """Whether the mentor itself answers at a level: its own answer, or one whose reasoning was cut short."""
    return level == ANSWER or level.startswith(BUDGET)
