"""What a tuning comes to, for outcomes whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from tandem.reports.tune_verdict import Conclusion, HeldOutOutcome, conclude, of_aim
from tandem.reports.verdict import verdict
from tandem.runs.outcomes import RunOutcomes
from tandem.training.aims import parse_aim

N = 200
MENTOR = 0.01  # US$ a problem


def run(right: float, cost: float, *, first: bool = True) -> RunOutcomes:
    """Return a run that is right in a share of the problems, the first or the last of them, at a cost that varies."""
    correct = np.arange(N) < right * N if first else np.arange(N) >= N - right * N
    spread = np.linspace(0.9, 1.1, N)
    costs = cost * (spread[::-1] if first else spread)
    return RunOutcomes([f"p{i}" for i in range(N)], correct.astype(float), {"usd": costs, "mentor_tokens": costs})


def concluded(aim: str = "accuracy", *, tuning: float = 0.5, why: str = "", **runs: RunOutcomes) -> Conclusion:
    named = {name.replace("_", "-"): one for name, one in runs.items()} | {"mentor-only": run(0.9, MENTOR)}
    named = {of_aim("cost:0.6") if name == "other" else name: one for name, one in named.items()}
    outcomes = {}
    for name, one in named.items():
        found = verdict(one, named["mentor-only"], "usd", level=0.9)
        assert found is not None
        outcomes[name] = HeldOutOutcome.of(one, found)
    return conclude(outcomes, parse_aim(aim), tuning=tuning, why=why)


def test_cheaper_and_as_accurate_pays_back() -> None:
    found = concluded(tandem=run(0.9, 0.004), intern_only=run(0.5, 0.0))
    assert found.pays and found.serves == "tandem" and found.paid_back == pytest.approx(0.5 / 0.006, abs=1)
    assert found.sentence.startswith("Tandem pays.") and "paid back after about 84 problems" in found.sentence


def test_a_large_count_is_told_as_roughly_as_it_is_known() -> None:
    found = concluded(tandem=run(0.9, 0.004), intern_only=run(0.5, 0.0), tuning=123.0)
    assert found.paid_back == 20500 and "about 20,000 problems" in found.sentence


@pytest.mark.parametrize(
    ("aim", "ours", "intern", "said", "serves"),
    [
        ("accuracy", run(0.9, 0.004), run(0.9, 0.0), "intern-only is as accurate for no more", "intern-only"),
        ("accuracy", run(0.9, 0.0101), run(0.5, 0.0), "mentor-only is as accurate for no more", "mentor-only"),
        ("accuracy", run(0.95, 0.011), run(0.5, 0.0), "its cost is not shown to be below", "mentor-only"),
        ("accuracy", run(0.8, 0.004), run(0.5, 0.0), "what it saves costs accuracy", "mentor-only"),
        ("cost:0.5", run(0.6, 0.004), run(0.5, 0.0), "a random mix of intern-only and mentor-only", "mentor-only"),
    ],
)
def test_what_does_not_pay_says_why(aim: str, ours: RunOutcomes, intern: RunOutcomes, said: str, serves: str) -> None:
    found = concluded(aim, tandem=ours, intern_only=intern)
    assert not found.pays and found.paid_back is None and found.serves == serves
    assert found.sentence.startswith("Tandem does not pay here: ") and said in found.sentence
    assert f"--strategy {serves}" in found.sentence and "The tuning cost US$ 0.50" in found.sentence


def test_an_aim_at_a_share_of_the_cost_may_lose_accuracy() -> None:
    runs = {"tandem": run(0.8, 0.004), "intern_only": run(0.5, 0.0)}
    assert concluded("cost:0.5", **runs).pays
    found = concluded("accuracy", **runs)
    assert not found.pays and "--aim cost:0.4" in found.sentence


def test_another_aim_that_would_serve_is_named() -> None:
    found = concluded(tandem=run(0.8, 0.006), intern_only=run(0.5, 0.0), other=run(0.9, 0.005))
    assert not found.pays and found.serves == "tandem (cost:0.6)" and "Instead take --aim cost:0.6: " in found.sentence


def test_without_a_tuned_point_it_says_why_and_what_serves() -> None:
    found = concluded(intern_only=run(1.0, 0.0), why="every answer of the intern is right: nothing to learn from")
    assert not found.pays and found.serves == "intern-only"
    assert found.sentence.startswith("Tandem was not tuned: every answer of the intern is right")
