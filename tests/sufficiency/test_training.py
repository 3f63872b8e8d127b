"""Training on made-up tables whose truth is known: disjoint parts, honest figures, and an operating point that pays."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import INTERN, LADDER, MENTOR, manifest, table

from tandem.errors import TandemError, UsageError
from tandem.evaluation.collection import export
from tandem.evaluation.train import read_collection, train
from tandem.ladder import parse_ladder
from tandem.spec import ModelSpec
from tandem.sufficiency import training as fit
from tandem.sufficiency.classifier import Classifier, load_classifier
from tandem.sufficiency.policy import Policy
from tandem.sufficiency.replay import Pair, chord, fixed, mean_of, replay, walk
from tandem.sufficiency.signals import NAMES

Rows = list[dict[str, Any]]
INTERN_LEVELS = ("none", "low", "medium", "high")


def trained(rows: Rows, *, drafts: Sequence[int] = (), **changes: Any) -> Classifier:
    """Train on few draft lengths (`all` is always among them), which is what takes the time."""
    made = manifest() | {"draft_lengths": list(drafts)} | changes
    return train(rows, made, (MENTOR, INTERN), name="made-up", command="test")


@pytest.fixture(scope="module")
def informed() -> Classifier:
    return trained(table(150), drafts=(16, 32, 64, 128))


def column(classifier: Classifier) -> str:
    return str(classifier.card.draft_tokens or "all")


IDS = st.sets(st.integers(0, 10**6), min_size=10, max_size=120).map(lambda found: [f"set-{i}" for i in sorted(found)])


@settings(max_examples=30, deadline=None)
@given(IDS, st.integers(0, 5))
def test_parts_are_disjoint_whole_and_of_their_sizes(ids: list[str], seed: int) -> None:
    parts = fit.split(ids, seed)
    together = [*parts.fit, *parts.calibration, *parts.threshold]
    assert sorted(together) == sorted(ids)
    for part, share in zip((parts.fit, parts.calibration, parts.threshold), fit.SHARES, strict=True):
        assert len(part) == pytest.approx(share * len(ids), abs=1)
    assert fit.split(random.Random(seed).sample(ids, len(ids)), seed) == parts  # the table's order does not matter


@settings(max_examples=30, deadline=None)
@given(IDS)
def test_a_grown_table_keeps_its_problems_in_order(ids: list[str]) -> None:
    def order(found: fit.Split) -> list[str]:
        return [*found.fit, *found.calibration, *found.threshold]

    grown = order(fit.split([*ids, *(f"new-{i}" for i in range(20))], 0))
    assert [i for i in grown if i.startswith("set-")] == order(fit.split(ids, 0))


def test_the_cards_hashes_are_those_of_its_parts(informed: Classifier) -> None:
    parts = fit.split(sorted({row["problem"] for row in table(150)}), 0)
    data = informed.card.data
    assert data["id_sha256"] == parts.hashes() and len(set(parts.hashes().values())) == 3
    assert data["split"] == {"seed": 0, "fit": 75, "calibration": 30, "threshold": 45}
    assert data["problems"] == {"made": 150} and data["rows"] == 750


def test_out_of_fold_never_sees_the_problem_it_judges() -> None:
    """Problems that can be told apart by their signals, but whose labels follow nothing: only a leak could tell."""
    draw = random.Random(1)
    problems: fit.Problems = {}
    for number in range(14):
        code = {name: draw.gauss(0, 1) for name in NAMES}
        rows = {}
        for level in INTERN_LEVELS:
            row = {"problem": f"p-{number}", "level": level, "correct": number % 2 == 0, "signals": {"64": code}}
            rows[level] = row | {"insight_tokens": 0, "question_tokens": 40}
        problems[f"p-{number}"] = rows
    rows, p = fit.out_of_fold(problems, "64", 10.0)
    memorised = fit.predict(fit.fit_estimator(rows, "64", 10.0), rows, "64")
    assert fit.figures(rows, memorised)["pooled"]["auroc"] > 0.9
    assert fit.figures(rows, p)["pooled"]["auroc"] < 0.7


def test_signals_that_inform_are_found_and_longer_drafts_inform_more(informed: Classifier) -> None:
    by_draft = informed.card.figures["auroc_by_draft"]
    assert list(by_draft) == ["16", "32", "64", "128", "all"]
    assert min(by_draft.values()) > 0.7
    assert by_draft["all"] > by_draft["64"] > by_draft["16"]
    by_level = informed.card.figures["out_of_fold"]
    assert all(by_level[level]["auroc"] > 0.65 for level in INTERN_LEVELS)


def test_signals_that_say_nothing_are_worth_nothing() -> None:
    even = dict.fromkeys(INTERN_LEVELS, 0.0)  # or the level itself would tell
    problems = fit.by_problem(table(150, ease=even, informative=False), LADDER)
    rows, p = fit.out_of_fold(problems, "64", 0.1)
    assert fit.figures(rows, p)["pooled"]["auroc"] == pytest.approx(0.5, abs=0.1)


def test_probabilities_are_calibrated_out_of_fold_and_on_new_problems(informed: Classifier) -> None:
    pooled = informed.card.figures["out_of_fold"]["pooled"]
    assert pooled["calibration_error"] < 0.08
    problems = fit.by_problem(table(400, seed=7), LADDER)
    rows = fit.intern_rows(problems, list(problems))
    found = fit.figures(rows, fit.predict(informed.estimator, rows, column(informed)))["pooled"]
    assert found["n"] == 1600
    assert found["calibration_error"] < 0.08
    assert found["brier"] < found["right"] * (1 - found["right"]) - 0.03  # better than saying the base rate
    assert found["auroc"] == pytest.approx(pooled["auroc"], abs=0.06)


def test_figures_by_hand() -> None:
    rows = [{"level": level, "correct": c} for level, c in (("none", 1), ("none", 0), ("low", 1), ("low", 1))]
    found = fit.figures(rows, np.array([0.9, 0.2, 0.3, 1.0]))
    assert found["pooled"] == {
        "n": 4,
        "right": 0.75,
        "auroc": 1.0,
        "brier": round((0.1**2 + 0.2**2 + 0.7**2) / 4, 4),
        "calibration_error": round((2 * 0.05 + 0.2 + 0.7) / 4, 4),
    }
    assert found["low"]["auroc"] is None  # all right: nothing to rank


def test_the_chosen_point_is_as_accurate_as_the_mentor_and_cheaper(informed: Classifier) -> None:
    figures = informed.card.figures
    chosen, mentor = figures["chosen_on_threshold_part"], figures["anchors_on_threshold_part"]["mentor-only"]
    assert chosen["accuracy"] >= mentor["accuracy"] - 5e-5  # the card rounds to four places
    assert chosen["tflops"] < 0.6 * mentor["tflops"]
    assert chosen["gain_over_chord"] > 0
    assert max(chosen["level_shares"].values()) <= 0.9
    assert sum(chosen["level_shares"].values()) == pytest.approx(1, abs=1e-3)


def test_the_chosen_point_beats_a_random_mix_on_new_problems(informed: Classifier) -> None:
    """Its accuracy on the 45 problems that chose it is optimistic; what must hold on others is the gain."""
    card, pair = informed.card, Pair(MENTOR, INTERN)
    problems = fit.by_problem(table(400, seed=11), LADDER)
    p = fit.sufficiencies(informed.estimator, problems, list(problems), column(informed))
    policy, ladder = Policy(informed, card.policy), parse_ladder(card.ladder)
    ours = mean_of([replay(walk(problems[i], ladder, pair, card.draft_tokens), policy, p[i]) for i in problems])
    ends = [mean_of([fixed(levels, name, pair) for levels in problems.values()]) for name in ("none", "answer")]
    mix = chord(ours["tflops"], *((end["tflops"], end["accuracy"]) for end in ends))
    assert ours["accuracy"] > mix + 0.02
    assert ours["tflops"] < 0.6 * ends[1]["tflops"]


def test_stop_shares_are_of_the_problems_that_reach_a_level(informed: Classifier) -> None:
    shares, reach = informed.card.figures["chosen_on_threshold_part"]["level_shares"], 1.0
    for level, share in shares.items():
        assert informed.card.policy.stop_shares[level] == pytest.approx(min(share / reach, 1) if reach else 0, abs=2e-3)
        reach = max(reach - share, 0.0) if reach - share > 1e-3 else 0.0


def test_the_oracle_of_the_card_bounds_every_anchor(informed: Classifier) -> None:
    anchors = informed.card.figures["anchors_on_threshold_part"]
    assert set(anchors) == {"intern-only", "fixed:low", "fixed:medium", "fixed:high", "mentor-only", "oracle"}
    assert anchors["oracle"]["accuracy"] == max(found["accuracy"] for found in anchors.values())


@pytest.mark.parametrize("hand_over", [False, True])
def test_the_mentor_answers_only_where_that_was_allowed(hand_over: bool) -> None:
    weak = dict.fromkeys(INTERN_LEVELS, -0.5) | {"answer": 5.0}
    made = manifest() | {"draft_lengths": []}
    card = train(table(80, ease=weak), made, (MENTOR, INTERN), name="made-up", command="test", hand_over=hand_over).card
    assert card.ladder.endswith("answer") == hand_over
    assert ("answer" in card.figures["chosen_on_threshold_part"]["level_shares"]) == hand_over


@pytest.mark.parametrize("ease", [0.0, 5.0])
def test_where_one_level_is_always_best_the_card_says_so(ease: float) -> None:
    rows = table(80, ease=dict.fromkeys([*INTERN_LEVELS, "answer"], -2.0) | {"none": ease}, spread=1.0)
    card = trained(rows).card
    stuck = max(card.figures["chosen_on_threshold_part"]["level_shares"].values()) > 0.9
    assert any(note.startswith("FAILURE") for note in card.notes) == stuck
    assert any("was passed over" in note for note in card.notes) != stuck


def test_where_nothing_adapts_the_card_says_failure() -> None:
    rows = table(60)
    for row in rows:  # every problem looks the same, so every problem takes the same way
        if row["level"] != "answer":
            tokens = LADDER[[level.name for level in LADDER].index(row["level"])].tokens
            row |= {"signals": {"all": dict.fromkeys(NAMES, 1.0)}, "question_tokens": 40}
            row |= {"insight_tokens": tokens, "insight_finished": False}
    card = trained(rows).card
    assert max(card.figures["chosen_on_threshold_part"]["level_shares"].values()) == 1.0
    assert any(note.startswith("FAILURE: over 90% of the held-out problems end at one level") for note in card.notes)


def test_a_table_without_the_mentors_own_answers_aims_at_its_highest_level() -> None:
    rows = [row for row in table(80) if row["level"] != "answer"]
    card = trained(rows, ladder="none,low=100,medium=500,high=1000").card
    assert "fixed:high" in card.aim and "answer" not in card.ladder
    assert "mentor-only" not in card.figures["anchors_on_threshold_part"]


def test_going_on_costs_the_draft_that_is_thrown_away() -> None:
    problems = fit.by_problem(table(60), LADDER)
    p = {i: dict.fromkeys(INTERN_LEVELS, 0.5) for i in problems}
    pair = Pair(MENTOR, INTERN)
    short, whole = (fit.fit_gains(problems, p, LADDER, pair, draft) for draft in (16, None))
    alone = np.mean([pair.answer(levels["answer"]) for levels in problems.values()])
    for here in INTERN_LEVELS[:-1]:
        thrown = [pair.draft(levels[here], None) - pair.draft(levels[here], 16) for levels in problems.values()]
        for there in short[here]:
            assert whole[here][there].cost - short[here][there].cost == pytest.approx(np.mean(thrown) / alone)
    # With the whole answer as the draft, going on to the mentor's answer costs all of that answer.
    assert whole["none"]["answer"].cost == pytest.approx(1.0)


def test_training_twice_gives_the_same_card(tmp_path: Path) -> None:
    rows = table(60)
    export(random.Random(0).sample(rows, len(rows)), tmp_path / "table.jsonl.gz")
    (tmp_path / "collection.json").write_text(json.dumps(manifest() | {"draft_lengths": []}))
    read, made = read_collection(tmp_path)
    classifier = train(read, made, (MENTOR, INTERN), name="made-up", command="test")
    # In whatever order the rows come.
    assert classifier.card.model_dump(exclude={"created"}) == trained(rows).card.model_dump(exclude={"created"})
    classifier.save(tmp_path / "saved")
    again = load_classifier(str(tmp_path / "saved"))
    assert again.card == classifier.card


def test_too_few_problems_are_refused() -> None:
    with pytest.raises(UsageError, match=r"39 problems with all of the levels .* needs at least 40"):
        trained(table(39))
    half = [row for row in table(80) if row["level"] != "high" or int(row["problem"][5:]) % 2]
    assert len(fit.by_problem(half, LADDER)) == 40
    with pytest.raises(UsageError, match="39 problems"):
        trained([row for row in half if row["problem"] != "made-1"])


@pytest.mark.parametrize(("ease", "word"), [(90.0, "right"), (-90.0, "wrong")])
def test_answers_of_one_kind_are_refused(ease: float, word: str) -> None:
    rows = table(40, ease=dict.fromkeys(INTERN_LEVELS, ease))
    with pytest.raises(UsageError, match=f"every answer of the intern is {word}"):
        trained(rows)


@pytest.mark.parametrize("part", ["fit", "calibration", "threshold"])
def test_one_right_problem_is_not_enough_to_learn_from(part: str) -> None:
    rows = table(60, ease=dict.fromkeys(INTERN_LEVELS, -90.0))
    lucky = getattr(fit.split([f"made-{i}" for i in range(60)], 0), part)[0]
    for row in rows:
        row["correct"] |= row["problem"] == lucky
    with pytest.raises(UsageError, match="all wrong: too few of the other kind"):
        trained(rows)


def test_one_level_is_refused() -> None:
    with pytest.raises(UsageError, match="two levels or more"):
        trained(table(40), ladder="answer")


def test_a_ladder_that_can_only_hand_over_needs_to_be_allowed_to() -> None:
    rows = [row for row in table(120) if row["level"] in ("none", "answer")]
    with pytest.raises(UsageError, match="train with --hand-over"):
        trained(rows, ladder="none,answer")


def test_models_without_a_size_are_refused() -> None:
    with pytest.raises(UsageError, match="sizes and architectures"):
        train(table(40), manifest(), (ModelSpec(name="closed"), INTERN), name="x", command="test")


def test_a_folder_without_a_collection_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no collection"):
        read_collection(tmp_path)


@pytest.mark.parametrize("keep", [0.5, 0.99])
def test_a_table_cut_short_is_a_clear_error(tmp_path: Path, keep: float) -> None:
    file = tmp_path / "table.jsonl.gz"
    export(table(5), file)
    (tmp_path / "collection.json").write_text(json.dumps(manifest()))
    assert len(read_collection(tmp_path)[0]) == 25
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * keep)])
    with pytest.raises(TandemError, match="is damaged"):
        read_collection(tmp_path)
