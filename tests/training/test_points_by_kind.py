"""Points by kind of task: a kind with enough problems has its own ladder, and what is shipped decides as promised."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scalar_replay import replay, walk
from synthetic import LADDER, manifest, rated_pair, table

from tandem.ladder import parse_ladder
from tandem.sufficiency.classifier import Classifier, load_classifier
from tandem.sufficiency.policy import Policy
from tandem.training.aims import Aim
from tandem.training.estimators import Recipe, told
from tandem.training.fit import (
    complete,
    fit,
    intern_rows,
    matrix,
    signals_by_problem,
    signals_of,
    task_of,
    with_question,
)
from tandem.training.replay import Pair, fixed
from tandem.training.train import train

pytestmark = pytest.mark.slow  # whole trainings

Rows = list[dict[str, Any]]
SPECS = rated_pair()


def two_kinds(math: int = 100, code: int = 100, *, seed: int = 0) -> Rows:
    """Return math on which insight pays, and code on which only the mentor's own answer does."""
    never = dict.fromkeys(("low", "medium", "high"), -1.0)
    rows = []
    for kind, count, ease in (("math", math, {"high": 3.0}), ("code", code, never)):
        for row in table(count, seed=seed + (kind == "code"), ease=ease):
            rows.append(row | {"problem": row["problem"].replace("made", kind), "task": kind})
    return rows


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    folder = tmp_path_factory.mktemp("points")
    about = manifest() | {"draft_lengths": [16]}
    how: dict[str, Any] = {"kinds": ("logistic",), "strengths": (0.1,), "outer": 2, "unit": "usd"}
    found = train(two_kinds(), about, SPECS, name="x", command="test", **how).classifier
    assert found is not None
    found.save(folder)
    return load_classifier(folder)


def test_a_card_has_points_by_unit_aim_and_kind(made: Classifier) -> None:
    points = made.card.points
    assert set(points) == {"usd", "seconds", "tflops"} and made.card.unit == "usd"
    for by_aim in points.values():
        assert set(by_aim) == {"accuracy", "cost:0.8", "cost:0.6", "cost:0.4", "gain"}
        assert all(set(by_kind) == {"all", "math", "code"} for by_kind in by_aim.values())
    assert set(made.card.figures["kinds"]) == {"math", "code"}
    gain = points["usd"]["gain"]
    assert "high" in gain["math"].ladder and "high" not in gain["code"].ladder
    assert len((made.card.model_dump_json()).encode()) < 250_000


def test_a_kind_with_few_problems_has_none_of_its_own() -> None:
    how: dict[str, Any] = {"kinds": ("logistic",), "strengths": (0.1,), "outer": 2}
    about = manifest() | {"draft_lengths": []}
    found = train(two_kinds(100, 40), about, SPECS, name="x", command="test", **how).classifier
    assert found is not None
    assert {kind for aims in found.card.points.values() for by in aims.values() for kind in by} == {"all", "math"}


@pytest.mark.parametrize("unit", ["usd", "seconds", "tflops"])
@pytest.mark.parametrize("kind", ["math", "code"])
def test_a_shipped_point_decides_as_the_policy_does(made: Classifier, unit: Any, kind: Any) -> None:
    """The figures of a point are those of `Policy.verdict`, problem by problem, where it was chosen."""
    full, pair = with_question(LADDER), Pair(*SPECS, unit=unit)
    problems = {i: own for i, own in complete(two_kinds(), full).items() if i.startswith(kind)}
    point = made.card.choose(unit, "cost:0.6").of(kind)
    ladder, column = parse_ladder(point.ladder), str(point.draft_tokens or "all")
    features = made.card.model(point.model).features
    signals = signals_by_problem(problems, list(problems), full, column, features)
    ends = []
    for i, levels in problems.items():
        p = {
            e.name: made.sufficiency(e, signals_of(row := levels[e.name], column), row["insight_tokens"], point.model)
            for e in ladder
            if not e.is_answer
        }
        policy = Policy(made, point.policy)
        ends.append(replay(walk(levels, ladder, pair, point.draft_tokens), policy, p, signals[i]))
    mentor = np.mean([fixed(levels, "answer", pair).cost for levels in problems.values()])
    ratio = float(np.mean([one.cost for one in ends]) / mentor)
    chosen = point.figures["chosen"]
    # In-sample sufficiencies are not those out of fold that chose the point, but near them.
    assert ratio == pytest.approx(chosen["cost"] / mentor, abs=0.15)
    assert np.mean([one.correct for one in ends]) == pytest.approx(chosen["accuracy"], abs=0.12)


def test_a_fit_that_is_told_the_kind_is_one_fit_for_each_kind() -> None:
    problems = complete(two_kinds(), with_question(LADDER))
    rows = intern_rows(problems, list(problems), with_question(LADDER))
    features = ("log_perplexity", "length", "task_code", "task_math")
    whole = fit(rows, "64", Recipe("logistic", 0.1, features))
    for kind in ("math", "code"):
        own = [row for row in rows if row["task"] == kind]
        alone = told(whole, features, f"task_{kind}").predict_proba(matrix(own, "64", features[:2]))
        assert alone == pytest.approx(whole.predict_proba(matrix(own, "64", features)))


def test_a_point_for_accuracy_keeps_it_out_of_fold(made: Classifier) -> None:
    for kind in ("math", "code"):
        held = made.card.points["usd"]["accuracy"][kind].figures["held_out"]
        assert held["accuracy_difference"]["value"] >= -0.08 and held["cost_ratio"]["value"] <= 1.05
    assert str(Aim("gain")) == "gain"


@pytest.mark.parametrize(
    ("problem", "kind"),
    [("gsm8k-train-7", "math"), ("HumanEval/3", "code"), ("mbpp/7", "code"), ("mine-7", "general")],
)
def test_rows_of_older_tables_have_the_kind_of_their_data_set(problem: str, kind: str) -> None:
    assert task_of(problem) == kind
