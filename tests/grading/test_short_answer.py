"""BIG-Bench Hard: every target is right in the phrasings that models use, and wrong where another one is wanted."""

from __future__ import annotations

from collections import defaultdict
from functools import cache

import pytest

from tandem.datasets import load_dataset
from tandem.grading import grade
from tandem.types import Problem

PHRASINGS = [
    "{}",
    "So the answer is {}.",
    "Let's think step by step. First this, then that (see above).\nSo the answer is {}",
    "We look at each part.\n\n**Answer:** {}",
    "We look at each part.\n\nFinal answer: **{}**",
    "The correct answer is **{}**.",
    "### Reasoning\nIt takes two steps.\n\n### Answer\n{}",
    "Two steps are needed.\n\n**{}**",
    "Two steps are needed.\n{}",
    "Therefore we get $\\boxed{{\\text{{{}}}}}$.",
    "<think>The answer is nonsense.</think>\n\nThe answer is: {}",
]


@cache
def tasks() -> dict[str, list[Problem]]:
    """Return BBH's problems by task."""
    found: dict[str, list[Problem]] = defaultdict(list)
    for problem in load_dataset("bbh"):
        found[problem.metadata["subject"]].append(problem)
    return found


def another(problem: Problem, problems: list[Problem]) -> str:
    """Return the target of another problem of the same task."""
    after = problems[problems.index(problem) :] + problems
    return next(str(p.reference) for p in after if p.reference != problem.reference)


async def misgraded(problem: Problem, other: str) -> list[str]:
    """Return the texts that are graded wrongly."""
    bad = []
    for phrasing in PHRASINGS:
        for stated, verdict in ((str(problem.reference), True), (other, False)):
            text = phrasing.format(stated.replace("{", "\\{").replace("}", "\\}") if "boxed" in phrasing else stated)
            if await grade(problem, text) is not verdict:
                bad.append(f"{problem.reference}, {verdict}: {text}")
    return bad


@pytest.mark.public_data("bbh")
async def test_a_sample_of_every_task() -> None:
    assert len(tasks()) == 27
    for problems in tasks().values():
        for problem in problems[:: len(problems) // 10]:
            assert await misgraded(problem, another(problem, problems)) == []


def exact(reference: str, question: str = "?") -> Problem:
    return Problem.from_text(question, task="general", reference=reference).model_copy(update={"grader": "exact"})


OPTIONS = "Alice has\nOptions:\n(A) Ulysses\n(B) Frankenstein\n(C) Lolita"


@pytest.mark.parametrize(
    ("reference", "text", "verdict"),
    [
        # verdicts: neither a part of another word, nor a word in passing
        ("valid", "The argument is invalid.", False),
        ("invalid", "The argument is not valid.", True),
        ("invalid", "So the argument is not deductively valid.", True),
        ("valid", "The argument is **valid**.", True),
        ("invalid", "The answer is valid or invalid.", False),
        ("No", "There is no way to know.", False),
        ("No", "The answer is no, they do not.", True),
        ("Yes", "Yes, because the wire caused it.", True),
        ("Yes", "The answer is yes or no.", False),
        ("yes", "The answer is Yes.", True),
        ("True", "True and not False, so the whole is True", True),
        ("True", "not ( True ) is False.", False),
        ("False", "The answer is not true.", True),
        ("True", "I cannot tell.", False),
        ("True", "<think>The answer is True.", False),
        # numbers
        ("-35", "The answer is -35.", True),
        ("-35", "The answer is 35.", False),
        ("3", "I count 3 pianos.\nSo the answer is 3 instruments.", True),
        ("3", "The answer is 13.", False),
        ("3", "The answer is 3.5.", False),
        # brackets: the whole answer, in order
        ("] )", "The answer is ])", True),
        ("] )", "The answer is ) ]", False),
        ("] )", "The answer is ] ) )", False),
        ("] )", "The rest is `] )`.", True),
        ("} >", "\\boxed{\\} >}", True),
        ("} >", "\\boxed{} >}", True),
        (")", "I would close it.", False),
        # words in order
        ("beth kenya", "The answer is beth, kenya.", True),
        ("beth kenya", "The answer is kenya beth", False),
        ("beth kenya", "The answer is beth", False),
        ("beth kenya", "The answer is beth kenya kenya", False),
        ("apple pear zebra", "Sorted:\n1. apple\n2. pear\n3. zebra", True),
        ("apple pear zebra", "Sorted:\n- apple\n- zebra\n- pear", False),
        ("apple pear zebra", "The answer is:\napple\npear\nzebra", True),
        ("it&t o'connell you've", "The sorted list: it&t, o'connell, and you've", True),
        # words
        ("Monsters, Inc", "The answer is Monsters, Inc.", True),
        ("Monsters, Inc", "The answer is Monsters.", False),
    ],
)
async def test_short_answers(reference: str, text: str, verdict: bool) -> None:
    assert await grade(exact(reference), text) is verdict


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("The answer is (B).", True),
        ("The answer is (b).", True),
        ("The correct option is B.", True),
        ("The answer is option B", True),
        ("The correct choice is **B**.", True),
        ("Answer: **(B) Frankenstein**", True),
        ("B. Frankenstein", True),
        ("\\boxed{\\text{B}}", True),
        ("The answer is Frankenstein.", True),
        ("At the end, Alice has Frankenstein.\n\n**Frankenstein**", True),
        ("The answer is (B), not (A).", True),
        ("It is not (A).\nThe answer is (C).", False),
        ("The answer is (A) or (B).", False),
        ("The answer is B or C.", False),
        ("The answer is Ulysses.", False),
        ("The answer is A book.", False),
        ("I do not know.", False),
        ("The answer is (D).", False),
        ("<think>The answer is (B).</think> I cannot tell.", False),
    ],
)
@pytest.mark.parametrize("reference", ["(B)", "B", "Frankenstein"])
async def test_choices(reference: str, text: str, verdict: bool) -> None:
    chosen = Problem.from_text(OPTIONS, task="choice", reference=reference)
    assert await grade(chosen, text) is verdict
    if reference != "B":
        assert await grade(exact(reference, OPTIONS), text) is verdict
