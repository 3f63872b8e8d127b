"""Which of n answers to one problem to take. The reference and the grader's tests are never looked at.

Closed answers (math, a letter, what a closed grader reads): the answer that most samples give, two spellings of one
value being one; of answers that equally many give, and of the samples that give the one chosen, the likeliest text. A
sample without an answer has no vote. Code: the program that passes most of the examples that the prompt shows (see
tandem/grading/examples.py for what counts as one), of equals the likeliest text. Everything else, and code where there
is no example or nowhere to run it: the likeliest text, by its mean log-probability a token; the reason says which.

BEST-Route (arXiv 2506.22716) takes the best by a reward model; we know none that is small and sees more than the
intern itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tandem.boxed import last_boxed
from tandem.grading import answer_of, grader_of
from tandem.grading.choices import normalise_words
from tandem.grading.normalise import normalise, quick_equal
from tandem.grading.trial import Trial
from tandem.thinking import after_thinking
from tandem.types import Problem, TaskKind

_FORMULAS = {"math", "gsm8k"}
_CLOSED = {"choice", "exact", "reasoning-gym"}


@dataclass(frozen=True, slots=True)
class Sample:
    """One answer as text, and the mean log-probability of its tokens (nats; 0 where none is known)."""

    text: str
    likelihood: float = 0.0


def best_of(problem: Problem, samples: Sequence[Sample], trial: Trial | None = None) -> tuple[int, str]:
    """Return the position of the best sample, and why it is that; of equals the first. `samples` has at least one.

    `trial` has the examples of the prompt that each sample passes, where they were to be run.
    """
    likeliest = max(range(len(samples)), key=lambda k: samples[k].likelihood)
    if trial is not None and trial.total:
        return _most_passed(samples, trial)
    if not is_closed(problem):
        why = f" ({trial.why})" if trial is not None else ""
        return likeliest, f"the likeliest of {len(samples)}{why}"
    votes: list[tuple[str, list[int]]] = []  # an answer, and the samples that give it
    for position, sample in enumerate(samples):
        answer = answer_of(problem, sample.text)
        if answer is None:
            continue
        for known, voters in votes:
            if _same(problem, known, answer):
                voters.append(position)
                break
        else:
            votes.append((answer, [position]))
    if not votes:
        return likeliest, f"none of {len(samples)} gives an answer: the likeliest"
    most = max(len(voters) for _, voters in votes)
    tied = [voters for _, voters in votes if len(voters) == most]
    chosen = max((k for voters in tied for k in voters), key=lambda k: samples[k].likelihood)
    also = f", as {len(tied) - 1} other answers: the likeliest" if len(tied) > 1 else ""
    return chosen, f"{most} of {len(samples)} give this answer{also}"


def _most_passed(samples: Sequence[Sample], trial: Trial) -> tuple[int, str]:
    most = max(trial.passed)
    best = [k for k, passed in enumerate(trial.passed) if passed == most]
    chosen = max(best, key=lambda k: samples[k].likelihood)
    if not most:
        return chosen, f"none of {len(samples)} passes an example of the prompt: the likeliest"
    others = len(best) - 1
    also = f", as {others} other{'s' if others > 1 else ''}: the likeliest" if others else ""
    return chosen, f"passes {most} of {trial.total} example{'s' if trial.total > 1 else ''} of the prompt{also}"


def is_closed(problem: Problem) -> bool:
    """Whether two answers can be recognised as the same: a value, a letter, a word; not a program or a free text."""
    return grader_of(problem) in _FORMULAS | _CLOSED


def same_answer(problem: Problem, one: str, other: str) -> bool | None:
    """Whether two texts give the same answer; None where one gives none, or where that cannot be decided."""
    if not is_closed(problem):
        return None
    first, second = answer_of(problem, one), answer_of(problem, other)
    return None if first is None or second is None else _same(problem, first, second)


def has_answer(task: TaskKind, text: str) -> bool:
    """Whether a text that is written piece by piece states its answer: in a box, or in a code fence that is closed.

    Stricter than a grader, which takes a last number too. Thinking does not count; `general` answers have no such mark.
    """
    after = after_thinking(text)
    if task == "code":
        fences = sum(line.lstrip().startswith("```") for line in after.splitlines())
        return fences > 0 and fences % 2 == 0
    return task != "general" and last_boxed(after) is not None


def _same(problem: Problem, one: str, other: str) -> bool:
    """Whether two answers are one: what only algebra could show counts as two."""
    if grader_of(problem) not in _FORMULAS:
        return normalise_words(one) == normalise_words(other)
    left, right = normalise(one), normalise(other)
    alike = left.unit is None or right.unit is None or left.unit == right.unit
    return alike and bool(quick_equal(left.text, right.text))
