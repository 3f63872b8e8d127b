"""Pairs in the kinds of public bug reports on graders: reference, a whole answer in words of our own, the verdict.

Kinds: what graders that round to six decimals, take the last box, know no positive symbols, trust a reference's form or
read the last line only get wrong; and the plain ones that must stay right.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tandem.grading import close_graders, extract_answer, grade
from tandem.grading.programs import extract_program
from tandem.grading.sandbox import Sandbox, open_sandbox
from tandem.types import CodeTests, Problem

FOLDER = Path(__file__).parent
REPORTED: dict[str, list[dict[str, str | bool]]] = json.loads((FOLDER / "reported.json").read_text("utf-8"))
PLAIN = json.loads((FOLDER / "math_cases.json").read_text("utf-8"))


@pytest.fixture(scope="module", autouse=True)
def _no_workers_left() -> Iterator[None]:
    yield
    close_graders()


@pytest.mark.parametrize("kind", REPORTED)
async def test_every_pair_of_a_kind(kind: str) -> None:
    """False positives and false negatives apart: the first flatter a model, the second slander it."""
    accepted, refused = [], []
    for pair in REPORTED[kind]:
        problem = Problem.from_text("What is it?", task="math", reference=str(pair["reference"]))
        verdict = await grade(problem, str(pair["text"]))
        if verdict != pair["right"]:
            (accepted if verdict else refused).append((pair["reference"], pair["text"]))
    assert (accepted, refused) == ([], [])


def test_the_corpus_is_large_and_has_both_verdicts() -> None:
    pairs = [pair["right"] for pairs in REPORTED.values() for pair in pairs] + [case["equal"] for case in PLAIN]
    assert len(pairs) >= 600
    assert 0.2 < pairs.count(False) / len(pairs) < 0.8


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    return open_sandbox("bwrap")


G, F = "def g(x):\n    return x + 1", "def f(x):\n    return g(x)"
FENCES = [
    ("an example of use", ["g"], [G, "print(g(3))"], G),
    ("an assert", [], [G, "assert g(3) == 4"], G),
    ("a doctest session", ["g"], [G, ">>> g(3)\n4"], G),
    ("a test of its own", ["g"], [G, "def test_g():\n    assert g(1) == 2\ntest_g()"], G),
    ("a helper before, with its own example", ["f"], [f"{G}\nprint(g(2))", F], f"{G}\n{F}"),
    ("a helper behind", ["f"], [F, G], f"{G}\n{F}"),
    ("a corrected version", ["g"], ["def g(x):\n    return 1", G], G),
    ("imports apart", ["r"], ["import math", "def r(x):\n    return math.sqrt(x)", "print(r(4))"], None),
    ("a shell command", ["g"], [G, "pip install nothing"], G),
]


@pytest.mark.parametrize(("about", "wanted", "pieces", "program"), FENCES, ids=[row[0] for row in FENCES])
def test_a_program_in_several_fences(about: str, wanted: list[str], pieces: list[str], program: str | None) -> None:
    text = "\n\nThen:\n".join(f"```python\n{piece}\n```" for piece in pieces)
    if about == "a shell command":
        text = text.replace("```python\npip", "```bash\npip")
    expected = program or "\n".join(pieces[:2])
    assert extract_program(text, wanted) == expected


def test_one_fence_is_taken_as_it_stands() -> None:
    assert extract_answer("code", "```python\nprint(1)\n```") == "print(1)"


@pytest.mark.parametrize(
    "raised", ["StopIteration", "StopAsyncIteration", "GeneratorExit", "SystemExit", "KeyboardInterrupt"]
)
@pytest.mark.parametrize(
    "tests",
    [
        "assert list(map(f, [1, 2])) == []",
        "assert all(f(x) == x for x in [1, 2])",
        "assert not list(zip(map(f, [1, 2]), [1, 2]))",
        "for x in map(f, [1, 2]):\n    assert x == 1",
    ],
)
async def test_what_ends_an_iteration_is_no_pass(raised: str, tests: str, sandbox: Sandbox) -> None:
    problem = Problem.from_text("Write f.", task="code").model_copy(
        update={"tests": CodeTests(code=tests, entry_point="f")}
    )
    text = f"```python\ndef f(x):\n    raise {raised}\n```"
    assert await grade(problem, text, sandbox=sandbox) is False
