"""A made-up collection whose truth is known: rows as collection/ writes them, for tests of training."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import Any

from tandem.ladder import format_ladder, parse_ladder
from tandem.models.logprobs import ESTIMATOR
from tandem.spec import Architecture, ModelSpec, Prices, SpeedProfile
from tandem.sufficiency.signals import NAMES, QUESTION_CANDIDATES, SIGNAL_VERSION

LADDER = parse_ladder("none,low,medium,high,answer")
DRAFTS = ("16", "32", "64", "128", "all")
MENTOR = ModelSpec(name="big", parameters=32e9, architecture=Architecture(layers=64, attention_width=5120))
INTERN = ModelSpec(name="small", parameters=1.5e9, architecture=Architecture(layers=28, attention_width=1536))
# Log-odds of a right answer to a problem of average difficulty.
EASE = {"none": -0.6, "low": 0.2, "medium": 1.0, "high": 1.8, "answer": 1.0}
# How far a draft's signals lie from the truth: a longer draft shows more.
NOISE = {"16": 1.6, "32": 1.2, "64": 0.8, "128": 0.6, "all": 0.4}


def rated_pair() -> tuple[ModelSpec, ModelSpec]:
    """Return mentor and intern with rates in every unit: prices, speed profiles and sizes."""
    paid = Prices(input=2.0, cached_input=0.5, cache_write=2.5, output=8.0, date="2026-11-30")
    own = Prices(input=0.1, cached_input=0.01, output=0.4, date="2026-11-30")
    speeds = [
        SpeedProfile(model=spec.name, uncached=read, cached=read / 50, written=8.5 * read, load="made up")
        for spec, read in ((MENTOR, 3e-3), (INTERN, 1e-3))
    ]
    return (
        MENTOR.model_copy(update={"prices": paid, "profile": speeds[0]}),
        INTERN.model_copy(update={"prices": own, "profile": speeds[1]}),
    )


def table(
    problems: int = 150,
    *,
    seed: int = 0,
    ease: Mapping[str, float] | None = None,
    spread: float = 2.0,
    informative: bool = True,
) -> list[dict[str, Any]]:
    """Return rows of `problems` problems at four levels and `answer`.

    A level answers rightly with probability sigmoid(ease - difficulty), difficulty ~ N(0, spread); the signals show
    that log-odds under noise, or, where not `informative`, noise alone.
    """
    draw, ease, asking = random.Random(seed), EASE | (ease or {}), random.Random(seed + 1)
    rows: list[dict[str, Any]] = []
    for number in range(problems):
        difficulty, ends = draw.gauss(0, spread), draw.randint(150, 1500)
        prompt = draw.randint(60, 200)
        question = {name: round(asking.uniform(0, 3), 5) for name in QUESTION_CANDIDATES[1:]}
        for level in LADDER:
            odds = ease[level.name] - difficulty
            tokens = min(level.tokens or 0, ends)
            row: dict[str, Any] = {
                "problem": f"made-{number}",
                "level": level.name,
                "correct": draw.random() < 1 / (1 + math.exp(-odds)),
                "extracted": True,
                "question_tokens": prompt - 30,
                "prompt_tokens": prompt + tokens,
                "cached_tokens": 0,
                "completion_tokens": draw.randint(800, 2500) if level.is_answer else draw.randint(100, 500),
                "truncated": False,
            }
            if not level.is_answer:
                row |= {"insight_tokens": tokens, "signals": _signals(odds if informative else None, row, draw)}
                row["signals"]["question"] = question
            if level.tokens:
                row |= {
                    "mentor_prompt_tokens": prompt + 60,
                    "insight_finished": ends < level.tokens,
                    "same": ends < level.tokens and ends <= rows[-1]["insight_tokens"],
                }
            rows.append(row)
    return rows


def _signals(odds: float | None, row: Mapping[str, Any], draw: random.Random) -> dict[str, dict[str, float]]:
    found = {}
    for draft in DRAFTS:
        seen = draw.gauss(0, 2) if odds is None else odds + draw.gauss(0, NOISE[draft])
        written = row["completion_tokens"] if draft == "all" else min(int(draft), row["completion_tokens"])
        values = {name: round(draw.gauss(0, 1), 5) for name in NAMES if name != "settling"} | {
            "settling": 0.0,  # a signal that came later: the others stay what they were
            "log_perplexity": round(0.3 - 0.05 * seen + draw.gauss(0, 0.02), 5),
            "entropy_mean": round(0.5 - 0.1 * seen + draw.gauss(0, 0.05), 5),
            "least_likely": round(-3 + 0.4 * seen + draw.gauss(0, 0.3), 5),
            "length": round(math.log1p(written), 5),
            "ended": float(written == row["completion_tokens"]),
        }
        found[draft] = values
    return found


def manifest() -> dict[str, Any]:
    """Return the collection.json that goes with `table`."""
    return {
        "mentor": MENTOR.name,
        "intern": INTERN.name,
        "ladder": format_ladder(LADDER),
        "max_tokens": 4096,
        "sampling": {"temperature": 0.0, "top_p": 1.0, "seed": None, "stop": []},
        "top_logprobs": 20,
        "signal_version": SIGNAL_VERSION,
        "estimator": ESTIMATOR,
        "logprobs_mode": "raw",
        "insight_mode": "gpra",
        "draft_lengths": [16, 32, 64, 128],
    }
