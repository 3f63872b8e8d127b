"""What the mentor is asked for, and which prompts are tried: blueprints in several styles, times places in the prompt.

The paper (arXiv 2506.08669) asks for twelve styles and searches 32 templates. Here are seven styles, and six templates:
where the blueprint stands, with or without a line that says to follow it. The paper's other two dimensions, solved
examples in the intern's prompt and chain of thought on or off, are left out: the answer's instruction stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from tandem.insight import trim
from tandem.sufficiency.blueprint_card import NONE, Candidate, Place
from tandem.types import Message, Problem, TaskKind

REFINED = "refined"
MIN_CANDIDATES = 8
_QUOTE = 8  # words in a row that make a quotation
_SHORTEST = 8  # words that a blueprint must have


def known_answer(problem: Problem) -> str:
    """Return the reference, or the tests that stand for it; empty where there is neither."""
    return problem.reference or (problem.tests.code if problem.tests else "")


def ask(style: str, task: TaskKind, examples: Sequence[tuple[Problem, str]]) -> tuple[Message, ...]:
    """Return the mentor's prompt for a blueprint of one style, with solved examples; all styles begin alike."""
    shown = "\n\n".join(f"Problem: {problem.question}\nSolution: {solution}" for problem, solution in examples)
    text = f"{_EXAMPLES}\n\n{shown}\n\n{_WRITE.format(words=WORDS[task])} {STYLES[style]} {_ONLY}"
    return (Message(role="user", content=text),)


def ask_again(blueprint: str, task: TaskKind, mistakes: Sequence[tuple[Problem, str]]) -> tuple[Message, ...]:
    """Return the mentor's prompt for a better blueprint, with wrong answers that the intern gave under this one."""
    shown = "\n\n".join(
        f"Problem: {problem.question}\nThe student's wrong answer: {answer[:_ANSWER]}\n"
        f"The right answer: {known_answer(problem)}"
        for problem, answer in mistakes
    )
    text = f"{_GUIDE}\n\n{blueprint}\n\n{_MISTAKES}\n\n{shown}\n\n{_REFINE.format(words=WORDS[task])} {_ONLY}"
    return (Message(role="user", content=text),)


def tidy(text: str, problems: Iterable[Problem], *, cut: bool) -> str:
    """Return a blueprint without what must not be in it: a thinking block, a half line, lines that quote a problem.

    Empty where too little is left. A blueprint is for other problems, and no problem's text is to be kept.
    """
    text = text.rpartition("</think>")[2].strip()
    if cut:
        text = trim(text.rpartition("\n")[0] or text)
    known = {gram for problem in problems for gram in _grams(f"{problem.question}\n{problem.reference or ''}")}
    # A quotation that runs over a line's end is one in both lines.
    lines, kept = text.splitlines(), []
    for at, line in enumerate(lines):
        around = "\n".join(lines[max(at - 1, 0) : at + 2])
        alone = "\n".join((*lines[max(at - 1, 0) : at], *lines[at + 1 : at + 2]))
        if not (_grams(around) - _grams(alone)) & known:
            kept.append(line)
    text = "\n".join(kept).strip()
    return text if len(text.split()) >= _SHORTEST else ""


def candidates(styles: Sequence[str], n: int) -> list[Candidate]:
    """Return "no blueprint" and `n` - 1 others: each style once before one comes again under another template."""
    found = [Candidate(name=NONE)]
    for offset in range(len(TEMPLATES)):
        for number, style in enumerate(styles):
            place, follow = TEMPLATES[(number + offset) % len(TEMPLATES)]
            found.append(candidate(style, place, follow))
    return found[:n]


def candidate(blueprint: str, place: Place, follow: bool) -> Candidate:
    return Candidate(
        name=f"{blueprint}/{place}{'+follow' if follow else ''}", blueprint=blueprint, place=place, follow=follow
    )


def _grams(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[at : at + _QUOTE]) for at in range(len(words) - _QUOTE + 1)}


TEMPLATES: tuple[tuple[Place, bool], ...] = (
    ("before", False),
    ("system", True),
    ("after", False),
    ("before", True),
    ("system", False),
    ("after", True),
)
STYLES = {
    "bullets": "Form: a bulleted list of short rules, each one an instruction.",
    "workflow": "Form: a numbered workflow; each step says what to do and what to write down.",
    "pattern": "Form: one pattern of a whole solution, with placeholders such as [amount] and [rate] in place of "
    "everything that belongs to one problem.",
    "instruction": "Form: one short paragraph that tells how to read what the question asks for and how to check that "
    "the answer is an answer to it.",
    "decisions": "Form: decisions, each as 'If the problem says ..., then ...'.",
    "checklist": "Form: a checklist in three parts: before solving, while solving, before answering.",
    "pitfalls": "Form: the mistakes that students make most often, each with how to avoid it.",
}
WORDS = {
    "math": "words and equations, never code",
    "code": "words and, where it helps, lines of pseudocode",
    "choice": "words",
    "general": "words",
}
_ANSWER = 600  # characters of a wrong answer that are shown
_EXAMPLES = "Here are problems of one kind, each with a right solution."
_WRITE = (
    "Write a guide that a weak student will read before solving other problems of this kind. The student will see none "
    "of the problems above, so the guide is general: no numbers, names or things out of them. Use {words}; at most 120 "
    "words."
)
_ONLY = "Write the guide and nothing else."
_GUIDE = "A weak student solves problems with this guide:"
_MISTAKES = "With it, the student got these problems wrong."
_REFINE = (
    "Find out what the mistakes have in common and write a better guide that prevents them. The student will see other "
    "problems of this kind, so the guide is general: no numbers, names or things out of those above. Use {words}; at "
    "most 150 words."
)
