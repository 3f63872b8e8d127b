"""The ablation table on made-up rows whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from synthetic import INTERN, LADDER, MENTOR, table

from tandem.collection.added_signals import AGREEMENT, second_cost
from tandem.costs import rates
from tandem.errors import UsageError
from tandem.models.logprobs import TokenStat
from tandem.statistics.reliability import aurocs, calibration_error
from tandem.sufficiency.prompt_pass import INSIGHT, PUBLISHED
from tandem.sufficiency.signals import CANDIDATES, draft_signals
from tandem.training.ablation import ablate, row_features
from tandem.training.replay import Pair
from tandem.training.variants import paid

pytestmark = pytest.mark.slow

PAIR = Pair(MENTOR, INTERN)


@pytest.fixture(scope="module")
def lines() -> list[dict]:  # type: ignore[type-arg]
    return ablate(table(90), LADDER, PAIR, ["64"], resamples=100)


def of(lines: list[dict], kind: str, signal: str) -> dict:  # type: ignore[type-arg]
    (line,) = [line for line in lines if line["kind"] == kind and line["signal"] == signal]
    return line


def test_weighted_areas_are_those_of_repeated_rows() -> None:
    rng = np.random.default_rng(1)
    y, p = rng.integers(0, 2, 80), rng.integers(0, 9, 80) / 9  # with ties
    weights = rng.integers(0, 4, (5, 80)).astype(float)
    for found, times in zip(aurocs(y, p, weights), weights.astype(int), strict=True):
        assert found == pytest.approx(roc_auc_score(np.repeat(y, times), np.repeat(p, times)))


def test_an_area_without_both_classes_is_unknown() -> None:
    assert np.isnan(aurocs(np.ones(3, dtype=int), np.arange(3.0), np.ones((1, 3)))).all()


def test_the_calibration_error_is_zero_where_shares_are_as_said() -> None:
    y, p = np.asarray([0, 0, 0, 1] * 5), np.full(20, 0.25)
    assert calibration_error(y, p) == 0.0
    assert calibration_error(1 - y, p) == pytest.approx(0.5)


def test_the_signals_that_tell_are_told_from_those_that_do_not(lines: list[dict]) -> None:  # type: ignore[type-arg]
    telling, noise = of(lines, "alone", "log_perplexity"), of(lines, "alone", "margin_mean")
    assert telling["auroc"]["pooled"]["value"] > 0.65
    assert noise["auroc"]["pooled"]["difference_ci95"][1] < 0  # surely worse than the standing set
    assert telling["curve"]["value"] > noise["curve"]["value"]


def test_the_standing_set_has_no_difference_to_itself_and_every_part_is_shown(lines: list[dict]) -> None:  # type: ignore[type-arg]
    line = lines[0]
    assert (line["kind"], line["problems"], line["rows"]) == ("standing", 90, 360)
    assert set(line["auroc"]) == {"pooled", "none", "low", "medium", "high", "made"}
    for figure in (*line["auroc"].values(), line["gain"], line["curve"]):
        assert figure["difference"] == 0.0 and figure["difference_ci95"] == [0.0, 0.0]
        assert figure["ci95"][0] <= figure["value"] <= figure["ci95"][1]


def test_the_same_table_gives_the_same_lines(lines: list[dict]) -> None:  # type: ignore[type-arg]
    rows = table(90)
    assert ablate(rows[::-1], LADDER, PAIR, ["64"], resamples=100) == lines


def test_raw_rows_show_every_candidate_and_a_table_only_its_own(lines: list[dict]) -> None:  # type: ignore[type-arg]
    row = next(row for row in table(1) if row["level"] == "low")
    stats = [TokenStat(-0.1 * k, 0.2 * k, 0.0, 1.0 + k) for k in range(70)]
    found = row_features(row | {"stats": [list(stat) for stat in stats]}, None, "64")
    assert {name: found[name] for name in CANDIDATES} == draft_signals(stats[:64], ended=False, names=CANDIDATES)
    assert "forks" not in row_features(row, None, "64")
    assert not [line for line in lines if line["signal"] == "forks"]


def test_a_prompt_pass_is_paid_at_every_level_of_the_intern_and_only_there() -> None:
    row = next(row for row in table(1) if row["level"] == "medium")
    expensive, plain = paid(PAIR, "pass", "64"), PAIR
    tokens = row["question_tokens"] + row["insight_tokens"] + 8
    one = rates(INTERN, "tflops", "intern").cost(min(tokens, 1024), 0, 1)
    assert expensive.answer(row) - plain.answer(row) == pytest.approx(one)
    assert expensive.draft(row, 64) - plain.draft(row, 64) == pytest.approx(one)
    answer = next(row for row in table(1) if row["level"] == "answer")
    assert expensive.answer(answer) == plain.answer(answer)


def test_prompt_signals_are_judged_on_the_problems_that_have_them_all() -> None:
    rows = table(40)
    for row in rows[:100]:  # of the first twenty problems
        if row["level"] != "answer":
            right = float(row["correct"])
            row["signals"]["published"] = dict.fromkeys(PUBLISHED, 0.0) | {"perplexity": right}
            row["signals"]["insight"] = dict.fromkeys(INSIGHT, 0.0) | {"question_surprise": right}
    said: list[str] = []
    without = ablate(rows, LADDER, PAIR, ["16"], resamples=50, say=said.append)
    assert not [line for line in without if line["buys"]]
    assert "20 of 40 problems have prompt signals" in said[0]
    lines = ablate(rows, LADDER, PAIR, ["16"], resamples=50, read=True)
    told = of(lines, "with", "question_surprise")
    assert told["problems"] == 20 and told["buys"] == "pass" and told["auroc"]["pooled"]["value"] > 0.97
    assert of(lines, "alone", "published")["auroc"]["pooled"]["value"] > 0.97


def test_a_second_draft_that_agrees_where_the_first_is_right_is_worth_its_tokens_and_they_are_paid() -> None:
    rows = table(40)
    for row in rows:
        if row["level"] != "answer":
            agree = dict.fromkeys(AGREEMENT, 0.5) | {"agreement_words": float(row["correct"])}
            row["signals"]["agreement"] = {"16": agree | {"second_length": math.log1p(16)}}
    lines = ablate(rows, LADDER, PAIR, ["16"], resamples=50)
    told = of(lines, "with", "agreement_words")
    assert told["buys"] == "draft" and told["auroc"]["pooled"]["value"] > 0.97 and told["curve"]["difference"] > 0
    assert of(lines, "with", f"agreement (all {len(AGREEMENT)})")["buys"] == "draft"
    silent = of(lines, "with", "agreement_answer")  # tells nothing, and costs
    assert silent["auroc"]["pooled"]["difference"] == pytest.approx(0.0, abs=0.01)
    assert silent["curve"]["difference"] < 0
    row, both = next(row for row in rows if row["level"] == "low"), paid(PAIR, "draft", "16")
    assert both.draft(row, 16) - PAIR.draft(row, 16) == pytest.approx(second_cost(PAIR.intern_rates, row, "16"))


def test_tables_that_cannot_be_judged_are_refused() -> None:
    with pytest.raises(UsageError, match="no level `answer`"):
        ablate(table(20), LADDER[:-1], PAIR, ["64"])
    with pytest.raises(UsageError, match="3 problems"):
        ablate(table(3), LADDER, PAIR, ["64"])
