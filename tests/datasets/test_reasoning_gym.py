"""Problems made by reasoning-gym: the same everywhere, graded by the package's own scorers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tandem.datasets import load_dataset
from tandem.errors import MissingPackageError, UsageError
from tandem.grading import grade

pytestmark = pytest.mark.slow  # a library that takes seconds to import


def test_without_a_task_some_are_named() -> None:
    with pytest.raises(UsageError, match="reasoning-gym needs a task, as in reasoning-gym:gsm_symbolic"):
        load_dataset("reasoning-gym")


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)  # as where it is not installed
    with pytest.raises(MissingPackageError, match=r"pip install 'tandem-reasoning\[reasoning-gym\]'"):
        load_dataset("reasoning-gym:chain_sum")


def test_the_same_problems_in_every_process() -> None:
    """The task draws from a set of letters, so that a process's own hash seed would show."""
    script = "from tandem.datasets import load_dataset as l; print(l('reasoning-gym:isomorphic_strings', limit=4))"
    environments = [os.environ | {"PYTHONHASHSEED": seed} for seed in ("1", "2")]
    command = [sys.executable, "-c", script]
    seen = {subprocess.run(command, env=e, capture_output=True, timeout=120, check=True).stdout for e in environments}
    assert len(seen) == 1


def test_size_and_seed() -> None:
    four = load_dataset("reasoning-gym:chain_sum", limit=4)
    assert [p.id for p in four] == [f"chain_sum-0-{i:05d}" for i in range(4)]
    hundred = load_dataset("reasoning-gym:chain_sum")
    assert len(hundred) == 100 and hundred[:4] == four
    other = load_dataset("reasoning-gym:chain_sum", limit=4, seed=1)
    assert not {p.question for p in other} & {p.question for p in hundred}  # not the same ones moved by one
    assert not {p.id for p in other} & {p.id for p in four}
    assert four[0].metadata["subject"] == "chain_sum" and four[0].grader == "reasoning-gym"


def test_faults_of_the_call() -> None:
    with pytest.raises(UsageError, match="Did you mean chain_sum"):
        load_dataset("reasoning-gym:chain_sums", limit=1)
    with pytest.raises(UsageError, match="leave out the split"):
        load_dataset("reasoning-gym:chain_sum", split="train")


@pytest.mark.slow
@pytest.mark.parametrize("task", ["gsm_symbolic", "arc_agi", "n_queens"])
async def test_the_packages_scorer_judges(task: str) -> None:
    problem, other = load_dataset(f"reasoning-gym:{task}", limit=2, seed=5)
    assert await grade(problem, f"Let me see <answer>wrong</answer>\n<answer>\n{problem.reference}\n</answer>") is True
    assert await grade(problem, str(problem.reference)) is True
    assert await grade(problem, f"<answer>{other.reference}</answer>") is False
    assert await grade(problem, f"<answer>{problem.reference}</answer> or rather <answer>17.5</answer>") is False
    assert await grade(problem, f"<think><answer>{problem.reference}</answer>") is False


async def test_another_right_answer_than_the_reference_is_right() -> None:
    (problem,) = load_dataset("reasoning-gym:polynomial_multiplication", limit=1)
    assert await grade(problem, f"<answer>0 + {problem.reference}</answer>") is True
    assert await grade(problem, f"<answer>1 + {problem.reference}</answer>") is False


@pytest.mark.parametrize("task", ["countdown", "binary_matrix"])
async def test_a_hostile_answer_is_wrong_and_does_nothing(task: str, tmp_path: Path) -> None:
    """These scorers evaluate what they are given."""
    (problem,) = load_dataset(f"reasoning-gym:{task}", limit=1)
    mark = tmp_path / "was here"
    for answer in (
        f"open({str(mark)!r}, 'w')",
        f"__import__('pathlib').Path({str(mark)!r}).touch()",
        f"[open({str(mark)!r}, 'w') for _ in [1]]",
        f"(lambda: open({str(mark)!r}, 'w'))()",
        "exit()",
    ):
        assert await grade(problem, f"<answer>{answer}</answer>") is False
    assert not mark.exists()
    assert await grade(problem, f"<answer>{problem.reference}</answer>") is True


async def test_an_endless_answer_costs_its_deadline() -> None:
    first, second = load_dataset("reasoning-gym:countdown", limit=2)
    assert await grade(first, "<answer>9**9**9**9</answer>", deadline=1) is False
    assert await grade(second, f"<answer>{second.reference}</answer>") is True
