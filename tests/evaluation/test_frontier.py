"""Budget forcing among the rivals: where the test table has rows of it, they are judged as everything else is."""

from __future__ import annotations

from typing import Any

import pytest
from synthetic import INTERN, MENTOR, manifest, table

from tandem.evaluation.frontier import evaluate
from tandem.evaluation.frontier_report import markdown

pytestmark = pytest.mark.slow  # whole trainings

MANIFEST = manifest() | {"draft_lengths": []}
Rows = list[dict[str, Any]]


def with_budget(rows: Rows, tokens: int) -> Rows:
    """Add what the mentor says when it is cut: right where its own answer is, at `tokens` tokens."""
    answers = [row for row in rows if row["level"] == "answer"]
    return rows + [row | {"level": f"budget-{tokens}", "completion_tokens": tokens} for row in answers]


def renamed(rows: Rows) -> Rows:
    return [row | {"problem": f"test-{row['problem']}"} for row in rows]


def judged(test: Rows) -> dict[str, Any]:
    return evaluate((table(60), MANIFEST), (test, MANIFEST), (MENTOR, INTERN), kinds=("logistic",))


def test_budgets_that_every_problem_has_are_rivals() -> None:
    rows = renamed(table(60, seed=7))
    found = judged(with_budget(with_budget(rows, 150), 40))
    mentor, cut = found["strategies"]["mentor-only"], found["strategies"]["budget-150"]
    assert (cut["accuracy"], cut["mentor_tokens"]) == (mentor["accuracy"], 150)
    answers = [row for row in rows if row["level"] == "answer"]
    tflops = sum(MENTOR.tflops(row["prompt_tokens"], 0, 150) or 0 for row in answers) / len(answers)
    assert cut["tflops"] == pytest.approx(tflops, abs=1e-4)
    assert cut["tflops_published"] == pytest.approx(2e-12 * 32e9 * 150, abs=1e-4)
    assert cut["gain_over_chord"]["value"] > 0  # as right as the mentor, at less
    assert set(found["differences"]) == {"cascade", "budget-150", "budget-40"}
    assert "budget-forcing" not in found["left_out"]
    text = markdown(found)
    assert text.count("| budget-150 |") == text.count("| budget-40 |") == 2  # its figures, and ours less its


def test_a_budget_that_some_problems_lack_is_no_rival() -> None:
    found = judged(with_budget(renamed(table(60, seed=7)), 150)[:-1])
    assert "budget-150" not in found["strategies"] and set(found["differences"]) == {"cascade"}
    assert "no rows of it" in found["left_out"]["budget-forcing"]
