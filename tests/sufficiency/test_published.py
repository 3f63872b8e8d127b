"""The published features, classifier and rule against plain definitions and scikit-learn."""

from __future__ import annotations

import itertools
import math
import random
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic import INTERN, LADDER, MENTOR, table

from tandem.errors import TandemError, UsageError
from tandem.ledger import Usage
from tandem.models.base import Reading
from tandem.models.logprobs import TokenStat
from tandem.sufficiency.prompt_pass import (
    PUBLISHED,
    insight_signals,
    pass_cost,
    prompt_text,
    published_signals,
)
from tandem.sufficiency.published import FILE, PublishedClassifier
from tandem.training.published import fit_published, replay_published, search_thresholds
from tandem.training.replay import Pair

pytestmark = pytest.mark.slow

LEVELS = LADDER[:-1]


def rows(problems: int = 80, seed: int = 0) -> list[dict[str, Any]]:
    """A made-up table whose published signals show the label under noise."""
    draw, made = random.Random(seed), table(problems, seed=seed)
    for row in made:
        if row["level"] != "answer":
            shown = {name: draw.gauss(0, 1) for name in PUBLISHED}
            row["signals"]["published"] = shown | {"log_perplexity": draw.gauss(-1.5 * row["correct"], 1)}
    return made


def fitted(table: list[dict[str, Any]], only: Sequence[str] = ()) -> PublishedClassifier:
    return fit_published(table, LADDER, name="p", mentor="big", intern="small", only=only)


@pytest.fixture(scope="module")
def found() -> PublishedClassifier:
    return fitted(rows())


def test_the_features_of_a_pass_are_what_their_names_say() -> None:
    logprobs, entropies = [-1.0, -3.0, -2.0, -2.0, -0.5, -0.25, -4.0, -1.0], [1.0, 2.0, 0.5, 0.5, 3.0, 1.5, 2.5, 0.0]
    stats = [TokenStat(a, b, 0.1, 1.0) for a, b in zip(logprobs, entropies, strict=True)]
    signals = published_signals(stats)
    assert tuple(signals) == PUBLISHED and len(PUBLISHED) + 2 == 25
    loss = -statistics.fmean(logprobs)
    slope = np.polyfit(range(8), entropies, 1)[0]
    expected = {
        "perplexity": math.exp(loss),
        "log_perplexity": loss,
        "tokens": 8.0,
        "entropy_mean": statistics.fmean(entropies),
        "entropy_std": statistics.pstdev(entropies),
        "entropy_max": 3.0,
        "entropy_min": 0.0,
        "entropy_slope": slope,
        "entropy_rising": 3 / 7,  # 1-2, .5-3, 1.5-2.5
        "entropy_falling": 3 / 7,
        "entropy_first_quarter": 1.5,
        "entropy_last_quarter": 1.25,
        "entropy_trend_change": -0.25,
        "logprob_rising": 4 / 7,
        "logprob_falling": 2 / 7,
        "logprob_min": -4.0,
        "logprob_max": -0.25,
    }
    assert {name: signals[name] for name in expected} == pytest.approx(expected)


def test_a_pass_over_next_to_nothing_has_finite_features() -> None:
    for stats in ([], [TokenStat(-100.0, 0.0, 0.0, 0.0)]):
        assert all(math.isfinite(value) for value in published_signals(stats).values())


def test_question_and_insight_are_found_in_the_text_by_their_place() -> None:
    question, insight = "What is two and two?", "Add them."
    pieces = ["Question", ":", " What", " is", " two", " and", " two", "?\n", "Hint", ":", " Add", " them", ".\n"]
    pieces += ["Answer", ":"]
    assert "".join(pieces) == prompt_text(question, insight)
    stats = [TokenStat(-float(k), 0.1 * k, 0.0, 0.0) for k in range(1, len(pieces))]
    signals = insight_signals(Reading(pieces, stats, Usage()), question, insight)
    # The tokens " What" to " two" are 2 to 6, " Add" and " them" 10 and 11; those that run on are left out.
    assert signals["question_surprise"] == pytest.approx(statistics.fmean([2, 3, 4, 5, 6]))
    assert signals["insight_surprise"] == pytest.approx(10.5)
    assert signals["insight_least_likely"] == -11.0
    assert signals["insight_entropy"] == pytest.approx(1.05)
    alone = insight_signals(Reading(pieces[:8], stats[:7], Usage()), question, "")
    assert alone["insight_surprise"] == 0.0 and alone["question_surprise"] == signals["question_surprise"]


def test_thresholds_are_the_first_of_the_best_among_all_points() -> None:
    draw = np.random.default_rng(3)
    grid = [round(0.05 * k, 2) for k in range(21)]
    for levels in (1, 2, 3):
        p, y = draw.random((12, levels)), draw.integers(0, 2, (12, levels))

        def right(point: tuple[float, ...], p: np.ndarray = p, y: np.ndarray = y) -> int:
            total = 0
            for own, label in zip(p, y, strict=True):
                first = next((k for k, bound in enumerate(point) if own[k] >= bound), int(np.argmax(own)))
                total += int(label[first])
            return total

        assert search_thresholds(p, y) == max(itertools.product(grid, repeat=levels), key=right)


def test_the_plain_trees_give_what_scikit_learn_gives() -> None:
    from sklearn.ensemble import GradientBoostingClassifier
    from sklearn.preprocessing import StandardScaler

    from tandem.training.published import _boost

    draw = np.random.default_rng(0)
    x = draw.normal(size=(300, len(PUBLISHED) + 2))
    y = (x[:, 0] + x[:, 3] ** 2 + draw.normal(size=300) > 1).astype(int)
    mean, scale, offset, trees = _boost(x, y)
    fit = {"mean": mean, "scale": scale, "offset": offset, "trees": trees}
    plain = PublishedClassifier(id="p", mentor="m", intern="i", ladder="none", thresholds=(0.5,), **fit)
    scaler = StandardScaler().fit(x)
    model = GradientBoostingClassifier(n_estimators=100, max_depth=5, learning_rate=0.1, random_state=42)
    expected = model.fit(scaler.transform(x), y).predict_proba(scaler.transform(x))[:, 1]
    given = [plain.probability(dict(zip(PUBLISHED, row, strict=False)), row[-2], row[-1]) for row in x]
    assert given == pytest.approx(expected.tolist(), abs=1e-6)


def test_only_problems_whose_levels_differ_are_learned_from(found: PublishedClassifier) -> None:
    made = rows()
    by_problem: dict[str, set[bool]] = {}
    for row in made:
        if row["level"] != "answer":
            by_problem.setdefault(row["problem"], set()).add(row["correct"])
    differing = sum(len(labels) == 2 for labels in by_problem.values())
    assert (found.data["problems"], found.data["differing"]) == (80, differing)
    agreeing = {problem for problem, labels in by_problem.items() if len(labels) == 1}
    assert fitted([row for row in made if row["problem"] not in agreeing]).trees == found.trees


def test_held_out_problems_are_not_learned_from() -> None:
    made = rows()
    ids = sorted({row["problem"] for row in made})
    kept, held = ids[:60], set(ids[60:])
    turned = [row | {"correct": row["correct"] != (row["problem"] in held)} for row in made]
    assert fitted(made, kept) == fitted(turned, kept)


def test_the_rule_takes_the_first_that_passes_else_the_likeliest(found: PublishedClassifier) -> None:
    rule = found.model_copy(update={"thresholds": (0.9, 0.5, 0.8, 0.7)})
    assert rule.choose([0.9, 0.9, 0.9, 0.9]) == 0
    assert rule.choose([0.1, 0.6, 0.9, 0.9]) == 1
    assert rule.choose([0.4, 0.3, 0.2, 0.6]) == 3
    assert rule.choose([0.4, 0.3, 0.45, 0.1]) == 2


def test_a_replay_pays_every_pass_and_the_mentor_to_the_highest_level_seen(found: PublishedClassifier) -> None:
    made = rows(3, seed=5)
    problem = {row["level"]: row for row in made if row["problem"] == "made-1"}
    pair = Pair(MENTOR, INTERN)
    at_once = replay_published(found.model_copy(update={"thresholds": (0.0,) * 4}), problem, LEVELS, pair)
    assert (at_once.level, at_once.mentor_tokens) == ("none", 0)
    assert at_once.cost == pytest.approx(pass_cost(pair.intern_rates, problem["none"]) + pair.answer(problem["none"]))
    never = replay_published(found.model_copy(update={"thresholds": (1.01,) * 4}), problem, LEVELS, pair)
    passes = sum(pass_cost(pair.intern_rates, problem[level.name]) for level in LEVELS)
    assert never.cost == pytest.approx(passes + pair.insight(problem["high"]) + pair.answer(problem[never.level]))
    assert never.mentor_tokens == problem["high"]["insight_tokens"]


def test_it_is_saved_as_numbers_and_read_back(found: PublishedClassifier, tmp_path: Path) -> None:
    found.save(tmp_path / "p")
    assert PublishedClassifier.load(tmp_path / "p") == found


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"left":[', '"left":[7777,'),
        ('"feature":[', '"feature":[99,'),
        ('"thresholds":[', '"thresholds":[0.5,'),
        ('"mean":[', '"mean":[0.5,'),
        ('"trees":[', '"trees":[{"feature":[],"threshold":[],"left":[],"right":[],"value":[]},'),
        ('"id":', '"id" '),
    ],
)
def test_a_damaged_file_is_refused(found: PublishedClassifier, tmp_path: Path, before: str, after: str) -> None:
    found.save(tmp_path)
    path = tmp_path / FILE
    path.write_text(path.read_text().replace(before, after, 1))
    with pytest.raises(TandemError, match=FILE):
        PublishedClassifier.load(tmp_path)


def test_what_cannot_be_learned_from_is_said() -> None:
    with pytest.raises(UsageError, match="add_signals"):
        fitted(table(20))
    with pytest.raises(UsageError, match="levels differ"):
        fitted(rows(8))
    with pytest.raises(UsageError, match="holds no published classifier"):
        PublishedClassifier.load(Path("nowhere"))
