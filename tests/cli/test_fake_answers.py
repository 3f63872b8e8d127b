"""The fake pair is right about as often as its levels say, and what it is told for that reaches no real model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import FAKES, Cli
from stub import Stub

from tandem import Tandem
from tandem.grading import grade
from tandem.models import fake_answers
from tandem.models.base import Cue, Request, cue
from tandem.models.fake import FakeModel
from tandem.models.recorded import digest
from tandem.spec import ModelSpec
from tandem.types import Message, Problem

LEVELS = {"none": (0, 0.45), "low": (100, 0.60), "medium": (500, 0.75), "high": (1000, 0.90)}


def right(question: str, tokens: int, role: str = "intern") -> bool:
    told = Cue(question, "12", role, tokens)  # type: ignore[arg-type]
    return fake_answers.answer(told).endswith("\\boxed{12}")


@pytest.mark.parametrize("level", LEVELS)
def test_the_intern_is_right_by_level(level: str) -> None:
    tokens, share = LEVELS[level]
    found = [right(f"problem {k}", tokens) for k in range(2000)]
    assert sum(found) / 2000 == pytest.approx(share, abs=0.03)
    assert all(right(f"problem {k}", 1000) for k in range(2000) if found[k])  # more insight never hurts
    assert [right(f"problem {k}", 1000, "mentor") for k in range(50)] == [
        right(f"problem {k}", 1000) for k in range(50)
    ]


@pytest.mark.parametrize(
    ("task", "reference", "question", "grader"),
    [
        ("math", "48", "How many?", None),
        ("math", "\\frac{3}{4}", "What part?", None),
        ("math", "x+y", "Simplify.", None),
        ("math", "So it is 3.\n#### 1,200", "How much?", "gsm8k"),
        ("choice", "A", "Which one?\n(A) a cat\n(B) a dog", None),
        ("general", "(C)", "Options:\n(A) one\n(B) two\n(C) three", "exact"),
        ("general", "False", "not true is", "exact"),
        ("general", "yes", "Is it?", "exact"),
        ("general", "Paris", "The capital of France?", None),
    ],
)
async def test_what_it_calls_right_is_right_and_the_rest_is_wrong(
    task: str, reference: str, question: str, grader: str | None
) -> None:
    verdicts = {}
    for k in range(40):
        text = f"{k}. {question}"
        message = Message(role="user", content=text)
        problem = Problem(id=str(k), messages=(message,), task=task, reference=reference, grader=grader)  # type: ignore[arg-type]
        written = fake_answers.answer(Cue(text, reference, "intern"))
        verdicts[text] = (await grade(problem, written), fake_answers._margin(Cue(text, reference, "intern")) > 0)
    assert {found for found, _ in verdicts.values()} == {True, False}
    assert all(found is meant for found, meant in verdicts.values())


def test_the_starter_problems_show_it(cli: Cli) -> None:
    names = "intern-only,fixed:low,fixed:medium,fixed:high,mentor-only"
    done = cli("compare", *FAKES, "--dataset", "starter", "--strategies", names, "--out", "all", "--json")
    assert done.code == 0, done.err
    found = {row["name"]: row for row in json.loads(done.out)["strategies"]}
    shares = [found[name]["accuracy"] for name in names.split(",")]
    assert shares == pytest.approx([0.45, 0.60, 0.75, 0.90, 0.90], abs=0.04)
    run = json.loads(next(Path("all").glob("*/run.json")).read_text())
    assert run["run"]["mentor"]["synthetic"] is True


def test_code_is_right_too(cli: Cli) -> None:
    run = (
        "run",
        *FAKES,
        "--dataset",
        "starter",
        "--split",
        "code",
        "--strategy",
        "mentor-only",
        "--allow-code-execution",
    )
    done = cli(*run, "--sandbox", "process", "--out", "code", "--json")
    assert done.code == 0, done.err
    assert 0.6 < json.loads(done.out)["accuracy"] < 1


def test_only_a_synthetic_model_is_told() -> None:
    fake, question = FakeModel().spec, "What is 6*8?"
    assert cue(fake, question, "48", "intern", 7) == Cue(question, "48", "intern", 7)
    assert cue(ModelSpec(name="gpt-4o"), question, "48", "intern") is None
    assert cue(fake, question, None, "intern") is None


async def test_the_reference_does_not_reach_an_endpoint(serve: Callable[[Stub], Stub]) -> None:
    stub = serve(Stub())
    problem = Problem.from_text("Which word?", task="general", reference="xylophone")
    async with Tandem("fake", "stub", intern_endpoint=stub.url, strategy="intern-only") as engine:
        await engine.asolve(problem)
    assert stub.chats and "xylophone" not in json.dumps([seen.body for seen in stub.chats])


def test_a_cue_is_no_part_of_what_is_asked() -> None:
    asked = {"messages": (Message(role="user", content="Hi"),), "purpose": "answer", "max_tokens": 5}
    plain, told = Request(**asked), Request(**asked, cue=Cue("Hi", "48", "intern"))
    assert plain == told and hash(plain) == hash(told) and digest("m", plain) == digest("m", told)
    assert "48" not in repr(told)


async def test_without_a_reference_anything_will_do() -> None:
    async with Tandem("fake", "fake", strategy="intern-only") as engine:
        assert (await engine.asolve("What is 17*23?")).answer == "23"


def test_a_script_stands_as_it_is(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "script.json"
    path.write_text(json.dumps({"rules": [{"when": "no such words", "text": "x"}]}))
    run = ("run", "--mentor", "fake", "--intern", f"fake:{path}", "--dataset", "starter", "--limit", "1", "--no-grade")
    done = cli(*run, "--strategy", "intern-only", "--out", "one", "--json")
    assert done.code == 0, done.err
    assert "Taking the numbers in turn" in Path("one/records.jsonl").read_text()
