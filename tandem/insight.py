"""The mentor's insight and what the intern sees of it: GPRA prompts, the section parser, cutting at a level.

GPRA = Goal, Planning, Retrieval, Action, after the ACT-R architecture (arXiv 2604.23623). In `prefix` mode the
insight is the beginning of the mentor's own answer or thinking instead, and the intern continues it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from tandem.errors import UsageError
from tandem.models.tool_prompt import has_tools, in_words, what_can_be_called
from tandem.spec import Continuation
from tandem.types import Message, Problem

SECTIONS = ("goal", "planning", "retrieval", "action")


@dataclass(slots=True)
class Insight:
    """The mentor's text so far, with the end of each token so that it can be cut at any level."""

    finished: bool = False  # the mentor finished its text
    tokens: int = 0  # mentor tokens received
    _pieces: list[tuple[str, int]] = field(default_factory=list)
    _read: tuple[int, int] = (0, 0)  # pieces and tokens that `read` has returned

    def feed(self, text: str, tokens: int) -> None:
        """Take up a piece of the stream."""
        if text or tokens:
            self._pieces.append((text, tokens))
            self.tokens += tokens

    def feed_exact(self, text: str, tokens: int, cut: Callable[[str, int], str]) -> None:
        """Add a piece of several tokens one by one; `cut` is the mentor's, and the split is its estimate.

        Servers under load send several tokens per chunk, and a level's boundary may lie inside one.
        """
        for piece, count in token_by_token(text, tokens, cut):
            self.feed(piece, count)

    @property
    def text(self) -> str:
        """All text received, uncut."""
        return "".join(text for text, _ in self._pieces)

    def cut(self, budget: int) -> tuple[str, int]:
        """Return the text within `budget` mentor tokens and its number of tokens; a piece is never split.

        Without any token there is no text: the opening given to the mentor is not an insight.
        """
        text, used = [], 0
        for piece, tokens in self._pieces:
            if used + tokens > budget:
                break
            text.append(piece)
            used += tokens
        return ("".join(text), used) if used else ("", 0)

    def read(self, budget: int) -> str:
        """Return the text within `budget` that arrived since the last call."""
        position, used = self._read
        start = position
        while position < len(self._pieces) and used + self._pieces[position][1] <= budget:
            used += self._pieces[position][1]
            position += 1
        self._read = (position, used)
        return "".join(text for text, _ in self._pieces[start:position])

    def exhausted(self, budget: int) -> bool:
        """Whether the mentor is known to have ended below `budget`, so that a higher level adds nothing."""
        return self.finished and self.tokens < budget


def token_by_token(text: str, tokens: int, cut: Callable[[str, int], str]) -> Iterator[tuple[str, int]]:
    """Yield a piece of several tokens one by one, as estimated by the model's `cut`; an empty piece yields nothing."""
    for _ in range(tokens - 1):
        first = cut(text, 1)
        yield first, 1
        text = text[len(first) :]
    if text or tokens:
        yield text, min(tokens, 1)


# A header is a line that begins with a section's name, whatever its markup: "**Goal:** …", "## Plan", "3. Action -".
_HEADER = re.compile(
    r"^[ \t]*(?:#{1,6}[ \t]*)?(?:[-*•][ \t]+)?(?:\(?\d{1,2}[.):][ \t]*)?\*{0,2}_{0,2}[ \t]*"
    r"(goals?|plan(?:ning)?|retriev(?:al|e)|actions?)"
    r"[ \t]*(?:\([^()\n]{0,40}\))?"
    r"(?:\*{0,2}_{0,2}[ \t]*(?::|[-–—][ \t])[ \t]*\*{0,2}_{0,2}[ \t]*|\*{2}[ \t]*(?=\n)|[ \t]*(?=\n))",
    re.IGNORECASE,
)
_LONGEST_HEADER = 80
_FIRST_WORD = re.compile(r"^[\s#*_\-•().:\d]*([A-Za-z]*)")
_WORDS = ("goals", "planning", "retrieval", "retrieve", "actions")


def _settled(line: str) -> bool:
    """Whether more text cannot change if this line begins with a header (so that it can be shown without waiting)."""
    if len(line) > _LONGEST_HEADER:
        return True
    if match := _HEADER.match(line):
        return match.end() < len(line)
    word = _FIRST_WORD.match(line)
    return word is not None and bool(word[1]) and not any(known.startswith(word[1].lower()) for known in _WORDS)


class SectionParser:
    """Splits a stream into GPRA sections as it arrives, for any chunking.

    Missing, repeated or reordered sections and a cut end are all fine; text before the first header belongs to no
    section (None).
    """

    def __init__(self) -> None:
        self.section: str | None = None
        self._line = ""  # head of the current line, held back while it may still become a header
        self._held = True

    def feed(self, text: str) -> Iterator[tuple[str | None, str]]:
        """Yield (section, text) pieces; header text itself is not yielded."""
        for part in re.split(r"(?<=\n)", text):
            if part:
                yield from self._feed_line(part)

    def close(self) -> Iterator[tuple[str | None, str]]:
        """Yield what was held back."""
        yield from self._decide()

    def _feed_line(self, part: str) -> Iterator[tuple[str | None, str]]:
        ends = part.endswith("\n")
        if not self._held:
            yield self.section, part
        else:
            self._line += part
            if ends or _settled(self._line):
                yield from self._decide()
        if ends:
            self._held = True

    def _decide(self) -> Iterator[tuple[str | None, str]]:
        line, self._line = self._line, ""
        self._held = False
        if match := _HEADER.match(line if line.endswith("\n") else line + "\n"):
            initial = match[1][0].lower()
            self.section = next(name for name in SECTIONS if name[0] == initial)
            line = line[match.end() :]
        if line:
            yield self.section, line


def split_sections(text: str) -> dict[str, str]:
    """Return the sections of an insight by name, in the order of GPRA; only those that have text."""
    parser, found = SectionParser(), dict.fromkeys(SECTIONS, "")
    for section, piece in [*parser.feed(text), *parser.close()]:
        if section:
            found[section] += piece
    return {name: body.strip() for name, body in found.items() if body.strip()}


def trim(text: str) -> str:
    """Drop what a cut left incomplete: trailing space, and a last line that is a header without content."""
    text = text.rstrip()
    head, newline, last = text.rpartition("\n")
    bare = last.strip(" \t#*_-:.").lower()
    dangling = any(name.startswith(bare) for name in SECTIONS) if bare else True
    return head.rstrip() if newline and dangling else text


def opening(mode: str, continuation: Continuation | None) -> str:
    """Return the beginning of the insight given to the mentor, if it can continue text.

    Small mentors forget the insight format and write an answer instead; started with the first header they keep to it.
    """
    return _OPENING if mode == "gpra" and continuation is Continuation.NATIVE else ""


def mentor_messages(problem: Problem, mode: str = "gpra") -> tuple[Message, ...]:
    """Return the prompt that asks for an insight; functions and their calls stand in it as text."""
    if mode == "prefix":
        if problem.begun:
            raise UsageError("this mentor's insight is the beginning of an answer, which has one already")
        *before, last = answer_messages(problem)
        return (*before, last.model_copy(update={"content": last.content + _wanted(problem)}))
    messages, tools = problem.messages, problem.tools
    asked = _PROBLEM if messages[-1].role == "user" else ""
    if tools or has_tools(messages):
        messages = in_words(messages, what_can_be_called(tools))
    advise = _ADVISE["tools" if tools else problem.task]
    text = f"{asked}{messages[-1].content}{_wanted(problem)}\n\n{advise}"
    return (*messages[:-1], Message(role="user", content=text))


def continue_messages(problem: Problem, written: str) -> tuple[Message, ...]:
    """Return the prompt that asks for the rest of an insight from a mentor that cannot continue its own message."""
    return begun_messages(mentor_messages(problem), written)


def begun_messages(messages: Sequence[Message], begun: str) -> tuple[Message, ...]:
    """Return the prompt that asks for the rest of an answer from a model that cannot continue its own message."""
    return (*messages, Message(role="assistant", content=begun), Message(role="user", content=_GO_ON))


def answer_messages(problem: Problem) -> tuple[Message, ...]:
    """Return the prompt of a model that answers alone; the intern's prompt at every level starts the same."""
    # An instruction speaks of a box, and one that a tool's reply follows would change the prompt from turn to turn.
    plain = not (problem.response_format or problem.tools) and problem.messages[-1].role == "user"
    if not plain or not (instruction := _SOLVE[problem.task]):
        return problem.messages
    text = f"{instruction}\n\n{_PROBLEM}{problem.question}"
    return (*problem.messages[:-1], Message(role="user", content=text))


def _wanted(problem: Problem) -> str:
    """Return what the mentor is told of an answer's form: its notes are not decoded by it."""
    return f"\n\n{problem.response_format.words}" if problem.response_format else ""


def intern_view(problem: Problem, insight: str, mode: str = "gpra") -> tuple[tuple[Message, ...], str | None]:
    """Return the intern's messages and the answer's prefix under `insight`.

    GPRA: instruction, problem, then the insight, which only grows, so that all levels share a prefix in the cache.
    `prefix`: the intern continues the mentor's text from where it was cut.
    """
    messages = answer_messages(problem)
    if not insight:
        return messages, None
    if mode == "prefix":
        return messages, insight
    last = messages[-1]
    told = last.model_copy(update={"content": f"{last.content}\n\n{_INSIGHTS}{insight}"})
    return (*messages[:-1], told), None


_PROBLEM = "Problem: "
_OPENING = "Goal:"
_SOLVE = {
    "math": (
        "Solve the problem step by step with words and equations, never with code. Put the final answer in \\boxed{}."
    ),
    "code": "Write the complete Python function. Answer with one ```python code block.",
    "choice": "Think step by step, then choose. Put the letter of your choice in \\boxed{}.",
    "general": "",
}
_GO_ON = "You were cut off there. Go on exactly where your text stops; repeat nothing."
_INSIGHTS = "Notes of an expert on this problem, perhaps cut short:\n"
_NOTES = (
    "Do not write a full solution{no_code}. Write short notes that let a weaker student solve it, under these four "
    "headings, one or two short lines each:\n"
    "Goal: what is asked.\n"
)
_ADVISE = {
    "math": _NOTES.format(no_code=" and no code")
    + "Planning: the steps in order.\n"
    + "Retrieval: the facts, numbers and formulas that matter.\n"
    + "Action: each step as one equation with its result.",
    "code": _NOTES.format(no_code="")
    + "Planning: the algorithm, step by step.\n"
    + "Retrieval: the functions, data structures and edge cases that matter.\n"
    + "Action: the key lines in pseudocode.",
    "choice": _NOTES.format(no_code="")
    + "Planning: how to decide between the options.\n"
    + "Retrieval: the facts and rules that matter.\n"
    + "Action: each step of the reasoning in a few words.",
    "tools": _NOTES.format(no_code=" and call nothing yourself")
    + "Planning: which function the student has to call now, if any, and what comes after it.\n"
    + "Retrieval: the facts and the results so far that matter.\n"
    + "Action: the arguments of the call in plain words, or how to write the answer.",
    "general": _NOTES.format(no_code="")
    + "Planning: what a good answer covers, in order.\n"
    + "Retrieval: the facts that matter.\n"
    + "Action: how to write it, step by step.",
}
