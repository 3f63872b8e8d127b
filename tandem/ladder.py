"""Effort levels and the ladder of levels that a run may visit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from pydantic import BaseModel, ConfigDict

from tandem.errors import UsageError, nearest

NONE = "none"
ANSWER = "answer"
Count = TypeVar("Count")
QUESTION = "question"  # decided from the question alone, before any call
DEFAULT_BUDGETS = {NONE: 0, "low": 100, "medium": 500, "high": 1000}


class Effort(BaseModel):
    """One effort level: `tokens` of mentor text in total, or the mentor's own `answer` (tokens None).

    At the level `question` there is no mentor text and no draft; stopping there means the intern answers.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    tokens: int | None

    @property
    def is_answer(self) -> bool:
        """Whether the mentor answers alone at this level."""
        return self.tokens is None

    @property
    def is_question(self) -> bool:
        """Whether the classifier sees only the question at this level."""
        return self.name == QUESTION

    @property
    def is_drafted(self) -> bool:
        """Whether the intern starts an answer at this level, which the classifier then scores."""
        return not (self.is_answer or self.is_question)

    def __str__(self) -> str:
        """Return the level as the command line takes it."""
        if self.is_answer or self.is_question or DEFAULT_BUDGETS.get(self.name) == self.tokens:
            return self.name
        return f"{self.name}={self.tokens}"


Ladder = tuple[Effort, ...]


def by_level(counts: Mapping[str, Count]) -> dict[str, Count]:
    """Return what is counted by level's name in a ladder's order; names that no ladder has stand before `answer`."""
    usual = [QUESTION, *DEFAULT_BUDGETS]
    place = {name: number for number, name in enumerate(usual)} | {ANSWER: len(usual) + 1}
    return dict(sorted(counts.items(), key=lambda item: place.get(item[0], len(usual))))


def parse_ladder(text: str, budgets: Mapping[str, int] | None = None) -> Ladder:
    """Read ``question,none,low=40,medium,high,answer``; `budgets` are the defaults of this pair.

    Raises UsageError for an unknown level, a bad number, levels out of order or a level named twice.
    """
    known = {QUESTION: 0} | DEFAULT_BUDGETS | dict(budgets or {})
    ladder: list[Effort] = []
    for part in text.split(","):
        name, equals, number = (piece.strip() for piece in part.partition("="))
        if name not in known and name != ANSWER:
            raise nearest("effort level", name, [*known, ANSWER])
        if name in {level.name for level in ladder}:
            raise UsageError(f"effort level '{name}' is named twice in '{text}'")
        if name in {ANSWER, QUESTION, NONE} and equals:
            raise UsageError(f"effort level '{name}' takes no number of tokens")
        if equals and not (number.isdecimal() and int(number) > 0):
            raise UsageError(f"effort level '{name}' needs a positive number of mentor tokens, not '{number}'")
        tokens = None if name == ANSWER else int(number) if equals else known[name]
        if ladder and ladder[-1].is_answer:
            raise UsageError("effort level 'answer' comes last")
        if ladder and name == QUESTION:
            raise UsageError("effort level 'question' comes first")
        if ladder and not ladder[-1].is_question and tokens is not None and tokens <= (ladder[-1].tokens or 0):
            raise UsageError(f"effort level '{name}' ({tokens} tokens) must be above '{ladder[-1]}' in '{text}'")
        ladder.append(Effort(name=name, tokens=tokens))
    return tuple(ladder)


def format_ladder(ladder: Ladder) -> str:
    """Return the ladder with explicit budgets, as `parse_ladder` reads it."""
    return ",".join(
        level.name if level.is_answer or not level.tokens else f"{level.name}={level.tokens}" for level in ladder
    )
