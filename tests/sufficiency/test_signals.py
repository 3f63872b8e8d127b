"""Signals against plain definitions, and the entropy estimate against the true entropy of whole distributions."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tandem.models.logprobs import FLOOR, TokenStat, token_stat
from tandem.sufficiency.signals import CANDIDATES, NAMES, change_signals, draft_signals, question_candidates

quick = settings(max_examples=50, deadline=None)

STATS = st.builds(
    TokenStat,
    logprob=st.floats(-100, 0),
    entropy=st.floats(0, 12),
    gap=st.floats(0, 3),
    margin=st.floats(0, 100),
)


def quantile(values: list[float], share: float) -> float:
    """The value at `share` of the way through the sorted list, between neighbours by straight line."""
    ranked = sorted(values)
    place = share * (len(ranked) - 1)
    below, part = int(place), place % 1
    return ranked[below] + (part * (ranked[below + 1] - ranked[below]) if part else 0.0)


@quick
@given(st.lists(STATS, min_size=1, max_size=60), st.booleans())
def test_every_signal_is_what_its_definition_says(stats: list[TokenStat], ended: bool) -> None:
    logprobs, entropies = [s.logprob for s in stats], [s.entropy for s in stats]
    margins = [s.margin for s in stats]
    third = max(len(stats) // 3, 1)
    expected = {
        "log_perplexity": -statistics.fmean(logprobs),
        "entropy_mean": statistics.fmean(entropies),
        "entropy_std": statistics.pstdev(entropies),
        "entropy_max": max(entropies),
        "entropy_trend": statistics.fmean(entropies[-20:]) - statistics.fmean(entropies[:20]),
        "entropy_gap": statistics.fmean(s.gap for s in stats),
        "least_likely": min(logprobs),
        "least_likely_5": statistics.fmean(sorted(logprobs)[:5]),
        "margin_mean": statistics.fmean(margins),
        "margin_low": quantile(margins, 0.1),
        "settling": statistics.fmean(logprobs[-third:]) - statistics.fmean(logprobs[:third]),
        "length": math.log(1 + len(stats)),
        "ended": 1.0 if ended else 0.0,
    }
    found = draft_signals(stats, ended=ended)
    assert tuple(found) == NAMES
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-6)
    assert all(type(value) is float for value in found.values())  # they go into JSON


@quick
@given(st.lists(STATS, min_size=1, max_size=19))
def test_a_draft_shorter_than_the_edge_has_no_trend(stats: list[TokenStat]) -> None:
    assert draft_signals(stats, ended=True)["entropy_trend"] == 0.0


@pytest.mark.parametrize("ended", [True, False])
def test_an_empty_draft_is_all_zero_but_its_end(ended: bool) -> None:
    assert draft_signals([], ended=ended) == dict.fromkeys(NAMES, 0.0) | {"ended": float(ended)}


@st.composite
def distributions(draw: st.DrawFn) -> tuple[np.ndarray, int]:
    """A whole distribution, from nearly certain to uniform, and how many of its best are shown."""
    size = draw(st.integers(2, 400))
    sharpness = draw(st.floats(0, 30))
    seed = draw(st.integers(0, 2**32 - 1))
    scores = sharpness * np.random.default_rng(seed).standard_normal(size)
    p = np.exp(scores - scores.max())
    return p / p.sum(), draw(st.integers(1, min(20, size)))


@quick
@given(distributions(), st.randoms())
def test_the_true_entropy_lies_within_the_estimate_and_its_gap(shown: tuple[np.ndarray, int], random: object) -> None:
    p, k = shown
    positive = p[p > 0]
    truth = float(-(positive * np.log(positive)).sum())
    with np.errstate(divide="ignore"):
        top = np.log(np.sort(p)[::-1][:k]).tolist()
    random.shuffle(top)  # type: ignore[attr-defined]  # servers promise no order
    stat = token_stat(max(top), top, len(p))
    assert stat.entropy - 1e-6 <= truth <= stat.entropy + stat.gap + 1e-6
    if k == len(p):
        assert stat.entropy == pytest.approx(truth, abs=1e-6)


@quick
@given(st.integers(21, 400), st.integers(1, 20))
def test_the_upper_end_is_reached_by_a_uniform_rest(size: int, k: int) -> None:
    stat = token_stat(math.log(1 / size), [math.log(1 / size)] * k, size)
    assert stat.entropy + stat.gap == pytest.approx(math.log(size), abs=1e-6)


def test_the_lower_end_is_reached_where_the_rest_is_one_token() -> None:
    stat = token_stat(math.log(0.7), [math.log(0.7)], 2)
    assert stat.entropy == pytest.approx(-0.7 * math.log(0.7) - 0.3 * math.log(0.3))
    assert stat.gap == 0.0


def test_an_unknown_vocabulary_widens_the_gap() -> None:
    top = [math.log(0.5)]
    assert token_stat(top[0], top, None).gap > token_stat(top[0], top, 30_000).gap > 0


def test_minus_infinity_is_clamped() -> None:
    stat = token_stat(-math.inf, [0.0, -math.inf, -math.inf], 1000)
    assert stat == pytest.approx((FLOOR, 0.0, 0.0, -FLOOR), abs=1e-30)
    nothing = token_stat(-math.inf, [-math.inf, -math.inf], 1000)
    assert all(math.isfinite(value) for value in nothing)
    assert all(math.isfinite(value) for value in draft_signals([stat, nothing], ended=False).values())


def test_the_margin_is_between_the_two_best_in_any_order() -> None:
    top = [math.log(p) for p in (0.1, 0.6, 0.3)]
    assert token_stat(top[0], top, 1000).margin == pytest.approx(math.log(0.6 / 0.3))


@quick
@given(st.lists(STATS, min_size=1, max_size=60), st.booleans())
def test_every_candidate_is_what_its_definition_says(stats: list[TokenStat], ended: bool) -> None:
    logprobs, entropies = [s.logprob for s in stats], [s.entropy for s in stats]
    margins, count = [s.margin for s in stats], len(stats)
    quarter = max(count // 4, 1)
    forks = sum(m < 0.5 for m in margins)
    expected = {
        "least_likely_3": statistics.fmean(sorted(logprobs)[:3]),
        "least_likely_10": statistics.fmean(sorted(logprobs)[:10]),
        "least_likely_at": logprobs.index(min(logprobs)) / count,
        "total": math.fsum(logprobs),
        "logprob_std": statistics.pstdev(logprobs),
        "logprob_first_quarter": statistics.fmean(logprobs[:quarter]),
        "logprob_last_quarter": statistics.fmean(logprobs[-quarter:]),
        "commitment": sum(m > 3 for m in margins) / count,
        "forks": forks / count,
        "forks_log_count": math.log(1 + forks),
        "margin_least": min(margins),
        "entropy_median": statistics.median(entropies),
        "entropy_high": quantile(entropies, 0.9),
        "entropy_top_5": statistics.fmean(sorted(entropies)[-5:]),
        "entropy_first": entropies[0],
        "entropy_first_quarter": statistics.fmean(entropies[:quarter]),
        "entropy_last_quarter": statistics.fmean(entropies[-quarter:]),
    }
    others = [name for name in CANDIDATES if name not in NAMES]
    found = draft_signals(stats, ended=ended, names=others)
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-6)
    assert draft_signals(stats, ended=ended, names=CANDIDATES) == found | draft_signals(stats, ended=ended)


def test_statistics_read_back_from_a_row_give_the_same_signals() -> None:
    stats = [TokenStat(-0.25, 0.5, 0.01, 1.5), TokenStat(-2.0, 1.25, 0.0, 0.25)]
    assert draft_signals([list(s) for s in stats], ended=True) == draft_signals(stats, ended=True)  # type: ignore[misc]


def test_a_change_is_now_less_before_and_zero_at_the_first_level() -> None:
    now, before = {"entropy_mean": 0.5, "least_likely": -2.0}, {"entropy_mean": 0.75, "least_likely": -3.0}
    assert change_signals(now, before) == {"change_entropy_mean": -0.25, "change_least_likely": 1.0}
    assert change_signals(now, None) == {"change_entropy_mean": 0.0, "change_least_likely": 0.0}


def test_a_questions_numbers_sentences_and_symbols_are_counted() -> None:
    found = question_candidates("Ann has 1,200 apples and 3.5 pears. What is 2 + 2?")
    assert found == pytest.approx(
        {
            "question_numbers": math.log(5),  # 1,200 and 3.5 and 2 and 2
            "question_sentences": math.log(3),
            "question_symbols": math.log(2),
        }
    )
