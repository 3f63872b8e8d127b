"""Riddles for Tandem."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tandem.datasets import DatasetCard
from tandem.errors import UsageError
from tandem.grading.graders import Grading
from tandem.types import Problem

SUMS = DatasetCard.model_validate(
    {
        "name": "sums",
        "title": "Sums that ship with their package",
        "licence": "MIT",
        "source": "https://example.org/sums",
        "task": "math",
        "default_split": "test",
        "splits": {"test": {"file": str(Path(__file__).with_name("sums.jsonl")), "verified": True}},
        "fields": {"problem": ["sum"], "answer": ["result"]},
    }
)


def riddles(split: str | None) -> Iterator[Problem]:
    """Riddles whose answer only has to be as long as the reference."""
    if split not in (None, "easy", "hard"):
        raise UsageError(f"riddles has the splits easy and hard, not '{split}'")
    for number in range(3):
        text = f"Riddle {number} of the {split or 'easy'} ones?"
        problem = Problem.from_text(text, id=f"riddle-{number}", task="general", reference="x" * (number + 4))
        yield problem.model_copy(update={"grader": "same-length"})


async def same_length(problem: Problem, text: str, grading: Grading) -> bool | None:
    """Judge an answer by its length alone."""
    return problem.reference is not None and len(text.strip()) == len(problem.reference)
