"""The registry of graders, and what each makes of its own forms."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tandem.errors import UsageError
from tandem.grading import GRADERS, answer_of, grade, grader_of
from tandem.types import CodeTests, Problem

BUILT_IN = {"choice", "code", "exact", "gsm8k", "math", "reasoning-gym", "words"}


def problem(reference: str | None, grader: str | None = None) -> Problem:
    return Problem.from_text("How many?", task="math", reference=reference).model_copy(update={"grader": grader})


def test_the_built_in_graders_can_be_had() -> None:
    assert set(GRADERS.names()) >= BUILT_IN
    for name in BUILT_IN:
        assert callable(GRADERS.get(name))


def test_the_kind_chooses_unless_the_problem_does() -> None:
    assert grader_of(problem("1")) == "math"
    assert grader_of(problem("1", "gsm8k")) == "gsm8k"
    assert grader_of(Problem.from_text("Hi", task="general")) == "words"


async def test_an_unknown_grader_is_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"unknown grader 'gsm9k'\. Did you mean gsm8k"):
        await grade(problem("1", "gsm9k"), "1")


@pytest.mark.parametrize("grader", sorted(BUILT_IN - {"code", "reasoning-gym"}))
async def test_no_reference_is_no_verdict_and_no_text_is_wrong(grader: str) -> None:
    assert await grade(problem(None, grader), "1") is None
    assert await grade(problem(None, grader), "") is None
    assert await grade(problem("1", grader), "") is False
    assert await grade(problem("1", grader), "<think>1") is False


async def test_code_is_not_run_without_a_sandbox() -> None:
    tests = CodeTests(code="raise SystemExit('ran')")
    code = Problem.from_text("def f", task="code", reference="x").model_copy(update={"tests": tests})
    assert await grade(code, "```python\ndef f(): pass\n```") is None
    assert await grade(code, "") is None


@pytest.mark.parametrize(
    ("reference", "text", "verdict"),
    [
        ("72", "48/2 = <<48/2=24>>24\n48+24 = <<48+24=72>>72\n#### 72", True),
        ("72", "#### 72 clips", True),
        ("72", "#### $72.00", True),
        ("72", "#### **72**", True),
        ("72", "####72", True),
        ("18", "She makes #### by selling.\n#### $18.00/day", True),
        ("18", "#### $18 per day\n\nI hope that this helps.\nAsk me more.\nAt any time.\nBye.", True),
        ("70000", "#### 70,000", True),
        ("70000", "So he made $70,000.", True),
        ("70000", "\\boxed{\\$70{,}000}", True),
        ("5", "The answer is about 5 hours.", True),
        ("-5", "#### -5", True),
        ("20", "#### 20%", True),
        ("1.5", "#### 1.50", True),
        ("2000000", "The answer is 2 million dollars.", True),
        ("16", "The answer is \\sqrt{256}.", True),
        ("72", "#### 73", False),
        ("72", "72 + 1\n#### 73", False),
        ("72", "#### 7,2", False),
        ("72", "#### 72.5", False),
        ("72", "#### 720", False),
        ("72", "#### 72 or 73", False),
        ("72", "#### 2 x 72", False),
        ("5", "#### -5", False),
        ("70000", "#### 70.000", False),
        ("2", "The answer is 2 million dollars.", False),
        ("16", "The answer is \\sqrt{16}.", False),
        ("3", "The answer is 10^3.", False),
        ("3", "The answer is 3/4.", False),
        ("3", "The answer is 3x.", False),
        ("72", "I cannot tell.", False),
    ],
)
async def test_gsm8k(reference: str, text: str, verdict: bool) -> None:
    assert await grade(problem(reference, "gsm8k"), text) is verdict


@pytest.mark.parametrize(
    ("grader", "text", "answer"),
    [
        ("math", "#### 7\nBye.\nBye.\nBye.", None),
        ("gsm8k", "#### 7\nBye.\nBye.\nBye.", "7"),
        ("exact", "It takes a while.\nSo the answer is yes.", "yes."),
        ("exact", "<think>yes", None),
        ("exact", "", None),
    ],
)
def test_the_answer_is_what_the_grader_reads(grader: str, text: str, answer: str | None) -> None:
    assert answer_of(problem("1", grader), text) == answer


HOSTILE = [
    "\\",
    "\\boxed{",
    "answer is ",
    "#### 1\n",
    "option A or ",
    "(A) ",
    "] ",
    "not valid ",
    "1. a\n",
    "** ",
    "x<",
    "=",
]


@pytest.mark.parametrize("piece", HOSTILE)
async def test_hostile_repetition_takes_no_quadratic_time(piece: str) -> None:
    started = time.process_time()
    for grader, reference in (
        *(("math", "x<1"), ("gsm8k", "5"), ("choice", "(B)")),
        *(("exact", "yes"), ("exact", "] )"), ("exact", "a b c"), ("exact", "Monsters, Inc"), ("words", "a")),
    ):
        assert await grade(problem(reference, grader), piece * (200_000 // len(piece)), deadline=1.0) is False
    assert time.process_time() - started < 20  # seconds; quadratic work on 200,000 characters takes minutes


PLUGIN = """
async def length(problem, text, grading):
    if problem.reference is None:
        return None
    return len(text) == int(problem.reference)
"""
USE = """
import asyncio
from tandem.errors import TandemError
from tandem.grading import GRADERS, grade
from tandem.types import Problem
problem = lambda reference: Problem.from_text("?", reference=reference).model_copy(update={"grader": "length"})
async def main():
    print("length" in GRADERS.names(), await grade(problem("3"), "abc"), await grade(problem("3"), "ab"))
    try:
        await grade(problem("three"), "abc")
    except TandemError as error:
        print(error)
asyncio.run(main())
"""


def test_a_package_adds_a_grader_and_its_fault_is_one_line_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "counting.py").write_text(PLUGIN)
    info = tmp_path / "counting-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: counting\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[tandem.graders]\nlength = counting:length\nmath = counting:length\n")
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\nsys.path.insert(0, {str(tmp_path)!r})\n{USE}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    first, second = done.stdout.splitlines()
    assert first == "True True False"
    assert second.startswith("the grader 'length' failed on ") and "ValueError: invalid literal" in second
    assert done.stderr == ""
