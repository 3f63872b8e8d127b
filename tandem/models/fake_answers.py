"""What a fake model writes for a problem whose reference it is told: right about as often as a real pair would be.

Each problem has a difficulty, drawn by a hash of its text. An intern is right where the insight in its prompt, and a
mentor where its own strength, exceeds it: alone the intern is right on about 45 % of the problems, under a `low`,
`medium` and `high` insight on 60, 75 and 90 %, and so is the mentor. The intern's tokens are more likely where it is
right, with noise, so that a classifier has something to learn.
"""

from __future__ import annotations

import random
import re
from functools import cache

from tandem.models.base import Cue

# Mentor tokens in the prompt, up to so many, and the share of problems that they suffice for: the default levels.
_STRENGTH = ((0, 0.45), (100, 0.60), (500, 0.75))
_TOP = 0.90
_STEPS = {"mentor": 51, "intern": 6}  # the mentor within 768 tokens, the cap of a collection
_NOISE = 0.3
_SALT = "844"  # one that shows these shares on the starter problems, few as they are


def answer(cue: Cue) -> str:
    """Return a whole answer, right or wrong; equal up to its last line for every insight."""
    given = cue.reference if _margin(cue) > 0 else _wrong(cue.reference)
    if "\n" in given or given.startswith("def "):
        return f"```python\n{given}\n```"
    return f"{_steps(_STEPS[cue.role])}\n\nThe answer is {_boxed(given)}"


@cache
def insight() -> str:
    """Return an insight that is longer than the level `medium`."""
    return (
        f"{SHORT_INSIGHT.partition('Planning')[0]}"
        f"Planning: name what is known, then go step by step.\n{_steps(15, ' ')}\n"
        f"Retrieval: the numbers given in the text and the rule that connects them.\n{_steps(6, ' ')}\n"
        f"Action: put the numbers into the equation and read off the answer.\n{_steps(11, ' ')}"
    )


def least_likely(cue: Cue) -> float:
    """Return the least probability that a token of the answer has."""
    noise = _drawn("noise", cue.question, str(_strength(cue))) * 2 - 1
    return 0.45 + 0.4 * max(-1.0, min(1.0, _margin(cue) + _NOISE * noise))


def _margin(cue: Cue) -> float:
    return _strength(cue) - _drawn(_SALT, cue.question)


def _strength(cue: Cue) -> float:
    if cue.role == "mentor":
        return _TOP
    return next((share for tokens, share in _STRENGTH if cue.read_tokens <= tokens), _TOP)


def _drawn(*what: str) -> float:
    return random.Random("|".join(what)).random()


def _wrong(reference: str) -> str:
    """Return an answer of the same kind that is not the reference."""
    if "\n" in reference:
        return "def answer(*given):\n    return None"
    if re.fullmatch(r"\(?[A-Z]\)?", reference):
        return reference.replace(letter := reference.strip("()"), "B" if letter == "A" else "A")
    if numbers := list(re.finditer(r"\d+", reference)):
        last = numbers[-1]
        return f"{reference[: last.start()]}{int(last[0]) + 1}{reference[last.end() :]}"
    pairs = (("true", "false"), ("yes", "no"), ("valid", "invalid"))
    other = {one: two for pair in pairs for one, two in (pair, pair[::-1])}
    return other.get(reference.casefold(), "unknown")


def _boxed(text: str) -> str:
    return f"\\boxed{{{text}}}"


@cache
def _steps(count: int, between: str = "\n\n") -> str:
    return between.join(f"Step {k + 1}: {_SENTENCES[k % len(_SENTENCES)]}" for k in range(count))


SHORT_INSIGHT = (
    "Goal: find the quantity that is asked for.\n"
    "Planning: name what is known, write one equation, solve it, check the result against the question.\n"
    "Retrieval: the numbers given in the text and the rule that connects them.\n"
    "Action: put the numbers into the equation and read off the answer."
)
_SENTENCES = (
    "write down what the text gives, each quantity with its unit and its name.",
    "say what is asked for, and which of the quantities it depends on.",
    "find the rule that connects them, and write it as one equation.",
    "put the known numbers in, one after another, and simplify both sides.",
    "solve for the unknown, and keep every intermediate result for later checks.",
    "compare the result with the question: its size, its sign and its unit.",
)
