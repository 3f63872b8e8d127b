"""Training on made-up tables whose truth is known: held-out folds, honest figures, and an operating point that pays."""

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
from scalar_replay import mean_of, replay, walk
from synthetic import INTERN, LADDER, MENTOR, manifest, table

from tandem.collection.rows import export
from tandem.errors import TandemError, UsageError
from tandem.ladder import parse_ladder
from tandem.spec import ModelSpec
from tandem.statistics.chord import chord
from tandem.statistics.reliability import aurocs, figures, reliability
from tandem.sufficiency.classifier import FEATURES, Classifier, load_classifier
from tandem.sufficiency.policy import Policy
from tandem.sufficiency.signals import NAMES, QUESTION_CANDIDATES, SIGNAL_VERSION, classifier_inputs
from tandem.training import fit
from tandem.training.aims import parse_aim
from tandem.training.data import check_same, only, read_collection
from tandem.training.estimators import Recipe
from tandem.training.folds import digest, folds, halves, ranked
from tandem.training.replay import LevelCosts, Pair, fixed
from tandem.training.train import Trained, train
from tandem.training.upgrades import extra_costs, fit_upgrades, with_costs

pytestmark = pytest.mark.slow  # whole trainings

Rows = list[dict[str, Any]]
INTERN_LEVELS = ("none", "low", "medium", "high")
QUICK: dict[str, Any] = {"kinds": ("logistic",), "strengths": (0.1,), "outer": 2}
LOGISTIC = Recipe("logistic", 0.1, FEATURES)


def train_on(rows: Rows, *, drafts: Sequence[int] = (), how: dict[str, Any] | None = None, **changes: Any) -> Trained:
    """Train on few draft lengths (`all` is always among them) and one kind of model, which is what takes the time."""
    made = manifest() | {"draft_lengths": list(drafts)} | changes
    how = QUICK | (how or {})
    return train(rows, made, (MENTOR, INTERN), name="made-up", command="test", **how)


def trained(rows: Rows, **changes: Any) -> Classifier:
    classifier = train_on(rows, **changes).classifier
    assert classifier is not None
    return classifier


@pytest.fixture(scope="module")
def informed() -> Classifier:
    return trained(table(150), drafts=(16, 64))


def column(classifier: Classifier) -> str:
    return str(classifier.card.draft_tokens or "all")


IDS = st.sets(st.integers(0, 10**6), min_size=10, max_size=120).map(lambda found: [f"set-{i}" for i in sorted(found)])


@settings(max_examples=30, deadline=None)
@given(IDS, st.integers(0, 5))
def test_folds_are_disjoint_whole_and_of_one_size(ids: list[str], seed: int) -> None:
    parts = list(folds(ids, seed))
    assert sorted(i for _, held in parts for i in held) == sorted(ids)
    for others, held in parts:
        assert sorted([*others, *held]) == sorted(ids)
        assert len(held) == pytest.approx(len(ids) / 5, abs=1)
    shuffled = random.Random(seed).sample(ids, len(ids))
    assert [held for _, held in folds(shuffled, seed)] == [held for _, held in parts]  # the order does not matter
    one, other = halves(ids, seed)
    assert not set(one) & set(other) and sorted([*one, *other]) == sorted(ids)


@settings(max_examples=30, deadline=None)
@given(IDS)
def test_a_grown_table_keeps_its_problems_in_order(ids: list[str]) -> None:
    grown = ranked([*ids, *(f"new-{i}" for i in range(20))], 0)
    assert [i for i in grown if i.startswith("set-")] == ranked(ids, 0)


def test_the_card_names_its_data(informed: Classifier) -> None:
    ids = sorted({row["problem"] for row in table(150)})
    data = informed.card.data
    assert data["id_sha256"]["fit"] == digest(ids)
    assert len(set(data["id_sha256"].values())) == 6  # all of them, and each fold
    assert data["split"] == {"seed": 0, "folds": 5, "fit": 150, "certify": 0}
    assert data["problems"] == {"made": 150} and data["rows"] == 750
    assert len(set(data["seen"])) == 150
    assert informed.card.features == FEATURES and informed.card.signal_version == SIGNAL_VERSION


def memorable(count: int) -> fit.Problems:
    """Problems that can be signals apart by their signals, but whose labels follow nothing: only a leak could tell."""
    draw = random.Random(1)
    problems: fit.Problems = {}
    for number in range(count):
        code = {name: draw.gauss(0, 1) for name in NAMES}
        rows = {}
        for level in INTERN_LEVELS:
            signals = {"64": code, "question": dict.fromkeys(QUESTION_CANDIDATES[1:], 0.0)}
            row = {"problem": f"p-{number}", "level": level, "correct": number % 2 == 0, "signals": signals}
            rows[level] = row | {"insight_tokens": 0, "question_tokens": 40}
        problems[f"p-{number}"] = rows
    return problems


@pytest.mark.parametrize("calibrated", [False, True])
def test_out_of_fold_never_sees_the_problem_it_judges(calibrated: bool) -> None:
    problems = memorable(16)
    recipe = Recipe("logistic", 1000.0, FEATURES)
    p = fit.cross_fitted(problems, list(problems), LADDER, "64", recipe, calibrated=calibrated)
    rows = fit.intern_rows(problems, list(problems), LADDER)
    memorised = fit.fit(rows, "64", recipe, calibrated=False)
    own = fit.sufficiencies(memorised, problems, list(problems), LADDER, "64", FEATURES)
    assert figures(problems, own)["pooled"]["auroc"] > 0.85
    assert figures(problems, p)["pooled"]["auroc"] < 0.7


def test_every_sample_counts_in_a_fit_and_none_of_them_leaks() -> None:
    """Labels that are drawn: more samples of a problem tell its chance, and they stay with their problem."""
    rows = table(60)
    asked = [row for row in rows if row["level"] != "answer"]
    again = [{**row, "sample": k, "correct": not row["correct"]} for row in asked for k in (1, 2)]
    one, many = fit.by_problem(rows, LADDER), fit.by_problem([*rows, *again], LADDER)
    assert [len(row["others"]) for row in fit.intern_rows(many, list(many), LADDER)] == [2] * 4 * 60
    ids, said = list(one), []
    for problems in (one, many):
        fitted = fit.fit(fit.intern_rows(problems, ids, LADDER), "64", LOGISTIC)
        said.append(fit.sufficiencies(fitted, one, ids, LADDER, "64", FEATURES))
    plain, turned = said
    assert figures(one, plain)["pooled"]["auroc"] > 0.7
    assert figures(one, turned)["pooled"]["auroc"] < 0.3  # two of three samples say the opposite
    alone = fit.by_problem([*rows, *again], fit.with_question(LADDER))["made-0"]["question"]
    assert {other["level"] for other in alone["others"]} == {"question"}


def test_signals_that_inform_are_found_and_longer_drafts_inform_more(informed: Classifier) -> None:
    by_draft = informed.card.figures["auroc_by_draft"]
    assert list(by_draft) == ["16", "64", "all"]
    assert min(by_draft.values()) > 0.7
    assert by_draft["all"] > by_draft["64"] > by_draft["16"]
    by_level = informed.card.figures["out_of_fold"]
    assert all(by_level[level]["auroc"] > 0.65 for level in INTERN_LEVELS)


def test_signals_that_say_nothing_are_worth_nothing() -> None:
    even = dict.fromkeys(INTERN_LEVELS, 0.0)  # or the level itself would tell
    problems = fit.by_problem(table(150, ease=even, informative=False), LADDER)
    p = fit.cross_fitted(problems, list(problems), LADDER, "64", LOGISTIC)
    assert figures(problems, p)["pooled"]["auroc"] == pytest.approx(0.5, abs=0.1)


def test_probabilities_are_calibrated_out_of_fold_and_on_new_problems(informed: Classifier) -> None:
    pooled = informed.card.figures["out_of_fold"]["pooled"]
    assert pooled["calibration_error"] < 0.08
    problems = fit.by_problem(table(400, seed=7), LADDER)
    p = fit.sufficiencies(informed.estimator, problems, list(problems), LADDER, column(informed), FEATURES)
    found = figures(problems, p)["pooled"]
    assert found["n"] == 1600
    assert found["calibration_error"] < 0.08
    assert found["brier"] < found["right"] * (1 - found["right"]) - 0.03  # better than saying the base rate
    assert found["auroc"] == pytest.approx(pooled["auroc"], abs=0.06)


def test_trees_are_taken_only_where_they_are_better_by_more_than_chance() -> None:
    """A right answer is one whose margin lies in the middle: no line tells that, a tree does."""
    draw = random.Random(0)
    rows = table(150)
    for row in rows:
        if row["level"] != "answer":
            middle = draw.gauss(0, 1)
            row["signals"]["64"] = row["signals"]["64"] | {"entropy_std": middle}
            row["correct"] = (abs(middle) < 0.6) != (draw.random() < 0.05)
    problems = fit.by_problem(rows, LADDER)
    recipe, p = fit.choose_recipe(problems, list(problems), LADDER, "64", kinds=("logistic", "boosted"))
    assert recipe.kind == "boosted" and figures(problems, p)["pooled"]["auroc"] > 0.85
    plain = fit.by_problem(table(100), LADDER)
    assert fit.choose_recipe(plain, list(plain), LADDER, "64", kinds=("logistic", "boosted"))[0].kind == "logistic"


def test_figures_by_hand() -> None:
    problems: fit.Problems = {
        "a-1": {"none": {"correct": True}, "low": {"correct": True}},
        "a-2": {"none": {"correct": False}, "low": {"correct": True}},
    }
    p = {"a-1": {"none": 0.9, "low": 0.3}, "a-2": {"none": 0.2, "low": 1.0}}
    found = figures(problems, p)
    assert found["pooled"] == {
        "n": 4,
        "right": 0.75,
        "auroc": 1.0,
        "brier": round((0.1**2 + 0.2**2 + 0.7**2) / 4, 4),
        "calibration_error": round((0.2 + 0.7 + 0.1) / 4, 4),
    }
    assert found["low"]["auroc"] is None  # all right: nothing to rank
    assert [row["n"] for row in reliability(problems, p)] == [1, 1, 2]
    assert reliability(problems, p)[-1] == {"from": 0.9, "n": 2, "said": 0.95, "right": 1.0}


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5), st.integers(0, 3)), min_size=2, max_size=30))
def test_the_weighted_auroc_is_that_of_the_rows_repeated(rows: list[tuple[bool, int, int]]) -> None:
    from sklearn.metrics import roc_auc_score

    y, p, w = (np.asarray(values, dtype=float) for values in zip(*rows, strict=True))
    repeated = np.repeat(y, w.astype(int)), np.repeat(p, w.astype(int))
    expected = roc_auc_score(*repeated) if len(set(repeated[0])) == 2 else np.nan
    assert aurocs(y, p, w[None, :]) == pytest.approx([expected], nan_ok=True)


def test_the_chosen_point_is_as_accurate_as_the_mentor_and_cheaper(informed: Classifier) -> None:
    chosen, mentor = informed.card.figures["chosen"], informed.card.figures["anchors"]["mentor-only"]
    assert chosen["accuracy"] >= mentor["accuracy"] - 5e-5  # the card rounds to four places
    assert chosen["cost"] < 0.6 * mentor["cost"]
    assert chosen["gain_over_chord"] > 0
    assert max(chosen["level_shares"].values()) <= 0.9
    assert sum(chosen["level_shares"].values()) == pytest.approx(1, abs=1e-3)


def on_new_problems(classifier: Classifier, seed: int) -> tuple[dict[str, float], float]:
    """Return what a classifier does on 600 others, and its gain over the chord."""
    card, pair, full = classifier.card, Pair(MENTOR, INTERN), fit.with_question(LADDER)
    problems, draft = fit.by_problem(table(600, seed=seed), full), column(classifier)
    p = fit.sufficiencies(classifier.estimator, problems, list(problems), full, draft, card.features)
    signals = fit.signals_by_problem(problems, list(problems), full, draft, card.features)
    policy, ladder = Policy(classifier, card.policy), parse_ladder(card.ladder)
    walks = {i: walk(problems[i], ladder, pair, card.draft_tokens) for i in problems}
    ours = mean_of([replay(walks[i], policy, p[i], signals[i]) for i in problems])
    ends = [mean_of([fixed(levels, name, pair) for levels in problems.values()]) for name in ("none", "answer")]
    mix = chord(ours["cost"], *((end["cost"], end["accuracy"]) for end in ends))
    return ours, ours["accuracy"] - mix


def test_a_card_says_how_long_the_answers_usually_are(informed: Classifier) -> None:
    usual, anchors = informed.card.figures["usual_tokens"], informed.card.figures["anchors"]
    assert usual["all"]["mentor"] == anchors["mentor-only"]["mentor_tokens"] and usual["all"]["intern"] > 0
    assert usual.keys() > {"all"} and all(usual[kind].keys() == {"mentor", "intern"} for kind in usual)


def test_held_out_figures_are_those_of_new_problems(informed: Classifier) -> None:
    """The nested folds tell what 600 problems never seen will show; the chosen point's own figures tell more."""
    held = informed.card.figures["held_out"]
    ours, gain = on_new_problems(informed, 11)
    assert held["problems"] == 150
    assert held["gain_over_chord"]["low"] - 0.02 <= gain <= held["gain_over_chord"]["high"] + 0.02
    assert held["accuracy"] == pytest.approx(ours["accuracy"], abs=0.1)
    assert gain > 0.02 and held["gain_over_chord"]["value"] > 0


def test_nothing_is_gained_where_there_is_nothing_to_see() -> None:
    """The best of thousands of points looks better than the chord on its own problems; the nested figure does not."""
    even = dict.fromkeys([*INTERN_LEVELS, "answer"], 0.0)
    rows = table(100, ease=even, informative=False)
    for row in rows:
        row["correct"] = random.Random(row["problem"] + row["level"]).random() < 0.5
    card = trained(rows, how={}).card
    assert card.figures["chosen"]["gain_over_chord"] > 0.03
    held = card.figures["held_out"]["gain_over_chord"]
    assert held["low"] <= 0 <= held["high"] and held["value"] < card.figures["chosen"]["gain_over_chord"]


def test_a_budget_is_kept() -> None:
    card = trained(table(120), how={"aim": parse_aim("cost:0.2"), "hand_over": True}).card
    figures_ = card.figures
    assert figures_["chosen"]["cost"] <= 0.2 * figures_["anchors"]["mentor-only"]["cost"]
    assert card.aim == "cost:0.2"


def test_a_regret_is_certified_on_problems_that_fitted_nothing() -> None:
    aim = parse_aim("regret:0.1")
    found = train_on(table(300), how={"aim": aim})
    certificate = found.report["certificate"]
    assert found.classifier is not None and certificate["passed"] > 0
    card = found.classifier.card
    assert card.data["split"] == {"seed": 0, "folds": 5, "fit": 150, "certify": 150}
    one, other = halves(sorted({row["problem"] for row in table(300)}), 0)
    assert card.data["id_sha256"]["fit"] == digest(one) and card.data["id_sha256"]["certify"] == digest(other)
    assert card.ladder.endswith("answer") and card.figures["held_out"]["problems"] == 150
    assert card.figures["held_out"]["cost"] < card.figures["anchors"]["mentor-only"]["cost"]
    ours, _ = on_new_problems(found.classifier, 5)
    mentor = mean_of(
        [fixed(p, "answer", Pair(MENTOR, INTERN)) for p in fit.complete(table(600, seed=5), LADDER).values()]
    )
    assert mentor["accuracy"] - ours["accuracy"] <= 0.1


def test_where_nothing_is_certified_it_says_how_many_problems_would_do() -> None:
    hard = dict.fromkeys(INTERN_LEVELS, -2.0) | {"answer": 4.0}
    found = train_on(table(220, ease=hard, informative=False, seed=3), how={"aim": parse_aim("regret:0.045")})
    assert found.classifier is None and found.report["certificate"]["passed"] == 0
    (line,) = found.report["alternatives"]
    needed = found.report["certificate"]["needed"]
    assert "--strategy mentor-only" in line
    assert (f"about {needed} problems" in line and needed > 220) if needed else "no number of problems" in line


def test_too_few_problems_for_a_bound_are_refused_with_the_number_it_takes() -> None:
    with pytest.raises(
        UsageError, match=r"40 problems are left to certify regret:0.01 .* it takes \d+, .* at least \d+"
    ):
        train_on(table(80), how={"aim": parse_aim("regret:0.01")})
    without = [row for row in table(80) if row["level"] != "answer"]
    with pytest.raises(UsageError, match="collect the level 'answer'"):
        train_on(without, ladder="none,low=100,medium=500,high=1000", how={"aim": parse_aim("regret:0.1")})


def test_stop_shares_are_of_the_problems_that_reach_a_level(informed: Classifier) -> None:
    shares, reach = informed.card.figures["chosen"]["level_shares"], 1.0
    for level, share in shares.items():
        assert informed.card.policy.stop_shares[level] == pytest.approx(min(share / reach, 1) if reach else 0, abs=2e-3)
        reach = max(reach - share, 0.0) if reach - share > 1e-3 else 0.0


def test_the_oracle_of_the_card_bounds_every_anchor(informed: Classifier) -> None:
    anchors = informed.card.figures["anchors"]
    levels = {"intern-only", "fixed:low", "fixed:medium", "fixed:high", "mentor-only"}
    assert set(anchors) == levels | {"oracle", "cascade"}
    assert anchors["oracle"]["accuracy"] == max(found["accuracy"] for found in anchors.values())


@pytest.mark.parametrize("hand_over", [False, True])
def test_the_mentor_answers_only_where_that_was_allowed(hand_over: bool) -> None:
    weak = dict.fromkeys(INTERN_LEVELS, -0.5) | {"answer": 5.0}
    card = trained(table(80, ease=weak), how={"hand_over": hand_over}).card
    assert card.ladder.endswith("answer") == hand_over
    assert (card.figures["held_out"]["level_shares"]["answer"] > 0) == hand_over


def test_where_another_strategy_serves_better_it_says_so() -> None:
    strong = dict.fromkeys(INTERN_LEVELS, -2.0) | {"answer": 4.0}
    rows = table(80, ease=strong)
    for row in rows:
        if row["level"] == "answer":
            row["completion_tokens"] = 100  # and the mentor is brief
    found = train_on(rows)
    assert any(
        "mentor-only serves better" in line and "--strategy mentor-only" in line
        for line in found.report["alternatives"]
    )
    assert found.classifier is not None and set(found.report["alternatives"]) <= set(found.classifier.card.notes)


@pytest.mark.parametrize("ease", [0.0, 5.0])
def test_where_one_level_is_always_best_the_card_says_so(ease: float) -> None:
    rows = table(80, ease=dict.fromkeys([*INTERN_LEVELS, "answer"], -2.0) | {"none": ease}, spread=1.0)
    card = trained(rows).card
    stuck = max(card.figures["chosen"]["level_shares"].values()) > 0.9
    assert any(note.startswith("FAILURE") for note in card.notes) == stuck
    assert any("was passed over" in note for note in card.notes) != stuck


def test_where_nothing_adapts_the_card_says_failure() -> None:
    rows = table(60)
    for row in rows:  # every problem looks the same, so every problem takes the same way
        if row["level"] != "answer":
            tokens = LADDER[[level.name for level in LADDER].index(row["level"])].tokens
            row |= {"signals": {"all": dict.fromkeys(NAMES, 1.0)}, "question_tokens": 40}
            row |= {"insight_tokens": tokens, "insight_finished": False}
    classifier = trained(rows)
    shares = classifier.card.figures["chosen"]["level_shares"]
    # Out of fold the five fits differ a little, so that problems may part by fold; never by what is seen in them.
    p = [
        classifier.sufficiency(LADDER[0], classifier_inputs(row["signals"]["all"], {"log_question_tokens": 3.7}), 0)
        for row in rows
        if row["level"] == "none"
    ]
    assert len(set(p)) == 1
    failed = any(n.startswith("FAILURE: over 90% of the problems end at one level") for n in classifier.card.notes)
    assert failed == (max(shares.values()) > 0.9)


def test_a_table_without_the_mentors_own_answers_aims_at_its_highest_level() -> None:
    rows = [row for row in table(80) if row["level"] != "answer"]
    card = trained(rows, ladder="none,low=100,medium=500,high=1000").card
    assert "answer" not in card.ladder
    assert not {"mentor-only", "cascade"} & card.figures["anchors"].keys()


def test_going_on_costs_the_draft_that_is_thrown_away() -> None:
    problems = fit.by_problem(table(60), LADDER)
    p = {i: dict.fromkeys(INTERN_LEVELS, 0.5) for i in problems}
    pair = Pair(MENTOR, INTERN)
    fitted, costs = fit_upgrades(problems, p, LADDER)[0], LevelCosts(problems, list(problems), pair)
    short, whole = (with_costs(fitted, extra_costs(costs, LADDER, draft)) for draft in (16, None))
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
    classifier = train(read, made, (MENTOR, INTERN), name="made-up", command="test", **QUICK).classifier
    assert classifier is not None
    # In whatever order the rows come.
    assert classifier.card.model_dump(exclude={"created"}) == trained(rows).card.model_dump(exclude={"created"})
    classifier.save(tmp_path / "saved")
    again = load_classifier(str(tmp_path / "saved"))
    assert again.card == classifier.card


def test_later_samples_and_levels_outside_the_ladder_do_not_disturb() -> None:
    rows = table(50)
    extra = [row | {"sample": 1, "correct": not row["correct"]} for row in rows if row["level"] == "low"]
    extra += [row | {"level": "hint-20"} for row in rows if row["level"] == "low"]
    problems = fit.by_problem([*rows, *extra], LADDER)
    plain = fit.by_problem(rows, LADDER)
    rows = [
        {k: v for k, v in row.items() if k != "others"} for row in fit.intern_rows(problems, list(problems), LADDER)
    ]
    assert rows == fit.intern_rows(plain, list(plain), LADDER)


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


def test_one_right_problem_is_not_enough_to_learn_from() -> None:
    rows = table(60, ease=dict.fromkeys(INTERN_LEVELS, -90.0))
    for row in rows:
        row["correct"] |= row["problem"] == "made-7"
    with pytest.raises(UsageError, match="all wrong: too few of the other kind"):
        trained(rows)


def test_one_level_is_refused() -> None:
    with pytest.raises(UsageError, match="two levels or more"):
        trained(table(40), ladder="answer")


def test_a_ladder_that_can_only_hand_over_needs_to_be_allowed_to() -> None:
    rows = [row for row in table(120) if row["level"] in ("none", "answer")]
    with pytest.raises(UsageError, match="train without --no-hand-over"):
        trained(rows, ladder="none,answer", how={"hand_over": False})


def test_a_size_that_is_not_known_hinders_only_what_needs_it() -> None:
    closed = ModelSpec(name="closed", local=False)
    with pytest.raises(UsageError, match="the cost of closed in TFLOPs is not known; it needs its size"):
        train(table(40), manifest(), (closed, INTERN), name="x", command="test", unit="tflops", **QUICK)


def test_a_folder_without_a_collection_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no collection"):
        read_collection(tmp_path)


def collection(folder: Path, rows: Rows, **changes: Any) -> Path:
    export(rows, folder / "table.jsonl.gz")
    (folder / "collection.json").write_text(json.dumps(manifest() | changes))
    return folder


def test_a_table_of_another_version_or_estimator_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"signal version '0', this version of Tandem has '{SIGNAL_VERSION}'"):
        read_collection(collection(tmp_path, table(2), signal_version="0"))
    with pytest.raises(UsageError, match="entropy estimator 'exact'"):
        read_collection(collection(tmp_path, table(2), estimator="exact"))
    # The first version's signals mean what they meant: later versions only added to them.
    assert len(read_collection(collection(tmp_path, table(2), signal_version="1"))[0]) == 10


def test_signals_are_made_anew_where_the_statistics_of_each_token_are_left(tmp_path: Path) -> None:
    rows = [row for row in table(1) if row["level"] != "answer"]
    for row in rows:
        row |= {"stats": [[-0.5, 0.25, 0.0, 1.5], [-1.5, 0.75, 0.0, 0.5]], "text": "", "insight": ""}
    (tmp_path / "collection.json").write_text(json.dumps(manifest() | {"signal_version": "0"}))
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    read, made = read_collection(tmp_path)
    assert made["signal_version"] == SIGNAL_VERSION and len(read) == 4
    assert read[0]["signals"]["all"]["log_perplexity"] == pytest.approx(1.0)
    assert read[0]["signals"]["16"]["least_likely"] == pytest.approx(-1.5)


def test_tables_of_other_pairs_are_named() -> None:
    check_same(manifest(), manifest(), "the test table")
    with pytest.raises(UsageError, match=r"the test table is of another set-up: intern 'other' \(not 'small'\)"):
        check_same(manifest(), manifest() | {"intern": "other"}, "the test table")
    with pytest.raises(UsageError, match=r"insight mode 'prefix' \(not 'gpra'\)"):
        check_same(manifest(), manifest() | {"insight_mode": "prefix"}, "the test table")


def test_data_sets_are_picked_by_name() -> None:
    rows = [{"problem": i} for i in ("gsm8k-train-1", "mbpp-2")]
    assert only(rows, []) == rows and only(rows, ["mbpp"]) == rows[1:]
    with pytest.raises(UsageError, match="no problems of math; it has gsm8k-train, mbpp"):
        only(rows, ["math"])


@pytest.mark.parametrize("keep", [0.5, 0.99])
def test_a_table_cut_short_is_a_clear_error(tmp_path: Path, keep: float) -> None:
    file = collection(tmp_path, table(5)) / "table.jsonl.gz"
    assert len(read_collection(tmp_path)[0]) == 25
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * keep)])
    with pytest.raises(TandemError, match="is damaged"):
        read_collection(tmp_path)


def two_kinds() -> Rows:
    """Problems of two sets: of one the intern's answers are always right, of the other never."""
    easy, hard = table(60), table(60, seed=1)
    for row in easy:
        row |= {"problem": f"easy-{row['problem'][5:]}", "correct": row["correct"] or row["level"] != "answer"}
    for row in hard:
        row |= {"problem": f"hard-{row['problem'][5:]}", "correct": row["level"] == "answer"}
    return easy + hard


def test_a_point_is_chosen_for_a_domain_and_judged_on_it() -> None:
    easy, hard = (trained(two_kinds(), how={"domain": (name,)}).card for name in ("easy", "hard"))
    assert easy.data["problems"] == hard.data["problems"] == {"easy": 60, "hard": 60}  # fitted on both
    assert easy.figures["held_out"]["problems"] == hard.figures["held_out"]["problems"] == 60
    assert easy.figures["anchors"]["intern-only"]["accuracy"] == 1.0
    assert hard.figures["anchors"]["intern-only"]["accuracy"] == 0.0
    assert easy.figures["held_out"]["cost"] < 0.5 * hard.figures["held_out"]["cost"]


def test_a_domain_that_the_table_has_not_is_refused() -> None:
    with pytest.raises(UsageError, match="no problems of other; it has easy, hard"):
        trained(two_kinds(), how={"domain": ("other",)})
