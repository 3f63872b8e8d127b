"""The published method end to end on fake models: the rule, the passes that it pays, its answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tandem.costs import rates
from tandem.engine import Tandem
from tandem.errors import CapabilityError, UsageError
from tandem.models.fake import FakeModel, Script
from tandem.strategies import make_strategy
from tandem.sufficiency.classifier import short_hash
from tandem.sufficiency.published import FEATURES, PublishedClassifier, Tree

# Trees that see the level alone: log-odds -2, -1, 1, 0 at the levels none, low, medium, high.
LEVEL = FEATURES.index("level_index")
TREE = Tree(
    feature=(LEVEL, LEVEL, LEVEL, -2, -2, -2, -2),
    threshold=(1.5, 0.5, 2.5, 0.0, 0.0, 0.0, 0.0),
    left=(1, 3, 5, -1, -1, -1, -1),
    right=(2, 4, 6, -1, -1, -1, -1),
    value=(0.0, 0.0, 0.0, -2.0, -1.0, 1.0, 0.0),
)
LADDER = "none,low=5,medium=10,high=20"


def folder(path: Path, thresholds: tuple[float, ...]) -> Path:
    PublishedClassifier(
        id="made",
        mentor="fake",
        intern="fake",
        ladder=LADDER,
        thresholds=thresholds,
        mean=(0.0,) * len(FEATURES),
        scale=(1.0,) * len(FEATURES),
        offset=0.0,
        trees=(TREE,),
    ).save(path)
    return path


def solve(path: Path, thresholds: tuple[float, ...]):  # type: ignore[no-untyped-def]
    with Tandem("fake", "fake", strategy=f"published:{folder(path, thresholds)}") as tandem:
        return tandem.solve("What is 17*23?")


def test_without_a_folder_the_pair_s_own_classifier_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tandem.strategies.published.shipped", lambda name: tmp_path / name)
    with pytest.raises(UsageError, match=r"no classifier for this pair.* --strategy published"):
        Tandem("fake", "fake", strategy="published")
    made = folder(tmp_path / "classifiers" / "fake+fake", (0.5, 0.2, 0.5, 0.5))
    seen = PublishedClassifier.load(made).model_copy(update={"data": {"seen": [short_hash("p7")]}})
    seen.save(made)
    with Tandem("fake", "fake", strategy="published") as tandem:
        assert tandem.solve("What is 17*23?").level == "low"
        assert tandem.plan().describe()["predictor"] == "published@made"
        assert tandem.plan().saw("p7") and not tandem.plan().saw("p8")


def test_the_first_level_that_passes_answers(tmp_path: Path) -> None:
    solution = solve(tmp_path, (0.5, 0.2, 0.5, 0.5))
    assert (solution.level, solution.answered_by) == ("low", "intern")
    assert [(d.level, d.action) for d in solution.trace] == [("none", "go_on"), ("low", "stop")]
    assert solution.ledger.mentor_tokens == 5


def test_where_none_passes_the_likeliest_answers_and_the_mentor_is_paid_to_the_top(tmp_path: Path) -> None:
    solution = solve(tmp_path, (1.0, 1.0, 1.0, 1.0))
    assert solution.level == "medium"
    assert [d.level for d in solution.trace] == ["none", "low", "medium", "high"]
    assert solution.ledger.mentor_tokens == 20
    assert len(solution.insight.split()) <= 11  # ten tokens behind the opening word


def test_every_pass_is_charged_as_a_probe_without_a_cache(tmp_path: Path) -> None:
    solution = solve(tmp_path, (1.0, 1.0, 1.0, 0.5))
    probes = solution.ledger.select("intern", "probe")
    assert [(e.usage.completion, e.usage.cached) for e in probes] == [(1, 0)] * 4
    prompts = [e.usage.prompt for e in probes]
    assert prompts == sorted(prompts) and prompts[0] < prompts[-1]
    spec = FakeModel().spec
    assert probes[3].tflops == pytest.approx(rates(spec, "tflops", "intern").cost(prompts[3], 0, 1))
    assert len(solution.ledger.select("intern", "answer")) == 1


def test_it_plans_a_pass_at_each_level_and_one_answer(tmp_path: Path) -> None:
    strategy = make_strategy(f"published:{folder(tmp_path, (0.5,) * 4)}")
    with Tandem("fake", "fake", strategy=f"published:{tmp_path}") as tandem:
        planned = strategy.calls(tandem.plan().ladder, tandem.settings, None)
    assert [c.level for c in planned if c.purpose == "probe"] == ["none", "low", "medium", "high"]
    assert all(c.max_tokens == 1 for c in planned if c.purpose == "probe")
    assert [c.level for c in planned if c.purpose == "answer"] == ["high"]
    assert sum(c.max_tokens for c in planned if c.role == "mentor") == 20


def test_an_intern_that_cannot_read_is_refused(tmp_path: Path) -> None:
    silent = FakeModel(Script(logprobs=False))
    with (
        Tandem("fake", silent, strategy=f"published:{folder(tmp_path, (0.5,) * 4)}") as tandem,
        pytest.raises(CapabilityError, match="log-probabilities"),
    ):
        tandem.solve("What is 17*23?")


@pytest.mark.parametrize(("name", "said"), [("published:", "folder"), ("published:nowhere", "holds no published")])
def test_without_its_classifier_it_is_refused(name: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        make_strategy(name)
