"""Training best-route on made-up tables: what the best of n is, which numbers are candidates, and what is claimed."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from synthetic import INTERN, MENTOR, manifest

from tandem.errors import UsageError
from tandem.spec import Architecture, ModelSpec
from tandem.strategies import make_strategy
from tandem.sufficiency.predictor import Predictor
from tandem.training.predictors import train_predictor
from tandem.training.predictors.best_route import best_right

pytestmark = pytest.mark.slow

MIDDLE = ModelSpec(name="middle", parameters=4e9, architecture=Architecture(layers=30, attention_width=2048))


def sample(correct: bool, perplexity: float = 1.0, *, extracted: bool = True) -> dict[str, Any]:
    return {"correct": correct, "extracted": extracted, "signals": {"all": {"log_perplexity": perplexity}}}


def table(
    problems: int = 100, *, samples: int = 5, wrong: int = 1, useful: bool = True, name: str = "made", seed: int = 0
) -> list[dict[str, Any]]:
    """Return problems that the intern has right always, but for `wrong` samples or never; the mentor has nine tenths.

    Where `useful`, a feature of the question tells which.
    """
    draw, rows = random.Random(seed), []
    for number in range(problems):
        kind = number % 3
        told = float(kind) if useful else draw.random()
        question = {"log_question_tokens": math.log1p(50), "question_numbers": told + draw.gauss(0, 0.01)}
        common = {"problem": f"{name}-{number}", "question_tokens": 50, "prompt_tokens": 80, "cached_tokens": 0}
        common |= {"completion_tokens": 100, "truncated": False}
        missed = draw.sample(range(samples), wrong)
        for k in range(samples):
            right = kind == 0 or (kind == 1 and k not in missed)
            seen = sample(right, perplexity=0.1 if right else 0.5)
            seen["signals"]["question"] = question
            rows.append(common | seen | {"level": "none", "sample": k, "insight_tokens": 0})
        rows.append(common | {"level": "answer", "correct": number % 10 != 9, "extracted": True})
    return rows


def train(rows: list[dict[str, Any]], specs: tuple[ModelSpec, ModelSpec] = (MENTOR, INTERN), **more: Any) -> Predictor:
    about = manifest() | {"sampling": {"temperature": 0.7, "top_p": 0.95, "seed": 0, "stop": []}}
    return train_predictor("best-route", (rows, about), specs, **more)


@pytest.fixture(scope="module")
def told() -> Predictor:
    return train(table())


R, W = sample(True, 0.5), sample(False, 0.9)
LIKELY_W, SILENT = sample(False, 0.1), sample(False, 0.1, extracted=False)


@pytest.mark.parametrize(
    ("samples", "n", "closed", "share"),
    [
        ([R, R, R, W, W], 1, True, 0.6),
        ([R, R, R, W, W], 3, True, 0.7),  # of ten choices of three, those with two right or more
        ([R, R, R, W, W], 5, True, 1.0),
        ([R, R, W, W, W], 5, True, 0.0),  # wrong answers are taken to agree
        ([R, W], 2, True, 1.0),  # a tie, and the likelier is right
        ([R, LIKELY_W], 2, True, 0.0),
        ([R, SILENT, SILENT], 3, True, 1.0),  # what says nothing has no vote
        ([SILENT, SILENT], 2, True, 0.0),
        ([R, R, LIKELY_W], 3, False, 0.0),  # no vote among programs: the likeliest
        ([R, W, W], 3, False, 1.0),
    ],
)
def test_the_best_of_n(samples: Sequence[dict[str, Any]], n: int, closed: bool, share: float) -> None:
    assert best_right(samples, n, closed) == pytest.approx(share)


def test_a_perfect_signal_is_learned(told: Predictor) -> None:
    held = told.figures["held_out"]
    assert held["gain_over_chord"]["low"] > 0.05
    assert held["accuracy"] >= told.figures["anchors"]["mentor-only"]["accuracy"] - 0.05
    assert told.figures["out_of_fold"]["right-1"]["auroc"] > 0.95
    # The intern is never right where the feature says so: those go to the mentor.
    assert held["mentor_share"] == pytest.approx(1 / 3, abs=0.1)


def test_more_samples_are_known_to_help(told: Predictor) -> None:
    right = told.figures["right"]
    assert right["best-of-1"] == pytest.approx(0.34 + 0.33 * 0.8, abs=0.01)
    assert right["best-of-3"] == right["best-of-5"] == pytest.approx(0.67, abs=0.01)
    assert {f"{what}-{n}" for n in range(1, 6) for what in ("match", "right")} == set(told.heads)
    assert told.settings["most"] == 5
    assert told.figures["always"]["best-of-3"]["cost"] == pytest.approx(
        3 * told.figures["always"]["none"]["cost"], abs=2e-4
    )


def test_who_needs_a_vote_gets_one() -> None:
    shares = train(table(wrong=2)).figures["held_out"]["way_shares"]
    # Each threshold is chosen on a few problems: a fold or two may give the middle third to one sample.
    assert sum(share for way, share in shares.items() if way.startswith("best-of")) > 0.15
    assert shares["answer"] == pytest.approx(1 / 3, abs=0.1)


def test_a_match_is_a_right_answer_or_one_that_the_mentor_has_wrong_too() -> None:
    rows = table(samples=1)
    found = train(rows).figures["out_of_fold"]
    wrong = {r["problem"] for r in rows if r["level"] == "answer" and not r["correct"]}
    right = {r["problem"] for r in rows if r["level"] == "none" and r["correct"]}
    assert found["match-1"]["right"] == pytest.approx(len(wrong | right) / 100)
    assert found["right-1"]["right"] == pytest.approx(len(right) / 100)


def test_numbers_that_cost_what_the_mentor_costs_are_no_candidates() -> None:
    found = train(table(), (MIDDLE, INTERN))
    assert found.settings["most"] == 2 and set(found.figures["always"]) == {"none", "best-of-2", "answer"}
    assert any("More than 2 samples" in note for note in found.notes)


def test_one_sample_a_problem_leaves_the_choice_between_the_models() -> None:
    found = train(table(samples=1))
    assert set(found.heads) == {"match-1", "right-1"} and found.settings["most"] == 1
    assert any("--samples 5 --temperature 0.7" in note for note in found.notes)


def test_a_useless_signal_is_not_claimed_to_help() -> None:
    found = train(table(useful=False))
    assert found.figures["held_out"]["gain_over_chord"]["low"] <= 0.0
    assert 0.3 < found.figures["out_of_fold"]["right-1"]["auroc"] < 0.7


def test_programs_are_not_put_to_the_vote() -> None:
    rows = table(name="mbpp")
    for row in rows:
        if row["level"] == "none" and not row["correct"]:
            row["signals"]["all"]["log_perplexity"] = 0.01  # the wrong program is the likeliest
    right = train(rows).figures["right"]
    assert right["best-of-5"] == pytest.approx(0.34) and right["best-of-5"] < right["best-of-1"]


def test_what_it_wrote_is_what_the_strategy_reads(told: Predictor, tmp_path: Path) -> None:
    told.save(tmp_path)
    strategy = make_strategy(f"best-route:{tmp_path}")
    assert strategy.bind("big", "small") == told.id and strategy.saw("made-3")
    assert strategy.most == 5  # type: ignore[attr-defined]
    assert told.data["samples"] == 5 and train(table()[::-1]).id == told.id


def test_a_table_that_cannot_teach_it_is_refused() -> None:
    with pytest.raises(UsageError, match="at least 40"):
        train(table(30))
    with pytest.raises(UsageError, match="same outcome"):
        train([row | {"correct": True} for row in table()])
