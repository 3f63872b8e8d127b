"""Delegate: the mentor reasons, and calls the intern as a tool for the small questions on the way.

After the Delegate project (github.com/huyxdang/Delegate, no paper): a large model with one function, `slm_help`, at
most 15 turns, no training. Its published saving counts neither the context that each hop reads anew nor the small
model's tokens. Here every turn of the mentor is a call over the whole conversation, and charged as one, and so is
every reply. Where we depart from it:

- One text protocol for every mentor, those with native tools among them: the mentor writes ``<ask>question</ask>``
  and is stopped there (a line ``ASK: question`` will do too); the reply comes in a user turn; a message without a
  question is the answer. What stands first in a message counts: an answer before a question, or the question alone.
- The intern gets the question alone, with its ordinary prompt (a choice's sub-question with no instruction), and
  replies in at most 512 tokens.
- The 15th turn is one without the tool. It comes sooner where the mentor's cap or context is nearly used up, or after
  two calls in a row that were none: without a question, or with one asked before, whose reply is given once more.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from tandem.config import Settings
from tandem.errors import UsageError
from tandem.grading import answer_of
from tandem.grading.places import after_thinking
from tandem.insight import answer_messages
from tandem.ladder import ANSWER, Ladder
from tandem.ledger import Role
from tandem.models.base import TEMPLATE
from tandem.models.call import Call
from tandem.strategies.base import Context, Planned, written
from tandem.strategies.ended import has_answer
from tandem.types import AnswerDelta, Decision, Event, Message, Problem

MAX_TURNS = 15
REPLY_TOKENS = 512
LEVEL = "delegate"


@dataclass(frozen=True, slots=True)
class Ask:
    """A call of the tool in a mentor's message: what stands before it, and the question ("" where there is none)."""

    before: str
    question: str

    @property
    def message(self) -> str:
        """The mentor's message up to its call, in the protocol's own form."""
        return f"{self.before}{_OPEN}{self.question}{_CLOSE}"


def find_ask(text: str) -> Ask | None:
    """Return the first call of the tool in a message, whatever stands behind it; None if there is none.

    A question in tags ends with its paragraph where they are not closed; one behind ``ASK:`` with its line.
    """
    call = _ASK.search(text)
    if call is None:
        return None
    behind = text[call.end() :]
    if call[0].lower() == _OPEN:
        question = re.split(r"</?ask>|\n\s*\n", behind.lstrip(), maxsplit=1, flags=re.IGNORECASE)[0]
    else:
        question = behind.partition("\n")[0]
    question = question.strip(_DRESS)
    return Ask(text[: call.start()], "" if question == _EXAMPLE or not re.search(r"\w", question) else question)


@dataclass(slots=True)
class Talk:
    """The conversation with the mentor: what was said, what was asked, and what is left of the mentor's tokens."""

    problem: Problem
    messages: tuple[Message, ...]
    left: int
    last: bool = False  # the next turn is the last one
    turns: int = 0
    valid: int = 0
    in_vain: int = 0  # calls in a row that were none
    replies: dict[str, str] = field(default_factory=dict)

    def open(self, ctx: Context) -> Call:
        """Open the mentor's next turn. Raises UsageError for a problem that is too long for it."""
        own = ctx.sampling(self.problem)
        sampling = own if self.last else own.model_copy(update={"stop": (*own.stop, _CLOSE)})
        room = max(min(self.left, self.space(ctx)), 1)
        return ctx.call("mentor", "answer", self.problem, self.messages, max_tokens=room, sampling=sampling)

    def space(self, ctx: Context) -> int:
        """Return how many tokens of the mentor's context the conversation leaves free."""
        context = ctx.mentor.spec.context
        if context is None:
            return _BOUNDLESS
        said = sum(ctx.mentor.count(message.content) + _TURN for message in self.messages)
        return context - TEMPLATE - said

    def decide(self, ask: Ask | None, over: bool) -> Decision:
        """Return what a turn came to, with the number of turns and of valid calls so far."""
        if ask is None:
            reason = "has to answer" if self.last else "answers"
        else:
            shown = ask.question if len(ask.question) <= _SHOWN else f"{ask.question[:_SHOWN]}…"
            how = ", with no room left for a reply" if over else " in vain" if self.in_vain else ""
            reason = f"asks{how}: {shown or '(nothing)'}"
        signals: dict[str, float] = {"valid_calls": self.valid, "turns": self.turns}
        return Decision(level=LEVEL, action="answer" if over else "go_on", reason=reason, signals=signals)

    async def reply(self, ask: Ask, ctx: Context) -> str:
        """Return what the mentor is told to its question, and count the call as valid or in vain."""
        key = " ".join(ask.question.lower().split())
        if not key or key in self.replies:
            self.in_vain += 1
            return f"{_AGAIN}{self.replies[key]}" if key else _NOTHING
        task = "general" if self.problem.task == "choice" else self.problem.task
        asked = Message(role="user", content=ask.question)
        small = Problem(id=self.problem.id, messages=(asked,), task=task, sampling=self.problem.sampling)
        try:
            call = ctx.call(
                "intern",
                "answer",
                small,
                answer_messages(small),
                max_tokens=min(REPLY_TOKENS, ctx.max_tokens("intern")),
                read_tokens=ctx.mentor.count(ask.question),
            )
        except UsageError:
            self.in_vain += 1
            return _TOO_LONG
        self.replies[key] = after_thinking((await written(call)).text).strip() or _SILENT
        self.valid, self.in_vain = self.valid + 1, 0
        return f"{_REPLY}{self.replies[key]}"

    async def exchange(self, ask: Ask, ctx: Context) -> bool:
        """Get the reply to a question and add both; False where there is no room for a further turn.

        A reply is cut where it would leave no room for the answer.
        """
        self.messages = (*self.messages, Message(role="assistant", content=ask.message))
        free = self.space(ctx) - _WORDS
        if min(self.left, free) < 1:
            return False
        ending = min(_ENDING, ctx.max_tokens("mentor") // 4)
        reply = ctx.mentor.cut(await self.reply(ask, ctx), max(free - ending, free // 2))
        free -= ctx.mentor.count(reply)
        self.last = self.turns == MAX_TURNS - 1 or self.in_vain == 2 or min(self.left, free) <= ending
        text = f"{reply}\n\n{_NOW[self.problem.task]}" if self.last else reply
        self.messages = (*self.messages, Message(role="user", content=text))
        return True


class Delegate:
    """The mentor answers, and asks the intern on the way, in at most 15 turns."""

    roles: tuple[Role, ...] = ("mentor", "intern")
    judges = False

    def calls(self, ladder: Ladder, settings: Settings, draft_tokens: int | None) -> list[Planned]:
        """Return the calls of a conversation that never ends by itself: each turn reads all that was said."""
        cap, reply = settings.mentor_max_tokens, min(REPLY_TOKENS, settings.intern_max_tokens)
        share = -(-cap // MAX_TURNS)
        planned: list[Planned] = []
        for turn in range(MAX_TURNS):
            read = _WORDS + turn * (reply + _WORDS) + (cap if turn else 0)
            planned.append(Planned("mentor", "answer", LEVEL, share, read))
            if turn < MAX_TURNS - 1:
                planned.append(Planned("intern", "answer", LEVEL, reply, share))
        return planned

    async def run(self, problem: Problem, ctx: Context) -> AsyncGenerator[Event, None]:
        """Go through the turns; the message that asks nothing is streamed once it is there."""
        talk = Talk(problem, _first(problem), ctx.max_tokens("mentor"))
        while True:
            call = await written(talk.open(ctx))
            talk.turns, talk.left = talk.turns + 1, talk.left - call.tokens
            text, ask = call.text, None if talk.last else find_ask(call.text)
            if ask is not None and has_answer(problem.task, ask.before):
                text, ask = ask.before.rstrip(), None
            over = ask is None or not await talk.exchange(ask, ctx)
            decision = talk.decide(ask, over)
            ctx.trace.append(decision)
            yield decision
            if over:
                break
        solution = ctx.conclude(problem, call, level=LEVEL if talk.valid else ANSWER)
        yield AnswerDelta(text)
        yield solution.model_copy(update={"text": text, "answer": answer_of(problem, text)})


def _first(problem: Problem) -> tuple[Message, ...]:
    """Return the conversation's beginning: the protocol, and the problem."""
    text = f"{_PROTOCOL}{_END[problem.task]}\n\nProblem: {problem.question}"
    return (*problem.messages[:-1], Message(role="user", content=text))


_OPEN, _CLOSE = "<ask>", "</ask>"
_ASK = re.compile(r"<ask>|^[ \t>*_`#-]*ask[*_`]*:", re.IGNORECASE | re.MULTILINE)
_DRESS = " \t\r\n*_`\"'"  # what models put around a question
_SHOWN = 80  # characters of a question in a decision
_BOUNDLESS = 1 << 30
_TURN = 8  # tokens that a chat template may add to each message
_WORDS = 128  # tokens at most, of the protocol's words in a turn
_ENDING = 256  # tokens kept for the answer
_EXAMPLE = "a small question that says all the facts and numbers it needs"
_PROTOCOL = (
    "Solve the problem below with an assistant who does the calculations for you. It cannot see the problem. To ask "
    f"it, write\n{_OPEN}{_EXAMPLE}{_CLOSE}\n"
    "and stop: you then get the reply, and may ask again. "
)
_END = {
    "math": "When you know the final answer, put it in \\boxed{}.",
    "choice": "When you know which option is right, put its letter in \\boxed{}.",
    "code": "When you know enough, write the complete Python function in one ```python code block.",
    "general": "When you know enough, write your answer.",
}
_NOW = {
    "math": "Ask no more. Give the final answer now, in \\boxed{}.",
    "choice": "Ask no more. Give the letter of your choice now, in \\boxed{}.",
    "code": "Ask no more. Write the complete function now, in one ```python code block.",
    "general": "Ask no more. Write your answer now.",
}
_REPLY = "Reply: "
_AGAIN = "You asked that before. The reply was: "
_NOTHING = f"There was no question. Write {_OPEN}your question{_CLOSE}, or give the final answer."
_TOO_LONG = "The question is too long for the assistant. Ask a shorter one, or give the final answer."
_SILENT = "(nothing)"
