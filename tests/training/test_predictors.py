"""Training predictors on tables whose truth is known: what is learned, what is not claimed, and what is kept apart."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from synthetic import INTERN, MENTOR, manifest, table

from tandem.cli import cli
from tandem.collection.rows import export
from tandem.costs import rates
from tandem.errors import TandemError, UsageError
from tandem.strategies import make_strategy
from tandem.sufficiency.predictor import Predictor
from tandem.training.data import Table
from tandem.training.folds import folds
from tandem.training.heads import fit_probability
from tandem.training.predictors import TRAINERS, train_predictor
from tandem.training.predictors.choice import Choice, anchors_of, compared, cross_fitted
from tandem.training.predictors.outcomes import OutcomeTable, joined

pytestmark = pytest.mark.slow  # whole trainings

SPECS = (MENTOR, INTERN)
Rows = list[dict[str, Any]]


def rows_of(problems: int = 120, *, seed: int = 0, **how: Any) -> Rows:
    """Return rows of `none` and `answer` alone."""
    return [row for row in table(problems, seed=seed, **how) if row["level"] in ("none", "answer")]


def noise(problems: int = 120, seed: int = 0) -> Rows:
    """Return rows in which neither answer nor question tells anything: difficulty has no spread, signals none."""
    found = rows_of(problems, seed=seed, spread=0.0, informative=False)
    return asked(found, lambda right: random.Random(f"{seed}{right}").random())


def told(rows: Rows, feature: str = "log_perplexity") -> Rows:
    """Have one signal of the whole answer tell whether it is right."""
    for row in rows:
        if row["level"] == "none":
            row["signals"]["all"][feature] = float(not row["correct"])
    return rows


def asked(rows: Rows, value: Callable[[tuple[str, bool, bool]], float]) -> Rows:
    """Give every question a number of numbers, by its id and what intern and mentor make of it."""
    right = {(row["problem"], row["level"]): row["correct"] for row in rows}
    for row in rows:
        if row["level"] == "none":
            i = row["problem"]
            row["signals"]["question"] = {"question_numbers": value((i, right[i, "none"], right[i, "answer"]))}
    return rows


def trained(strategy: str, rows: Rows, **options: Any) -> Predictor:
    return train_predictor(strategy, (rows, manifest()), SPECS, **options)


def gain(predictor: Predictor) -> dict[str, float]:
    return predictor.figures["held_out"]["gain_over_chord"]  # type: ignore[no-any-return]


# ---- what is learned, and what is not claimed ----


def test_a_cascade_that_sees_what_is_right_gains() -> None:
    found = trained("cascade", told(rows_of()))
    held, anchors = found.figures["held_out"], found.figures["anchors"]
    assert gain(found)["low"] > 0.05
    assert held["accuracy"] >= anchors["mentor-only"]["accuracy"] and held["cost"] < anchors["mentor-only"]["cost"]
    assert held["accuracy"] == pytest.approx(anchors["oracle"]["accuracy"], abs=0.05)
    assert found.figures["out_of_fold"]["right"]["auroc"] == 1.0 and len(found.notes) == 2
    assert found.heads["right"].weights[found.heads["right"].features.index("log_perplexity")] < 0


def test_a_route_that_sees_whom_a_question_suits_gains() -> None:
    found = trained("route", asked(rows_of(), lambda who: float(who[2]) - float(who[1])))
    assert gain(found)["low"] > 0.05 and len(found.notes) == 2
    assert found.figures["held_out"]["accuracy"] >= found.figures["anchors"]["mentor-only"]["accuracy"]


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("strategy", ["cascade", "route"])
def test_from_noise_nothing_is_claimed(strategy: str, seed: int) -> None:
    found = trained(strategy, noise(seed=seed))
    low, high = gain(found)["low"], gain(found)["high"]
    assert low <= 0 and (strategy == "cascade" or high >= 0)  # a cascade pays for what it discards
    assert any("random mix of both models at the same cost" in note for note in found.notes)


def test_the_chosen_point_never_costs_more_than_the_mentor() -> None:
    expensive = rows_of(ease={"none": -3.0})
    for row in expensive:
        if row["level"] == "none":
            row["completion_tokens"] *= 12  # an intern that writes without end is no cheap one
    found = trained("cascade", expensive)
    assert found.figures["chosen"]["cost"] <= found.figures["anchors"]["mentor-only"]["cost"]
    assert any("serves better" in note for note in found.notes)


def test_where_one_model_would_serve_that_is_said() -> None:
    rows = rows_of()
    for row in rows:
        number = int(row["problem"][5:])
        row["correct"] = number % 10 == 0 if row["level"] == "none" else number % 7 != 0
    found = trained("route", rows)
    assert any(
        note.startswith("A point that takes 'answer' for 100% of the problems would serve") for note in found.notes
    )
    assert 0 < found.figures["chosen"]["mentor_share"] <= 0.9


def test_an_answer_that_cannot_be_read_is_taken_for_wrong() -> None:
    rows = rows_of()
    own = [row for row in rows if row["level"] == "none"]
    for row in own:
        row["signals"]["all"] = dict.fromkeys(row["signals"]["all"], 0.5)  # all look alike
        row["extracted"] = row["correct"]
    for row in own[::9]:
        row["extracted"] = True
    found = trained("cascade", rows)
    assert gain(found)["low"] > 0.05  # nothing else tells what is wrong


# ---- what is kept ----


@pytest.mark.parametrize("strategy", ["cascade", "route"])
def test_training_is_deterministic_whatever_the_order_of_the_rows(strategy: str) -> None:
    rows = asked(rows_of(60), lambda who: len(who[0]))
    mixed = random.Random(1).sample(rows, len(rows))
    first = trained(strategy, rows, seed=3, command="tandem train")
    assert first == trained(strategy, mixed, seed=3, command="tandem train")
    assert first.figures != trained(strategy, rows, seed=4, command="tandem train").figures


@pytest.mark.parametrize("strategy", ["cascade", "route"])
def test_a_predictor_is_found_bound_and_knows_what_it_saw(strategy: str, tmp_path: Path) -> None:
    found = trained(strategy, rows_of(60), command="tandem train x")
    assert Predictor.load(found.save(tmp_path)) == found
    own = make_strategy(f"{strategy}:{tmp_path}")
    assert own.bind("big", "small") == found.id  # type: ignore[attr-defined]
    assert own.saw("made-7") and not own.saw("made-60")  # type: ignore[attr-defined]
    assert own.threshold == found.settings["threshold"] == found.figures["chosen"]["threshold"]  # type: ignore[attr-defined]
    data = found.data
    assert data["problems"] == {"made": 60} and data["rows"] == 120 and len(data["seen"]) == 60
    assert data["max_tokens"] == 4096 and len(data["id_sha256"]) == 6 and found.command == "tandem train x"
    assert (found.signal_version is None) == (strategy == "route")


def test_a_table_that_cannot_teach_is_refused() -> None:
    for strategy in ("cascade", "route"):
        with pytest.raises(UsageError, match=r"has 39 problems with all of the levels none, answer; .* at least 40"):
            trained(strategy, rows_of(39))
        with pytest.raises(UsageError, match="has 0 problems"):
            trained(strategy, [row for row in rows_of() if row["level"] == "none"])
        alike = rows_of(60)
        for row in alike:
            row["correct"] = row["level"] == "answer"
        with pytest.raises(UsageError, match="same outcome"):
            trained(strategy, alike)
    unreadable = [row | {"extracted": False} for row in rows_of(60)]
    with pytest.raises(UsageError, match="nothing to learn from"):
        trained("cascade", unreadable)


def test_an_unknown_strategy_gets_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"unknown strategy to train 'cascades'. Did you mean cascade\?"):
        trained("cascades", [])
    assert set(TRAINERS) == {"route", "cascade", "shepherding", "best-route"}


# ---- rows by problem ----


def small() -> OutcomeTable:
    rows = asked(rows_of(40), lambda who: 2.0)
    first = {row["level"]: row for row in rows if row["problem"] == "made-0"}
    first["none"]["correct"], first["answer"]["correct"] = True, False
    rows.append(first["none"] | {"sample": 1, "correct": False, "completion_tokens": 10, "extracted": False})
    hints = [row | {"level": "hint-20", "hint_tokens": 0} for row in rows if row["level"] == "none"]
    for row in hints:
        if row["problem"] == "made-0":
            row |= {"hint_tokens": 30, "prompt_tokens": 150}
    return OutcomeTable.of((rows + [row for row in hints if not row.get("sample")], manifest()), SPECS)


def test_several_samples_make_a_share_and_a_mean() -> None:
    outcomes = small()
    (place,) = outcomes.places(["made-0"])
    samples = outcomes.rows("none")[place]
    assert [row.get("sample", 0) for row in samples] == [0, 1]
    assert outcomes.right("none")[place] == 0.5 and outcomes.right("answer")[place] == 0.0
    costs = [
        rates(INTERN, "tflops", "intern").cost(row["prompt_tokens"], 0, row["completion_tokens"]) for row in samples
    ]
    assert outcomes.costs("none")[place] == pytest.approx(np.mean(costs))  # type: ignore[arg-type]
    answers = outcomes.answers()
    assert len(answers.ids) == 41 and answers.ids.count("made-0") == 2
    assert answers.right[answers.place == place].tolist() == [1.0, 0.0]
    assert answers.readable[answers.place == place].tolist() == [True, False]
    assert answers.features[0]["question_numbers"] == 2.0 and "ended" not in answers.features[0]


def test_a_hint_costs_its_own_tokens_of_the_mentors_answer() -> None:
    outcomes = small()
    (place,) = outcomes.places(["made-0"])
    row, answer = outcomes.rows("hint-20")[place][0], outcomes.rows("answer")[place][0]
    hint, own = (
        rates(MENTOR, "tflops", "intern").cost(answer["prompt_tokens"], 0, 30),
        rates(INTERN, "tflops", "intern").cost(150, 0, row["completion_tokens"]),
    )
    assert hint is not None and own is not None
    assert outcomes.costs("hint-20")[place] == pytest.approx(hint + own)
    assert outcomes.mentor_tokens("hint-20")[place] == 30
    assert outcomes.costs("answer")[place] == rates(MENTOR, "tflops", "intern").cost(
        answer["prompt_tokens"], 0, answer["completion_tokens"]
    )


def test_only_what_every_question_has_is_a_feature() -> None:
    rows = asked(rows_of(50), lambda who: 1.0)
    both = OutcomeTable.of((rows, manifest()), SPECS).questions()
    assert set(both[0]) == {"log_question_tokens", "question_numbers"}
    (older,) = (row for row in rows if row["problem"] == "made-3" and row["level"] == "none")
    del older["signals"]["question"]
    few = OutcomeTable.of((rows, manifest()), SPECS).questions()
    assert {name for own in few for name in own} == {"log_question_tokens"}
    assert trained("route", rows).heads["mentor"].features == ("log_question_tokens",)


# ---- folds ----


def spied(problems: int = 50, samples: int = 3) -> tuple[Choice, list[tuple[set[str], set[str]]]]:
    """Return a choice of several samples for each problem, and the problems of each fit and of what it scores."""
    ids = tuple(f"made-{n}" for n in range(problems) for _ in range(samples))
    draw, calls = np.random.default_rng(0), list[tuple[set[str], set[str]]]()
    names = np.array(ids)

    def score(train: np.ndarray, test: np.ndarray) -> np.ndarray:
        calls.append((set(names[train]), set(names[test])))
        return draw.random((len(test), 1))

    right, cost = draw.integers(0, 2, (2, len(ids))).astype(float), np.repeat([[1.0], [3.0]], len(ids), axis=1)
    return Choice(ids, ("none", "answer"), right, cost, np.zeros_like(cost), score, below, (0.0, 1.01)), calls


def below(scores: np.ndarray, threshold: float) -> np.ndarray:
    taken: np.ndarray = (scores[:, 0] < threshold).astype(int)
    return taken


def test_no_problem_is_scored_by_a_fit_that_saw_it() -> None:
    choice, calls = spied()
    rows, scores = choice.out_of_fold(sorted(set(choice.ids)), 0)
    assert len(rows) == 150 and np.isfinite(scores).all() and len(calls) == 5
    assert all(not train & test for train, test in calls)
    assert set.union(*(test for _, test in calls)) == set(choice.ids)


def test_a_threshold_is_judged_on_problems_that_chose_nothing() -> None:
    outcomes = OutcomeTable.of((rows_of(50), manifest()), SPECS)
    choice, calls = spied()
    cross_fitted(choice, outcomes, 0)
    for k, (kept, held) in enumerate(folds(outcomes.ids, 0)):
        inner, (train, test) = calls[6 * k : 6 * k + 5], calls[6 * k + 5]
        assert test == set(held) and train == set(kept)
        assert all(not (fit | scored) & set(held) for fit, scored in inner)
    assert len(calls) == 30


# ---- figures ----


def test_how_problems_end_is_the_mean_of_their_samples() -> None:
    ids = ("a", "a", "b")
    right, cost = np.array([[1.0, 0.0, 0.0], [0.5, 0.5, 1.0]]), np.array([[1.0, 2.0, 3.0], [10.0, 11.0, 12.0]])
    tokens = np.array([[0.0, 0.0, 0.0], [7.0, 7.0, 9.0]])
    choice = Choice(ids, ("none", "answer"), right, cost, tokens, lambda a, b: np.zeros((len(b), 1)), below, (0, 1))
    found = choice.ended(np.arange(3), np.array([0, 1, 1]))
    assert found.correct.tolist() == [0.75, 1.0] and found.cost.tolist() == [6.0, 12.0]
    assert found.mentor_tokens.tolist() == [3.5, 9.0] and found.shares.tolist() == [[0.5, 0.0], [0.5, 1.0]]


def test_the_gain_of_both_anchors_is_nothing_and_of_the_oracle_much() -> None:
    anchors = anchors_of(OutcomeTable.of((rows_of(), manifest()), SPECS))
    for name in ("intern-only", "mentor-only"):
        assert compared(anchors[name], anchors)["gain_over_chord"]["value"] == 0
    assert compared(anchors["oracle"], anchors)["gain_over_chord"]["low"] > 0.05
    assert compared(anchors["mentor-only"], anchors)["loss_against_mentor"]["high"] == 0


# ---- the command ----

PAIR = {"mentor": "qwen2.5-coder-1.5b", "intern": "qwen2.5-coder-0.5b"}


def collection(folder: Path, rows: Rows, **changes: Any) -> Path:
    folder.mkdir()
    export(rows, folder / "table.jsonl.gz")
    (folder / "collection.json").write_text(json.dumps(manifest() | PAIR | {"draft_lengths": []} | changes))
    return folder


def call(*args: str | Path) -> Result:
    return CliRunner().invoke(cli, ["train", *map(str, args)])


def error(*args: str | Path) -> str:
    result = call(*args)
    assert isinstance(result.exception, TandemError) and result.exception.exit_code == 2, result.output
    return str(result.exception)


def test_the_command_writes_and_tells(tmp_path: Path) -> None:
    here = collection(tmp_path / "one", told(rows_of(60)))
    shown = call(here, "--strategy", "cascade", "--out", tmp_path / "mine")
    assert shown.exit_code == 0 and "mentor-only" in shown.output and "held out" in shown.output
    file = tmp_path / "mine" / "predictors" / "cascade.json"
    assert f"written to {file}" in shown.output
    printed = call(here, "--strategy", "cascade", "--out", tmp_path / "mine", "--json")
    assert json.loads(printed.stdout) == json.loads(file.read_text())


def test_several_collections_are_one_table(tmp_path: Path) -> None:
    rows = rows_of(80)
    first = collection(tmp_path / "one", [row for row in rows if int(row["problem"][5:]) < 50])
    second = collection(tmp_path / "two", [row for row in rows if int(row["problem"][5:]) >= 30])  # 20 are in both
    found = call(first, second, "--strategy", "route", "--out", tmp_path / "mine", "--json")
    assert json.loads(found.stdout)["data"]["problems"] == {"made": 80}
    assert json.loads(found.stdout)["data"]["rows"] == 160


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"intern": "qwen2.5-coder-1.5b"}, "intern 'qwen2.5-coder-1.5b' (not 'qwen2.5-coder-0.5b')"),
        ({"max_tokens": 640}, "cap of an answer 640 (not 4096)"),
        ({"sampling": {"temperature": 0.7}}, "temperature 0.7 (not 0.0)"),
    ],
)
def test_collections_of_another_set_up_are_refused(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    first, second = collection(tmp_path / "one", rows_of(50)), collection(tmp_path / "two", rows_of(50), **changes)
    assert error(first, second, "--strategy", "route") == f"table 2 is of another set-up: {reason}"


def test_options_of_a_classifier_are_refused(tmp_path: Path) -> None:
    here = collection(tmp_path / "one", rows_of(50))
    assert error(here, "--strategy", "route", "--no-hand-over", "--name", "x") == (
        "--strategy trains a predictor, not a classifier: leave out --name, --no-hand-over"
    )
    for extra in (["--prefix-cache"], ["--evaluate", str(here)], ["--test-sets", "x"], ["--report", "x.md"]):
        assert f"leave out {extra[0]}" in error(here, "--strategy", "route", *extra)
    assert "Did you mean route" in error(here, "--strategy", "routes")
    assert error(here, here) == "a classifier is trained from one collection; only --strategy takes several"
    assert error(here, "--strategy", "route", "--sets", "gsm8k") == "the table has no problems of gsm8k; it has made"


def test_joined_tables_keep_the_first_ones_rows() -> None:
    rows = rows_of(40)
    other: Table = ([row | {"correct": not row["correct"]} for row in rows], manifest())
    assert joined([(rows, manifest()), other])[0] == rows
    samples = [row | {"sample": 1} for row in rows]
    assert len(joined([(rows, manifest()), (samples, manifest())])[0]) == 2 * len(rows)


def test_a_feature_that_is_the_same_everywhere_changes_nothing() -> None:
    """The deviation of a constant is rounding, not 0: scaled up, it once drowned every other feature."""
    draw = np.random.default_rng(0)
    own = [{"x": float(x), "constant": 0.1 + 0.2} for x in draw.normal(size=200)]
    target = np.array([float(row["x"] > 0) for row in own])
    with_it, without = (fit_probability(own, target, names) for names in (("x", "constant"), ("x",)))
    for x in (-2.0, 0.0, 2.0):
        value = with_it.predict({"x": x, "constant": 0.3})
        assert value == pytest.approx(without.predict({"x": x}), abs=1e-6)


def test_the_shipped_predictors_are_what_the_committed_tables_give() -> None:
    from tandem.paths import shipped
    from tandem.training.data import pair_of, read_collection

    home = shipped("classifiers") / "qwen2.5-coder-1.5b+qwen2.5-coder-0.5b"
    whole = read_collection(home)
    with gzip.open(home / "table.jsonl.gz", "rt") as lines:
        assert sum(1 for _ in lines) == len(whole[0])
    for strategy in ("route", "cascade"):
        kept = Predictor.load(home / "predictors" / f"{strategy}.json")
        anew = train_predictor(strategy, whole, pair_of(whole[1]))
        assert anew.data == kept.data and anew.settings == kept.settings
        for name, head in kept.heads.items():
            assert anew.heads[name].weights == pytest.approx(head.weights, abs=1e-4)
