"""Every reference answer of MATH-500 and GSM8K's test split, against itself and against its whole solution."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tandem.datasets import load_dataset
from tandem.datasets.cards import load_card
from tandem.datasets.loaders import locate
from tandem.grading import close_graders, grade
from tandem.types import Problem


@pytest.fixture(scope="module", autouse=True)
def _no_workers_left() -> Iterator[None]:
    yield
    close_graders()


def real(name: str, split: str, solution: str) -> list[tuple[Problem, str]]:
    """Return the problems of a data set, each with its reference solution; skips only where its file is not here."""
    path = locate(load_card(name), split, fetch=False)
    if path is None:
        pytest.skip(f"the real file of {name} is not here; `tandem datasets show {name}` says where to get it")
    return list(zip(load_dataset(name, split=split), (row[solution] for row in rows(path)), strict=True))


def rows(path: Path) -> list[dict[str, str]]:
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    return [json.loads(line) for line in text.splitlines() if line.strip()]


@pytest.mark.parametrize(
    ("name", "solution", "n"), [("math500", "solution", 500), ("gsm8k", "answer", 1319)], ids=["math500", "gsm8k"]
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
    """So that the tests above are not skipped unseen where they must run."""
    beside = Path(__file__).parents[3] / "shared" / "data"
    if not beside.is_dir():
        pytest.skip("no folder of real data beside this checkout")
    assert locate(load_card("math500"), "test", fetch=False) is not None
    assert locate(load_card("gsm8k"), "test", fetch=False) is not None
