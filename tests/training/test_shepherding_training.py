"""Training shepherding on made-up tables whose truth is known: labels, choices, figures, and what it must not claim."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from synthetic import INTERN, MENTOR, manifest

from tandem.errors import UsageError
from tandem.strategies import make_strategy
from tandem.sufficiency.predictor import Predictor
from tandem.sufficiency.signals import NAMES
from tandem.training.predictors import train_predictor

pytestmark = pytest.mark.slow

SIZES = ("none", "hint-20", "hint-40", "hint-60", "answer")
ANSWER = 100  # tokens of every answer of the mentor's


def row(problem: str, level: str, correct: bool, question: dict[str, float], **more: Any) -> dict[str, Any]:
    mentors = level == "answer"
    tokens = int(level.removeprefix("hint-")) if level.startswith("hint-") else 0
    drafts = {"all": dict.fromkeys(NAMES, 0.0) | question | {"ended": 1.0}}
    return (
        {
            "problem": problem,
            "level": level,
            "correct": correct,
            "extracted": True,
            "question_tokens": 50,
            "prompt_tokens": 80 + tokens,
            "cached_tokens": 0,
            "completion_tokens": ANSWER if mentors else 100 - tokens,
            "truncated": False,
        }
        | ({} if mentors else {"signals": drafts | {"question": {"log_question_tokens": math.log1p(50)} | question}})
        | ({"insight_tokens": 0} if level == "none" else {"hint_tokens": tokens} if tokens else {})
        | more
    )


def table(
    problems: int = 100, *, useful: bool = True, kinds: Sequence[str] = (*SIZES, "nothing"), seed: int = 0
) -> list[dict[str, Any]]:
    """Return rows of problems that are right from one size on; where `useful`, two features of the question tell it."""
    draw, rows = random.Random(seed), []
    for number in range(problems):
        kind = kinds[number % len(kinds)]
        least = SIZES.index(kind) if kind in SIZES else len(SIZES)
        needed = 0 if least in (0, len(SIZES)) else ANSWER if kind == "answer" else int(kind.removeprefix("hint-"))
        told = (needed > 0, math.log1p(needed) if needed else 3.8) if useful else (draw.random(), 3 + draw.random())
        question = {"question_numbers": float(told[0]), "question_symbols": told[1] + draw.gauss(0, 0.01)}
        rows += [row(f"made-{number}", level, k >= least, question) for k, level in enumerate(SIZES)]
    return rows


def train(rows: list[dict[str, Any]], **options: Any) -> Predictor:
    return train_predictor("shepherding", (rows, manifest()), (MENTOR, INTERN), **options)


def figures_of(found: Predictor, method: str) -> dict[str, Any]:
    return found.figures if method == "proactive" else found.figures[method]


@pytest.fixture(scope="module")
def told() -> Predictor:
    return train(table())


def test_a_perfect_signal_is_learned(told: Predictor) -> None:
    for method in ("proactive", "reactive"):
        figures = figures_of(told, method)
        held, out = figures["held_out"], figures["out_of_fold"]
        assert held["gain_over_chord"]["low"] > 0.05 and held["problems"] == 100
        assert held["accuracy"] > 0.78  # of the 84 % that anything solves
        assert held["cost"] < figures["anchors"]["mentor-only"]["cost"]
        assert out["needs"]["auroc"] > 0.99 and out["size"]["error"] < out["size"]["error_of_the_median"] / 2
        assert held["way_shares"]["none"] == pytest.approx(1 / 3, abs=0.04)


def test_what_is_said_to_be_right_is_the_interns_own_answer(told: Predictor) -> None:
    rows = [one for one in table() if one["level"] == "none"]
    said: dict[bool, list[float]] = {True: [], False: []}
    for one in rows:
        features = one["signals"]["question"]
        said[features["question_numbers"] == 1.0].append(told.heads["proactive-right"].predict(features))
    assert max(said[True]) < 0.3 < min(said[False])  # who needs a hint is wrong without; of the others half are right


def test_a_useless_signal_is_not_claimed_to_help() -> None:
    found = train(table(useful=False))
    for method in ("proactive", "reactive"):
        assert figures_of(found, method)["held_out"]["gain_over_chord"]["low"] <= 0
        assert 0.3 < figures_of(found, method)["out_of_fold"]["needs"]["auroc"] < 0.7
        assert any(note.startswith(f"{method}: No gain") or "serves better" in note for note in found.notes)


def test_what_it_wrote_is_what_the_strategy_reads(told: Predictor, tmp_path: Path) -> None:
    told.save(tmp_path)
    strategy = make_strategy(f"shepherding:reactive,{tmp_path}")
    assert strategy.bind("big", "small") == told.id and strategy.saw("made-3") and not strategy.saw("other-3")
    assert told.data["problems"] == {"made": 100} and told.data["rows"] == 500
    assert {"threshold", "threshold-reactive"} == set(told.settings)


def test_the_smallest_right_size_is_the_label_though_a_larger_one_fails() -> None:
    rows = table()
    for one in rows:
        if one["level"] == "hint-60":
            one["correct"] = False
    labels = train(rows).figures["labels"]
    assert labels["none"] == labels["hint-20"] == pytest.approx(0.17) and labels["hint-40"] == pytest.approx(0.17)
    assert (
        labels["hint-60"] == 0 and labels["answer"] == pytest.approx(0.33) and labels["nothing"] == pytest.approx(0.16)
    )


def test_a_size_between_two_is_replayed_as_the_larger() -> None:
    rows = table(kinds=("none", "hint-20", "hint-60"))
    for one in rows:
        for features in one.get("signals", {}).values():
            features["question_symbols"] = 1.0  # nothing tells the size: about 35 tokens for all
    shares = train(rows).figures["held_out"]["way_shares"]
    assert shares["hint-40"] > 0.6 and shares["hint-20"] == shares["answer"] == 0


def test_reactive_pays_for_the_answer_that_it_discards(told: Predictor) -> None:
    proactive, reactive = (figures_of(told, method)["always"] for method in ("proactive", "reactive"))
    assert reactive["none"] == proactive["none"]
    for way in SIZES[1:]:
        extra = reactive[way]["cost"] - proactive[way]["cost"]
        assert extra == pytest.approx(proactive["none"]["cost"], abs=2e-4)
    assert proactive["hint-40"]["mentor_tokens"] == 40 and proactive["answer"]["mentor_tokens"] == ANSWER


def test_only_the_first_of_several_samples_counts(told: Predictor) -> None:
    rows = table()
    more = [one | {"sample": 1, "correct": not one["correct"]} for one in rows if one["level"] != "answer"]
    found = train(rows + more)
    assert found.heads == told.heads and found.settings == told.settings


def test_the_order_of_the_rows_is_no_matter(told: Predictor) -> None:
    assert train(table()[::-1]).id == told.id


def test_a_table_that_cannot_teach_it_is_refused() -> None:
    with pytest.raises(UsageError, match=r"the table has no hints.*--hints 20,40,60"):
        train([one for one in table() if not one["level"].startswith("hint")])
    with pytest.raises(UsageError, match="at least 40"):
        train(table(30))
    with pytest.raises(UsageError, match="too few to learn its size"):
        train(table(kinds=("none", "nothing")))
