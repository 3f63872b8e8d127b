"""estimate, compare and tune from a program: typed results, the same figures as the commands', nothing called twice."""

from __future__ import annotations

import inspect
import json
import re
import sys
import types
from pathlib import Path
from typing import Any, get_args

import pytest
from commands import FAKES, Cli, dataset

import tandem as package
from tandem import Problem, Tandem, UsageError, acompare, compare, estimate, load_dataset, tune
from tandem.costs import UNITS
from tandem.errors import LimitReached, MissingPackageError
from tandem.models.base import Request
from tandem.models.fake import FakeModel
from tandem.runs.compare import USUAL

LADDER = "none,low=12,high=24,answer"
BOTH = ["mentor-only", "intern-only"]


@pytest.fixture(autouse=True)
def _apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TANDEM_HOME", str(tmp_path / "home"))


@pytest.fixture
def sums(tmp_path: Path) -> str:
    return dataset(tmp_path / "sums.jsonl", 5)


def fakes(**settings: Any) -> Tandem:
    return Tandem("fake", "fake", **settings)


def asked(tandem: Tandem) -> int:
    return sum(len(model.calls) for _, model in tandem.models() if isinstance(model, FakeModel))


def partly_right() -> Tandem:
    """Return a pair whose intern is right about odd numbers alone, or with the mentor's notes."""

    def number(request: Request) -> int:
        return int(re.findall(r"number (\d+)", request.messages[-1].content)[-1])

    def mentor(request: Request) -> str:
        if request.purpose == "insight":
            return "Goal: the number.\nPlanning: read it.\nRetrieval: it stands there.\nAction: write it down."
        return f"It is plainly the number that stands there, \\boxed{{{number(request)}}}"

    def intern(request: Request) -> str:
        known = "Goal:" in request.messages[-1].content or number(request) % 2
        return f"So it is \\boxed{{{number(request) if known else 0}}}"

    models = FakeModel(name="big", parameters=7e9), FakeModel(name="small")
    models[0].answer, models[1].answer = mentor, intern
    return Tandem(*models)


def numbers(count: int) -> list[Problem]:
    return [Problem.from_text(f"What is number {i}?", reference=str(i), task="math") for i in range(1, count + 1)]


# --- estimate


def test_an_estimate_is_the_command_s_and_calls_nothing(cli: Cli, sums: str) -> None:
    tandem = fakes()
    found = estimate(tandem, sums)
    command = json.loads(cli("run", *FAKES, "--dataset", sums, "--estimate", "--json").out)
    (only,) = found.strategies
    assert only.at_most == command["at_most"] == found.at_most and only.likely == command["likely"]
    several = estimate(tandem, load_dataset(sums), strategies=["random-mix:0.5"])
    command = json.loads(
        cli("compare", *FAKES, "--dataset", sums, "--strategies", "random-mix:0.5", "--estimate", "--json").out
    )
    assert several.model_dump() == type(several).model_validate(command).model_dump()
    assert [one.name for one in several.strategies] == [*BOTH, "random-mix:0.5"] and several.problems == 5
    assert {key for row in several.rows() for key in row} >= {f"at_most_{unit}" for unit in UNITS}
    assert asked(tandem) == 0 and "mentor-only" in str(several)


# --- compare


def test_a_comparison_is_typed_and_that_of_its_file(sums: str) -> None:
    tandem = fakes()
    found = compare(tandem, Path(sums), strategies="tandem,random-mix:0.5", out="out", unit="mentor-tokens")
    saved = json.loads((found.folder / "compare.json").read_text())
    assert found.page.is_file() and found.unit == saved["unit"] == "mentor_tokens" and found.problems == 5
    assert found.verdict is not None and found.verdict.sentence == saved["verdict"]["sentence"]
    for one, row in zip(found.strategies, saved["strategies"], strict=True):
        assert (one.name, one.status, one.n, one.accuracy) == (row["name"], row["status"], row["n"], row["accuracy"])
        assert one.cost == row["cost"] and found[one.name] is one
    assert [row["strategy"] for row in found.rows()] == [*BOTH, "tandem", "random-mix:0.5"]
    assert "random-mix:0.5" in str(found) and "tandem" in repr(found)
    assert "<script" not in found._repr_html_() and "random-mix:0.5" in found._repr_html_()
    with pytest.raises(KeyError, match="cascade was not compared; there are mentor-only"):
        found["cascade"]


def test_the_same_comparison_again_calls_nothing_and_another_adds_to_it(sums: str) -> None:
    first, again, more = fakes(), fakes(), fakes()
    before = compare(first, sums, strategies=["tandem"], out="out")
    assert asked(first) > 0
    assert compare(again, sums, strategies=["tandem"], out="out").rows() == before.rows() and asked(again) == 0
    after = compare(more, sums, strategies=["random-mix:0.5"], out="out")
    assert [one.name for one in after.strategies] == [*BOTH, "random-mix:0.5", "tandem"]
    with pytest.raises(UsageError, match="out holds a comparison of something else"):
        compare(fakes(), numbers(3), strategies=["tandem"], out="out")


async def test_a_strategy_that_cannot_run_is_left_out_with_its_reason(sums: str) -> None:
    mute = FakeModel()
    mute.spec = mute.spec.model_copy(update={"logprobs": False})
    found = await acompare(Tandem("fake", mute, strategy="intern-only"), sums, strategies="tandem", out="out")
    assert found["tandem"].status == "skipped" and "log-probabilities" in str(found["tandem"].reason)
    assert found["tandem"].reason in str(found)


def test_what_a_comparison_cannot_use_is_told(sums: str) -> None:
    tandem = fakes()
    cases: list[tuple[dict[str, Any], str]] = [
        ({"problems": "startr"}, "unknown data set 'startr'. Did you mean starter"),
        ({"problems": 3}, "a data set's name, a file's path, or a list of Problems"),
        ({"problems": ["What is 1+1?"]}, r"Problem.from_text\(text, reference=answer\)"),
        ({"problems": [Problem.from_text("What is 1+1?")]}, "have no references"),
        ({"strategies": "tandm"}, "unknown strategy 'tandm'"),
        ({"unit": "euro"}, "unknown unit 'euro'"),
        ({"ot": "x"}, "unknown argument of compare 'ot'. Did you mean out"),
        ({"tandem": "fake"}, "the first argument is a Tandem"),
    ]
    for given, said in cases:
        arguments = {"tandem": tandem, "problems": sums} | given
        with pytest.raises(UsageError, match=said):
            compare(**arguments)
    assert asked(tandem) == 0


def test_code_is_run_only_where_that_is_allowed() -> None:
    problem = {"id": "c", "problem": "Write f.", "task": "code", "tests": "assert f() == 1", "entry_point": "f"}
    Path("code.jsonl").write_text(json.dumps(problem) + "\n")
    for run in (compare, tune):
        with pytest.raises(UsageError, match="graded by running the models' code"):
            run(fakes(), "code.jsonl")


def test_the_command_compares_what_the_function_does() -> None:
    from tandem.cli.compare import compare as command

    (strategies,) = [param for param in command.params if param.name == "strategies"]
    assert strategies.default == USUAL


# --- tune


@pytest.mark.slow
def test_a_tuning_is_typed_and_that_of_its_file(tmp_path: Path) -> None:
    tandem = partly_right()
    found = tune(tandem, numbers(120), out="tuned", effort=LADDER, holdout=40, seed=3)
    saved = json.loads((tmp_path / "tuned" / "tune.json").read_text())["result"]
    assert (found.pays, found.serves, found.sentence) == (saved["pays"], saved["serves"], saved["sentence"])
    assert found.problems == {"collected": 80, "held_out": 40} and found.aim == "accuracy"
    assert found.strategies["mentor-only"].accuracy == 1.0 and found.strategies["fixed:low=12"].accuracy == 1.0
    assert 0.3 < found.strategies["intern-only"].accuracy < 0.7
    assert found.classifier is not None and found.files["page"] is not None and found.files["page"].is_file()
    with Tandem(tandem.mentor, tandem.intern, classifier=found.classifier) as served:
        assert served.solve(numbers(1)[0]).answer == "1"
    calls = asked(tandem)
    assert tune(tandem, numbers(120), out="tuned", effort=LADDER, holdout=40, seed=3) == found
    assert asked(tandem) == calls
    assert {row["strategy"] for row in found.rows()} >= {*BOTH, "fixed:low=12"} and found.sentence in str(found)


def test_a_tuning_that_cannot_be_is_refused_before_anything_is_sent() -> None:
    tandem = partly_right()
    with pytest.raises(UsageError, match="too few for the aim"):
        tune(tandem, numbers(20))
    with pytest.raises(UsageError, match="unknown aim 'best'"):
        tune(tandem, numbers(120), aim="best")
    with pytest.raises(UsageError, match="no references"):
        tune(tandem, [Problem.from_text("What is 1+1?")])
    assert asked(tandem) == 0


def test_a_tuning_that_a_limit_ends_says_so() -> None:
    with pytest.raises(LimitReached, match="are over"):
        tune(partly_right(), numbers(120), max_minutes=1e-9)


async def test_answers_that_were_cut_are_noted() -> None:
    pair = partly_right()
    tandem = Tandem(pair.mentor, pair.intern, mentor_max_tokens=3, intern_max_tokens=2)
    found = await acompare(tandem, numbers(6), strategies="intern-only", out="out")
    assert any("were cut" in line for line in found.notes), found.notes


# --- their results


def test_a_result_is_a_data_frame_where_pandas_is(sums: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = estimate(fakes(), sums)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'tandem-reasoning\[pandas\]'"):
        found.to_dataframe()
    pandas = types.ModuleType("pandas")
    pandas.DataFrame = list  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pandas", pandas)
    assert found.to_dataframe() == found.rows()  # type: ignore[comparison-overlap]


def test_every_verb_has_an_async_twin_with_the_same_arguments() -> None:
    for name in ("solve", "compare", "tune"):
        sync, twin = getattr(package, name), getattr(package, f"a{name}")
        assert inspect.iscoroutinefunction(twin) and not inspect.iscoroutinefunction(sync)
        assert list(inspect.signature(sync).parameters) == list(inspect.signature(twin).parameters)
    for name in ("solve", "stream", "solve_many"):
        sync = inspect.signature(getattr(Tandem, name)).parameters
        twin = inspect.signature(getattr(Tandem, f"a{name}")).parameters
        assert set(sync) - set(twin) <= {"progress"}  # an async loop shows its own
        assert set(twin) - set(sync) <= {"ledger", "recorder", "sandbox"}
    assert set(get_args(package.experiments.SandboxKind)) == {"bwrap", "process"}
