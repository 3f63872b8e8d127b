"""`regret:X`: the p-value holds at any sample size and adapts to the variance; coverage and power are simulated."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tandem.training.certify import fewest, fixed_sequence, needed, p_value

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from certify import WORLDS, World, simulate


def losses(rng: np.random.Generator, count: int, lost: float, won: float) -> np.ndarray:
    return rng.choice([1, 0, -1], p=[lost, 1 - lost - won, won], size=count)


@pytest.mark.parametrize("count", [20, 200, 2000])
@pytest.mark.parametrize(("lost", "won"), [(0.02, 0.0), (0.06, 0.04), (0.26, 0.24), (0.51, 0.49)])
def test_on_the_boundary_it_errs_no_more_often_than_it_says(count: int, lost: float, won: float) -> None:
    """A mean loss of exactly the limit: p <= 0.1 may come up in at most a tenth of the samples."""
    rng = np.random.default_rng(count)
    found = [p_value(losses(rng, count, lost, won), 0.02) for _ in range(400)]
    assert np.mean(np.asarray(found) <= 0.1) <= 0.1 + 3 * np.sqrt(0.09 / 400)


def test_it_adapts_to_the_variance() -> None:
    """Where few problems are decided differently, few problems are enough."""
    rare, often = (needed(np.repeat([1, 0, -1], [k, 1000 - 2 * k, k]), 0.02) for k in (5, 200))
    assert rare is not None and often is not None and rare < often / 5
    hoeffding = np.log(10) * 2 / 0.02**2  # what a bound that knows only the range would take
    assert rare < hoeffding / 20


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 400), st.sampled_from([0.01, 0.05, 0.2]))
def test_more_than_the_fewest_are_needed_and_none_where_the_loss_is_too_large(
    lost: int, won: int, same: int, limit: float
) -> None:
    sample = np.repeat([1, -1, 0], [lost, won, same])
    count = needed(sample, limit)
    if len(sample) and sample.mean() >= limit:
        assert count is None
    elif won == 0 and count is not None:
        assert count >= fewest(limit)


def test_what_is_needed_is_enough_if_losses_go_on_alike() -> None:
    sample = np.asarray([1] + [0] * 97 + [-1] * 2)
    count = needed(sample, 0.02)
    assert count is not None
    alike = np.tile(np.random.default_rng(0).permutation(sample), 200)
    assert p_value(alike[: count + 100], 0.02) <= 0.1 < p_value(alike[: count // 2], 0.02)


def test_without_a_single_loss_the_fewest_problems_are_enough() -> None:
    count = fewest(0.02)
    assert p_value(np.zeros(count), 0.02) <= 0.1 < p_value(np.zeros(count - 1), 0.02)
    assert 100 < count < 300
    assert p_value(np.zeros(0), 0.02) == 1.0
    assert p_value(np.ones(500), 0.02) == 1.0


def test_the_sequence_stops_at_the_first_failure() -> None:
    good, bad = np.zeros(500), np.ones(500)
    assert fixed_sequence([good, good, bad, good], 0.05).passed == 2
    assert len(fixed_sequence([good, good, bad, good], 0.05).tests) == 3
    assert fixed_sequence([bad, good], 0.05).passed == 0
    assert fixed_sequence([good], 0.05).passed == 1


@pytest.mark.parametrize("name", list(WORLDS))
def test_what_is_certified_keeps_its_bound(name: str) -> None:
    found = simulate(WORLDS[name], count=1200, limit=0.02, tables=60)
    assert found["coverage"] >= 0.9


@pytest.mark.parametrize("limit", [0.01, 0.02])
def test_at_5000_problems_with_10_percent_disagreement_something_cheaper_is_certified(limit: float) -> None:
    for world in (World(0.05, 0.05, 0.0), World(0.07, 0.03, 1.0), World(0.10, 0.0, 1.0)):
        found = simulate(world, count=5000, limit=limit, tables=20)
        assert found["power"] >= 0.9 and found["coverage"] >= 0.9
