"""Predictors written by hand, so that a test knows what they predict."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tandem.sufficiency.classifier import short_hash
from tandem.sufficiency.predictor import Head, Predictor


def constant(p: float) -> Head:
    """Return a head that says `p` whatever it reads."""
    return reads("log_question_tokens", 0.0, math.log(p / (1 - p)))


def reads(feature: str, weight: float, intercept: float = 0.0) -> Head:
    """Return a head that says sigmoid(intercept + weight * feature)."""
    return Head(
        kind="probability", features=(feature,), mean=(0.0,), scale=(1.0,), weights=(weight,), intercept=intercept
    )


def save(
    folder: Path,
    strategy: str,
    heads: Mapping[str, Head],
    threshold: float = 0.5,
    *,
    pair: tuple[str, str] = ("fake", "fake"),
    seen: tuple[str, ...] = (),
    **fields: Any,
) -> Path:
    """Write a predictor as `tandem train --strategy` would, and return the folder that names it."""
    data = {"seen": sorted(map(short_hash, seen))}
    settings = fields.pop("settings", {"threshold": threshold})
    mentor, intern = pair
    Predictor(
        strategy=strategy, mentor=mentor, intern=intern, heads=dict(heads), settings=settings, data=data, **fields
    ).save(folder)
    return folder
