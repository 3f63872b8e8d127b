"""How far two drafts agree, and what the second costs."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic import INTERN

from tandem.collection.added_signals import AGREEMENT, agreement_signals, second_cost
from tandem.costs import Rates, rates
from tandem.models.logprobs import TokenStat

STATS = [TokenStat(-0.5, 0.4, 0.0, 1.0), TokenStat(-1.5, 0.9, 0.0, 0.2)]
text = st.text(alphabet="ab 1234.,\n", max_size=60)


def test_equal_drafts_agree_and_others_by_what_they_share() -> None:
    same = agreement_signals("6 x 7 = 42", "6 x 7 = 42", STATS, ended=True, same_answer=True)
    assert [same[f"agreement_{part}"] for part in ("prefix", "words", "numbers", "answer")] == [1.0] * 4
    found = agreement_signals("6 x 7 = 42", "6 x 8 = 48 .", STATS, ended=True, same_answer=False)
    assert found["agreement_prefix"] == pytest.approx(2 / 6)
    assert found["agreement_words"] == pytest.approx(2 * 3 / 11)
    assert found["agreement_numbers"] == pytest.approx(2 * 1 / 6)
    assert found["agreement_answer"] == 0.0
    assert found["second_log_perplexity"] == pytest.approx(1.0) and found["second_least_likely"] == -1.5
    assert agreement_signals("no", "numbers", STATS, ended=False)["agreement_numbers"] == 1.0


@given(text, text)
def test_agreement_is_mutual_and_between_none_and_all(one: str, other: str) -> None:
    there, back = agreement_signals(one, other, STATS, ended=True), agreement_signals(other, one, STATS, ended=True)
    assert there == back and set(there) == set(AGREEMENT)
    assert all(0.0 <= there[name] <= 1.0 for name in AGREEMENT if name.startswith("agreement_"))


def test_a_second_draft_costs_its_tokens_and_no_prompt() -> None:
    row = {"prompt_tokens": 200, "signals": {"agreement": {"32": {"second_length": math.log1p(30)}}}}
    both, one = rates(INTERN, "tflops", "intern").cost(200, 0, 30), rates(INTERN, "tflops", "intern").cost(200, 0, 0)
    assert both is not None and one is not None
    assert second_cost(rates(INTERN, "tflops", "intern"), row, "32") == pytest.approx(both - one)
    priced = Rates("usd", uncached=2.0, cached=0.2, written=10.0)
    assert second_cost(priced, row, "32") == pytest.approx(30 * 10.0)
