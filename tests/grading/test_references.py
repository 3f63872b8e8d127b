"""Every reference answer of MATH-500 and GSM8K's test split, against itself and against its whole solution."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tandem.datasets import load_dataset
from tandem.datasets.cards import load_card
from tandem.datasets.locations import locate
from tandem.grading import close_graders, grade
from tandem.types import Problem


@pytest.fixture(scope="module", autouse=True)
def _no_workers_left() -> Iterator[None]:
    yield
    close_graders()


def real(name: str, split: str, solution: str) -> list[tuple[Problem, str]]:
    """Return the problems of a data set, each with its reference solution."""
    path = locate(load_card(name), split, fetch=False)
    assert path is not None
    return list(zip(load_dataset(name, split=split), (row[solution] for row in rows(path)), strict=True))


def rows(path: Path) -> list[dict[str, str]]:
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    return [json.loads(line) for line in text.splitlines() if line.strip()]


@pytest.mark.parametrize(
    ("name", "solution", "n"),
    [
        pytest.param(*row, id=row[0], marks=pytest.mark.public_data(f"{row[0]}/test"))
        for row in [("math500", "solution", 500), ("gsm8k", "answer", 1319)]
    ],
)
@pytest.mark.parametrize("grader", ["its own", "gsm8k", "math"])
async def test_every_reference_is_right(name: str, solution: str, n: int, grader: str) -> None:
    pairs = real(name, "test", solution)
    assert len(pairs) == n
    bad = []
    for loaded, whole in pairs:
        problem = loaded if grader == "its own" else loaded.model_copy(update={"grader": grader})
        reference = str(problem.reference)
        for text in (reference, f"So we get $\\boxed{{{reference}}}$.", f"The answer is ${reference}$.", whole):
            if await grade(problem, text) is not True:
                bad.append(f"{problem.id}: {reference}, from {text[-80:]!r}")
    assert bad == []


@pytest.mark.public_data("gsm8k/test")
async def test_a_neighbours_answer_is_wrong() -> None:
    """But for the few problems in a row whose answers are the same by chance."""
    problems = [problem for problem, _ in real("gsm8k", "test", "answer")]
    bad = [
        problem.id
        for problem, other in zip(problems, problems[1:] + problems[:1], strict=True)
        if await grade(problem, f"#### {other.reference}") is not (problem.reference == other.reference)
    ]
    assert bad == []


def test_the_real_files_lie_beside_a_checkout() -> None:
    """So that with the folder of real data no test is left out unseen."""
    beside = Path(__file__).parents[3] / "shared" / "data"
    for name in ("math500", "gsm8k", "mbpp", "bbh"):
        for split in load_card(name).splits if beside.is_dir() else ():
            assert locate(*load_card(name).split(split), fetch=False) is not None
