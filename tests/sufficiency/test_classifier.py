"""A classifier in its folder: saved and loaded alike, refused when damaged or foreign, matched to a pair."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic import INTERN, LADDER, MENTOR, manifest, table

from tandem.errors import ClassifierMismatchError, TandemError, UsageError
from tandem.ladder import Effort, format_ladder, parse_ladder
from tandem.models.logprobs import ESTIMATOR
from tandem.storage.formats import stamped
from tandem.sufficiency.classifier import (
    FEATURES,
    FORMAT,
    Classifier,
    ClassifierCard,
    available,
    feature_matrix,
    find_classifier,
    load_classifier,
    nearest_classifier,
    read_card,
)
from tandem.sufficiency.policy import PolicyCard, Upgrade
from tandem.sufficiency.signals import NAMES, SIGNAL_VERSION, classifier_inputs, question_candidates, question_signals
from tandem.training import fit
from tandem.training.estimators import Recipe
from tandem.types import Sampling

ROWS = table(60)


def card(**fields: Any) -> ClassifierCard:
    made = manifest()
    values = {
        "id": "made-up",
        "created": "2026-01-01",
        "command": "tandem train",
        "ladder": format_ladder(LADDER),
        "collected_ladder": format_ladder(LADDER),
        "draft_tokens": 64,
        "features": FEATURES,
        "temperature": 0.0,
        "aim": "none",
        "policy": PolicyCard(
            thresholds={"none": 0.5}, upgrades={"none": {"low": Upgrade(offset=0.1, slope=1 / 3, cost=0.2)}}
        ),
        "data": {},
        "figures": {"größe": 1},
    }
    kept = ("mentor", "intern", "signal_version", "estimator", "logprobs_mode", "top_logprobs", "insight_mode")
    return ClassifierCard.model_validate(values | {key: made[key] for key in kept} | fields)


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    problems = fit.by_problem(ROWS, LADDER)
    rows = fit.intern_rows(problems, list(problems), LADDER)
    return Classifier(fit.fit(rows, "64", Recipe("logistic", 0.1, FEATURES)), card())


@pytest.fixture
def folder(classifier: Classifier, tmp_path: Path) -> Path:
    classifier.save(tmp_path / "saved")
    return tmp_path / "saved"


@pytest.fixture
def shelf(classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation that ships three classifiers."""
    for name, mentor, intern in (("a", "other", "other"), ("b", "big", "other"), ("c", "other", "small")):
        Classifier(classifier.estimator, card(id=name, mentor=mentor, intern=intern)).save(
            tmp_path / "classifiers" / name
        )
    monkeypatch.setattr("tandem.paths._PACKAGE", tmp_path / "tandem")
    return tmp_path / "classifiers"


def inputs(tokens: int) -> dict[str, float]:
    question = question_signals(tokens) | question_candidates("What is 3 + 4?")
    return classifier_inputs(dict.fromkeys(NAMES, 0.5), question)


def probabilities(classifier: Classifier) -> list[float]:
    level = Effort(name="low", tokens=100)
    rows = [row for row in ROWS if row["level"] != "answer"][:40]
    drafts = [fit.signals_of(row, "64") for row in rows]
    return [classifier.sufficiency(level, s, row["insight_tokens"]) for s, row in zip(drafts, rows, strict=True)]


@pytest.mark.slow
def test_save_and_load_give_identical_probabilities(classifier: Classifier, folder: Path) -> None:
    again = load_classifier(str(folder))
    assert again.card == classifier.card and again.id == "made-up"
    found = probabilities(again)
    assert found == pytest.approx(probabilities(classifier), rel=1e-12)
    assert probabilities(load_classifier(str(folder), plain=False)) == probabilities(classifier)
    assert all(0 < p < 1 for p in found) and np.ptp(found) > 0.3
    assert "größe" in (folder / "card.json").read_text(encoding="utf-8")  # a card is for people to read


def test_features_are_the_signals_and_two_lengths() -> None:
    signals = inputs(7) | {"margin_low": 3.0}
    matrix = feature_matrix([(signals, 0), (dict(reversed(signals.items())), 99)])
    assert matrix.shape == (2, len(FEATURES))
    assert matrix[:, FEATURES.index("margin_low")].tolist() == [3.0, 3.0]  # by name, not by order
    assert matrix[:, FEATURES.index("log_question_tokens")] == pytest.approx(np.log(8))
    assert matrix[:, FEATURES.index("log_insight_tokens")] == pytest.approx([0.0, np.log(100)])


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.95])
def test_a_model_cut_short_is_a_clear_error(folder: Path, keep: float) -> None:
    file = folder / "classifier.skops"
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * keep)])
    with pytest.raises(TandemError, match=r"classifier\.skops is missing or corrupt"):
        load_classifier(str(folder))


def test_a_model_with_flipped_bytes_is_a_clear_error(folder: Path) -> None:
    file = folder / "classifier.skops"
    damaged = bytearray(file.read_bytes())
    damaged[60:400] = bytes(b ^ 0x5A for b in damaged[60:400])
    file.write_bytes(damaged)
    with pytest.raises(TandemError, match="missing or corrupt"):
        load_classifier(str(folder))


def test_a_missing_model_is_a_clear_error(folder: Path) -> None:
    (folder / "classifier.skops").unlink()
    with pytest.raises(TandemError, match="missing or corrupt"):
        load_classifier(str(folder))


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
def test_a_card_cut_short_is_a_clear_error(folder: Path, keep: float) -> None:
    file = folder / "card.json"
    text = file.read_text(encoding="utf-8").strip()
    file.write_text(text[: int(len(text) * keep)], encoding="utf-8")
    with pytest.raises(TandemError, match=r"card\.json is damaged: it is not JSON; .* train it again \(tandem train\)"):
        load_classifier(str(folder))


def test_a_card_with_a_field_missing_or_unknown_is_refused(folder: Path) -> None:
    file = folder / "card.json"
    whole = file.read_text(encoding="utf-8")
    for damaged in (whole.replace('"estimator"', '"estimater"'), "[]", "null"):
        file.write_text(damaged, encoding="utf-8")
        with pytest.raises(TandemError, match=r"(cannot be read: estimator: Field|damaged: it is not a JSON object)"):
            read_card(folder)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (
            lambda card: card.replace('"größe": 1', '"size": ' + "[" * 300 + "]" * 300),
            "it is nested more than 100 deep",
        ),
        (lambda card: card.replace('"größe": 1', '"size": ' + "[" * 10**5 + "]" * 10**5), "it is not JSON"),
        (lambda card: card + " " * 65 * 2**20, "it has more than 64 MiB"),
    ],
    ids=["nested", "deeply nested", "huge"],
)
def test_a_card_that_would_exhaust_its_reader_is_refused_in_a_line(
    folder: Path, content: Callable[[str], str], fault: str
) -> None:
    file = folder / "card.json"
    file.write_text(content(file.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(TandemError, match=f"is damaged: {fault}") as refused:
        read_card(folder)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 400


@pytest.mark.parametrize("model", ["", "of-math"])
def test_a_small_file_that_unpacks_to_gigabytes_is_refused_before_it_is_unpacked(
    classifier: Classifier, tmp_path: Path, model: str
) -> None:
    features = {"features": FEATURES, "draft_tokens": 64}
    made = card(models={"of-math": features})
    Classifier(classifier.estimator, made, {"of-math": classifier.estimator}).save(tmp_path)
    file = tmp_path / (f"models/{model}.skops" if model else "classifier.skops")
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as archive, archive.open("bomb.npy", "w") as bomb:
        for _ in range(200):
            bomb.write(bytes(2**20))
    assert file.stat().st_size < 2**20
    with pytest.raises(TandemError, match=r"is refused: it unpacks to 200 MiB in \d+ parts"):
        load_classifier(tmp_path)


def test_a_classifier_of_several_models_saves_and_loads_each_with_its_own_features(
    classifier: Classifier, tmp_path: Path
) -> None:
    problems = fit.by_problem(ROWS, LADDER)
    rows = fit.intern_rows(problems, list(problems), LADDER)
    few = ("entropy_mean", "log_question_tokens", "log_insight_tokens")
    other = fit.fit(rows, "64", Recipe("logistic", 0.1, few))
    made = card(models={"of-math": {"features": few, "draft_tokens": 64, "kinds": ["math"]}})
    whole = Classifier(classifier.estimator, made, {"of-math": other})
    whole.save(tmp_path)
    level, signals = LADDER[1], inputs(40)
    p = [whole.sufficiency(level, signals, 100, model) for model in ("", "of-math")]
    assert p[0] != p[1]
    for plain in (True, False):
        again = load_classifier(tmp_path, plain=plain)
        found = [again.sufficiency(level, signals, 100, model) for model in ("", "of-math")]
        assert found == pytest.approx(p, rel=1e-12)
    assert again.sufficiency(level, {name: signals[name] for name in few[:2]}, 100, "of-math") == p[1]
    with pytest.raises(ValueError, match="models that are not given: of-math"):
        Classifier(classifier.estimator, made)
    Classifier(classifier.estimator, card()).save(tmp_path)
    assert not list((tmp_path / "models").iterdir())  # what the card no longer names is gone
    (tmp_path / "card.json").write_text(json.dumps(stamped(made.model_dump(mode="json"))))
    with pytest.raises(TandemError, match=r"models/of-math\.skops is missing or corrupt"):
        load_classifier(tmp_path)


class NotFromSklearn:
    """What an attacker's file may hold."""

    n_features_in_ = len(FEATURES)

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        raise AssertionError("a foreign class was run")


def test_a_class_from_elsewhere_is_not_loaded(folder: Path) -> None:
    import skops.io

    skops.io.dump(NotFromSklearn(), folder / "classifier.skops")
    with pytest.raises(TandemError, match=r"types that are not trusted: .*NotFromSklearn"):
        load_classifier(str(folder))


def test_sklearns_own_test_helpers_are_not_trusted_either(folder: Path) -> None:
    import skops.io
    from sklearn.preprocessing import FunctionTransformer
    from sklearn.utils._testing import assert_run_python_script_without_output  # runs the code it is given

    harmful = FunctionTransformer(assert_run_python_script_without_output, kw_args={"pattern": ""})
    skops.io.dump(harmful, folder / "classifier.skops")
    with pytest.raises(TandemError, match=r"not trusted: sklearn\.utils\._testing\.assert_run"):
        load_classifier(str(folder))


def test_a_pickle_is_not_loaded(folder: Path) -> None:
    import pickle

    (folder / "classifier.skops").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(TandemError, match="missing or corrupt"):
        load_classifier(str(folder))


def test_a_trusted_file_that_is_no_classifier_of_ours_is_refused(folder: Path) -> None:
    import skops.io
    from sklearn.linear_model import LinearRegression, LogisticRegression

    narrow = LogisticRegression().fit([[0.0, 1.0], [1.0, 0.0]], [0, 1])
    wide = LinearRegression().fit(np.eye(len(FEATURES)), np.arange(len(FEATURES)))
    for content in (narrow, wide, ["a", "list"]):
        skops.io.dump(content, folder / "classifier.skops")
        with pytest.raises(TandemError, match=f"holds no classifier over the {len(FEATURES)} signals"):
            load_classifier(str(folder))


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"signal_version": "0"}, f"signal version '0', this run has '{SIGNAL_VERSION}'"),
        ({"estimator": "topk-upper"}, f"entropy estimator 'topk-upper', this run has '{ESTIMATOR}'"),
        ({"logprobs_mode": "processed"}, "log-probability mode 'processed', this run has 'raw'"),
    ],
)
def test_what_makes_signals_incomparable_is_refused(classifier: Classifier, fields: dict[str, str], what: str) -> None:
    other = Classifier(classifier.estimator, card(**fields))
    with pytest.raises(ClassifierMismatchError) as refusal:
        other.card.check(INTERN, LADDER)
    assert what in str(refusal.value)
    assert "tandem train" in str(refusal.value) and "--classifier" in str(refusal.value)


def test_the_pair_it_was_fitted_on_has_no_differences(classifier: Classifier) -> None:
    assert classifier.card.differences(MENTOR, INTERN, Sampling(), LADDER) == []
    other_seed, shorter = Sampling(top_p=0.9, seed=3), LADDER[1:3]
    assert classifier.card.differences(MENTOR, INTERN, other_seed, shorter) == []


@pytest.mark.parametrize(
    ("mentor", "intern", "temperature", "ladder", "expected"),
    [
        ("other", "small", 0.0, "none,low", ["mentor"]),
        ("big", "other", 0.0, "none,low", ["intern"]),
        ("big", "small", 0.7, "none,low", ["temperature"]),
        ("big", "small", 0.0, "none,low=40", ["ladder"]),
        ("other", "other", 1.0, "none,low,high=2000", ["mentor", "intern", "temperature", "ladder"]),
    ],
)
def test_other_differences_are_listed(
    classifier: Classifier, mentor: str, intern: str, temperature: float, ladder: str, expected: list[str]
) -> None:
    found = classifier.card.differences(
        MENTOR.model_copy(update={"name": mentor}),
        INTERN.model_copy(update={"name": intern}),
        Sampling(temperature=temperature),
        parse_ladder(ladder),
    )
    assert found == expected


def test_another_insight_mode_or_number_of_log_probabilities_is_a_difference(classifier: Classifier) -> None:
    thinking = MENTOR.model_copy(update={"insight_mode": "prefix"})
    assert classifier.card.differences(thinking, INTERN, Sampling(), LADDER, 20) == ["insight mode"]
    assert classifier.card.differences(MENTOR, INTERN, Sampling(), LADDER, 5) == ["number of log-probabilities"]
    assert classifier.card.differences(MENTOR, INTERN, Sampling(), LADDER, 20) == []


def test_a_classifier_of_the_first_signal_version_still_serves(classifier: Classifier) -> None:
    old = Classifier(classifier.estimator, card(signal_version="1"))
    old.card.check(INTERN, LADDER)
    assert old.card.differences(MENTOR, INTERN, Sampling(), LADDER) == []


def test_signals_added_later_do_not_disturb_and_missing_ones_are_named(classifier: Classifier) -> None:
    signals = inputs(40)
    p = classifier.sufficiency(LADDER[1], signals, 100)
    assert classifier.sufficiency(LADDER[1], signals | {"invented_later": 9.0}, 100) == p
    del signals["margin_low"]
    with pytest.raises(ClassifierMismatchError, match="needs the signal 'margin_low'"):
        classifier.sufficiency(LADDER[1], signals, 100)


def test_a_classifier_that_never_judged_a_question_alone_is_not_asked_to(classifier: Classifier) -> None:
    ladder = parse_ladder("question,none,answer")
    classifier.card.check(INTERN, ladder)
    assert classifier.card.differences(MENTOR, INTERN, Sampling(), ladder) == ["ladder"]
    old = Classifier(classifier.estimator, card(features=tuple(f for f in FEATURES if not f.startswith("alone"))))
    with pytest.raises(ClassifierMismatchError, match="leave 'question' out of --effort"):
        old.card.check(INTERN, ladder)


def test_a_card_of_a_later_version_says_so(folder: Path) -> None:
    file = folder / "card.json"
    later = json.loads(file.read_text(encoding="utf-8")) | {"format": FORMAT + 1, "new_field": 1}
    file.write_text(json.dumps(later), encoding="utf-8")
    with pytest.raises(TandemError, match=rf"has format {FORMAT + 1} and .* to {FORMAT}; .* by Tandem \S+: upgrade"):
        load_classifier(str(folder))


def test_a_card_without_its_features_has_those_of_the_first_version(folder: Path) -> None:
    file = folder / "card.json"
    old = json.loads(file.read_text(encoding="utf-8"))
    del old["features"], old["format"]
    file.write_text(json.dumps(old), encoding="utf-8")
    assert read_card(folder).features[:2] == ("log_perplexity", "entropy_mean")
    assert read_card(folder).features[-1] == "log_insight_tokens"


def test_a_card_of_format_3_reads_as_it_was_written() -> None:
    older = Path(__file__).parent.parent / "older" / "classifier-format-3"
    raw = json.loads((older / "card.json").read_text(encoding="utf-8"))
    then = read_card(older)
    assert then.format == 3 and then.policy.cost_weight == raw["policy"]["price"] > 0 and then.policy.upgrades
    assert then.figures == raw["figures"] and then.policy.thresholds == raw["policy"]["thresholds"]
    upgrades = {
        here: {there: one.model_dump() for there, one in later.items()} for here, later in then.policy.upgrades.items()
    }
    assert upgrades == raw["policy"]["gains"]


@pytest.fixture
def trees(tmp_path: Path) -> Path:
    problems = fit.by_problem(ROWS, LADDER)
    rows = fit.intern_rows(problems, list(problems), LADDER)
    made = Classifier(fit.fit(rows, "64", Recipe("boosted", 0.0, FEATURES)), card())
    made.save(tmp_path / "trees")
    return tmp_path / "trees"


@pytest.mark.slow
def test_trees_are_saved_and_loaded_alike(trees: Path) -> None:
    again = load_classifier(trees)
    problems = fit.by_problem(ROWS, LADDER)
    rows = fit.intern_rows(problems, list(problems), LADDER)
    own = fit.fit(rows, "64", Recipe("boosted", 0.0, FEATURES))
    assert not (trees / "linear.json").exists()
    assert probabilities(again) == probabilities(Classifier(own, card()))


@pytest.mark.parametrize(("field", "value"), [("left", 10**6), ("right", 0), ("feature_idx", 999)])
def test_trees_that_lead_out_of_their_arrays_are_refused(trees: Path, field: str, value: int) -> None:
    """Compiled code follows the nodes of a tree without looking."""
    import skops.io

    estimator = load_classifier(trees).estimator
    (calibrated,) = estimator.calibrated_classifiers_
    nodes = calibrated.estimator._predictors[3][0].nodes
    nodes[field][nodes["is_leaf"] == 0] = value
    skops.io.dump(estimator, trees / "classifier.skops")
    with pytest.raises(TandemError, match="its trees lead nowhere"):
        load_classifier(trees)


def test_shipped_classifiers_are_found_by_id(shelf: Path) -> None:
    assert list(available()) == ["a", "b", "c"]
    assert find_classifier("b") == shelf / "b"
    assert load_classifier("b").card.mentor == "big"


def test_an_unknown_id_names_the_nearest(shelf: Path) -> None:
    (shelf / "b").rename(shelf / "qwen-pair")
    with pytest.raises(UsageError, match=r"unknown classifier 'qwen-par'\. Did you mean qwen-pair\?"):
        load_classifier("qwen-par")
    with pytest.raises(UsageError, match=r"unknown classifier '/nowhere'\. Known: a, c, qwen-pair\."):
        load_classifier("/nowhere")


@pytest.mark.parametrize(
    ("pair", "expected"), [(("big", "small"), "c"), (("big", "new"), "b"), (("other", "other"), "a")]
)
def test_the_nearest_classifier_shares_the_intern_before_the_mentor(
    shelf: Path, pair: tuple[str, str], expected: str
) -> None:
    assert nearest_classifier(*pair) == shelf / expected


def test_an_installation_without_classifiers_has_no_nearest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tandem.paths._PACKAGE", tmp_path / "tandem")
    assert available() == {}
    assert nearest_classifier("big", "small") is None


def test_a_damaged_card_on_the_shelf_is_a_clear_error(shelf: Path) -> None:
    (shelf / "a" / "card.json").write_text("{")
    with pytest.raises(TandemError, match=r"card\.json is damaged: it is not JSON; .* train it again"):
        nearest_classifier("big", "small")


def test_plain_numbers_give_what_scikit_learn_gives_and_need_no_import(tmp_path: Path, classifier: Classifier) -> None:
    folder = tmp_path / "saved"
    classifier.save(folder)
    draw = np.random.default_rng(0)
    plain, full = load_classifier(folder), load_classifier(folder, plain=False)
    assert plain.estimator is None
    for _ in range(50):
        signals = {name: float(draw.normal(scale=4)) for name in FEATURES[:-1]}
        tokens = int(draw.integers(0, 1000))
        level = parse_ladder("none")[0]
        assert plain.sufficiency(level, signals, tokens) == pytest.approx(full.sufficiency(level, signals, tokens))
    check = "import sys; from tandem.sufficiency.classifier import load_classifier as load; load(sys.argv[1]); "
    code = check + "sys.exit('sklearn' in sys.modules or 'skops' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code, str(folder)], check=False).returncode == 0
    (folder / "linear.json").write_text((folder / "linear.json").read_text().replace('"sha256": "', '"sha256": "0'))
    assert load_classifier(folder).estimator is not None  # another model's numbers are not believed


def test_every_shipped_classifier_has_its_plain_numbers() -> None:
    assert all(load_classifier(folder).estimator is None for folder in available().values())
