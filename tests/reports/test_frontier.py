"""Budget forcing among the baselines: where the test table has rows of it, they are evaluated as everything else is."""

from __future__ import annotations

import random
from typing import Any

import pytest
from synthetic import INTERN, MENTOR, manifest, table

from tandem.costs import rates
from tandem.reports.frontier import evaluate, markdown
from tandem.sufficiency.prompt_pass import PUBLISHED
from tandem.training.published import published_baseline

pytestmark = pytest.mark.slow  # whole trainings

MANIFEST = manifest() | {"draft_lengths": []}
Rows = list[dict[str, Any]]


def with_budget(rows: Rows, tokens: int) -> Rows:
    """Add what the mentor says when it is cut: right where its own answer is, at `tokens` tokens."""
    answers = [row for row in rows if row["level"] == "answer"]
    return rows + [row | {"level": f"budget-{tokens}", "completion_tokens": tokens} for row in answers]


def renamed(rows: Rows) -> Rows:
    return [row | {"problem": f"test-{row['problem']}"} for row in rows]


def evaluated(test: Rows) -> dict[str, Any]:
    return evaluate((table(60), MANIFEST), (test, MANIFEST), (MENTOR, INTERN), kinds=("logistic",))


def test_budgets_that_every_problem_has_are_rivals() -> None:
    rows = renamed(table(60, seed=7))
    found = evaluated(with_budget(with_budget(rows, 150), 40))
    mentor, cut = found["strategies"]["mentor-only"], found["strategies"]["budget-150"]
    assert (cut["accuracy"], cut["mentor_tokens"]) == (mentor["accuracy"], 150)
    answers = [row for row in rows if row["level"] == "answer"]
    tflops = sum(rates(MENTOR, "tflops", "intern").cost(row["prompt_tokens"], 0, 150) or 0 for row in answers) / len(
        answers
    )
    assert cut["cost"]["tflops"] == pytest.approx(tflops, abs=1e-4)
    assert cut["cost"]["tflops_published"] == pytest.approx(2e-12 * 32e9 * 150, abs=1e-4)
    assert cut["gain_over_chord"]["tflops"]["value"] > 0  # as right as the mentor, at less
    assert set(found["differences"]) == {"cascade", "budget-150", "budget-40"}
    assert "budget-forcing" not in found["left_out"]
    text = markdown(found)
    assert text.count("| budget-150 |") == text.count("| budget-40 |") == 3  # its figures, ours less its, its share


def with_published(rows: Rows, seed: int) -> Rows:
    """Add published signals that say nothing."""
    draw = random.Random(seed)
    for row in rows:
        if "signals" in row:
            row["signals"]["published"] = {name: draw.gauss(0, 1) for name in PUBLISHED}
    return rows


def test_the_published_classifier_is_judged_on_the_same_answers() -> None:
    train, test = with_published(table(60), 1), with_published(renamed(table(60, seed=7)), 2)
    found = evaluate(
        (train, MANIFEST),
        (test, MANIFEST),
        (MENTOR, INTERN),
        baselines={"published": published_baseline},
        kinds=("logistic",),
    )
    assert found["left_out"].keys() == {"budget-forcing"}
    assert set(found["differences"]) == {"cascade", "published"}
    ours, theirs = found["sufficiency"]["ours"], found["sufficiency"]["published"]
    assert ours["pooled"]["n"] == theirs["pooled"]["n"] == 4 * 60 and "question" in ours
    apart = found["auroc_difference"]["published"]
    assert set(apart) == {"pooled", "none", "low", "medium", "high"} and apart["pooled"]["low"] > 0
    assert "AUROC, ours less published" in markdown(found)


def test_a_budget_that_some_problems_lack_is_no_rival() -> None:
    found = evaluated(with_budget(renamed(table(60, seed=7)), 150)[:-1])
    assert "budget-150" not in found["strategies"] and set(found["differences"]) == {"cascade"}
    assert "no rows of it" in found["left_out"]["budget-forcing"]
