"""Delegate: the mentor reasons, and calls the intern as a tool for the small questions on the way.

After the Delegate project (github.com/huyxdang/Delegate, no paper): a large model with one function, `slm_help`, at
most 15 turns, no training. Its published saving counts neither the context that each hop reads anew nor the small
model's tokens. Here every turn of the mentor is a call over the whole conversation, and charged as one, and so is
every reply. Where we depart from it:

- A mentor without native tools has a text protocol: it writes ``<ask>question</ask>`` and is stopped there, and the
  reply comes in a user turn. ``delegate:text`` and ``delegate:native`` take one of the two for any mentor.
- A message without a question is the answer. What stands first in a message counts: an answer before a question, or the
  question alone; of several calls, the first.
- The intern gets the question alone, with its ordinary prompt (a choice's sub-question with no instruction), and
  replies in at most 512 tokens.
- The 15th turn is one without the tool: the problem as to a mentor that answers alone, and the replies as notes (told
  within the conversation to ask no more, small mentors ask on). It comes sooner where the mentor's cap or context is
  nearly used up, or after two calls in a row that were none: without a question (an empty message is one), or with one
  asked before, whose reply is given once more.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Self

from tandem.config import Settings
from tandem.errors import UsageError
from tandem.grading import answer_of
from tandem.grading.answer_spans import after_thinking
from tandem.insight import answer_messages
from tandem.ladder import ANSWER, Ladder
from tandem.models.base import TEMPLATE
from tandem.models.call import Call
from tandem.spec import ModelSpec
from tandem.strategies.base import PlannedCall, Strategy
from tandem.strategies.context import Context
from tandem.strategies.delegate_protocol import NATIVE, TEXT, Question, ToolProtocol
from tandem.strategies.ended import has_answer
from tandem.types import AnswerDelta, Decision, Event, Message, Problem

MAX_TURNS = 15
REPLY_TOKENS = 512
LEVEL = "delegate"


@dataclass(slots=True)
class Talk:
    """The conversation with the mentor: what was said, what was asked, and what is left of the mentor's tokens."""

    way: ToolProtocol
    ctx: Context
    messages: tuple[Message, ...]
    left: int
    last: bool = False  # the next turn is the last one
    turns: int = 0
    valid: int = 0
    in_vain: int = 0  # calls in a row that were none
    replies: dict[str, tuple[str, str]] = field(default_factory=dict)  # questions as they were put, and the replies

    def open(self) -> Call:
        """Open the mentor's next turn. Raises UsageError for a problem that is too long for it."""
        own = self.ctx.sampling()
        sampling = own if self.last else own.model_copy(update={"stop": (*own.stop, *self.way.stop)})
        room = max(min(self.left, self.space()), 1)
        tool = None if self.last else self.way.tool
        return self.ctx.call("mentor", "answer", self.messages, max_tokens=room, sampling=sampling, tool=tool)

    def space(self) -> int:
        """Return how many tokens of the mentor's context the conversation leaves free."""
        context = self.ctx.mentor.spec.context
        if context is None:
            return _BOUNDLESS
        said = sum(self.ctx.mentor.count(message.content) + _TURN for message in self.messages)
        return context - TEMPLATE - self.way.room - said

    def decide(self, ask: Question | None, over: bool) -> Decision:
        """Return what a turn came to, with the number of turns and of valid calls so far."""
        if ask is None:
            reason = "has to answer" if self.last else "answers"
        else:
            shown = ask.question if len(ask.question) <= _SHOWN else f"{ask.question[:_SHOWN]}…"
            how = ", with no room left for a reply" if over else " in vain" if self.in_vain else ""
            reason = f"asks{how}: {shown or '(nothing)'}"
        signals: dict[str, float] = {"valid_calls": self.valid, "turns": self.turns}
        return Decision(level=LEVEL, action="answer" if over else "go_on", reason=reason, signals=signals)

    async def reply(self, ask: Question) -> str:
        """Return what the mentor is told to its question, and count the call as valid or in vain."""
        key = " ".join(ask.question.lower().split())
        if not key or key in self.replies:
            self.in_vain += 1
            return f"{_AGAIN}{self.replies[key][1]}" if key else self.way.nothing
        task = "general" if self.ctx.problem.task == "choice" else self.ctx.problem.task
        asked = Message(role="user", content=ask.question)
        small = Problem(id=self.ctx.problem.id, messages=(asked,), task=task, sampling=self.ctx.problem.sampling)
        try:
            call = self.ctx.call(
                "intern",
                "answer",
                answer_messages(small),
                max_tokens=min(REPLY_TOKENS, self.ctx.max_tokens("intern")),
                read_tokens=self.ctx.mentor.count(ask.question),
            )
        except UsageError:
            self.in_vain += 1
            return _TOO_LONG
        reply = after_thinking((await call.complete()).text).strip() or _SILENT
        self.replies[key] = ask.question, reply
        self.valid, self.in_vain = self.valid + 1, 0
        return f"{self.way.reply}{reply}"

    async def exchange(self, ask: Question) -> bool:
        """Get the reply to a question and add both; False where there is no room for a further turn.

        A reply is cut where it would leave no room for the answer.
        """
        self.messages = (*self.messages, Message(role="assistant", content=ask.message))
        free = self.space() - _WORDS
        if min(self.left, free) < 1:
            return False
        ending = min(_ENDING, self.ctx.max_tokens("mentor") // 4)
        reply = self.ctx.mentor.cut(await self.reply(ask), max(free - ending, free // 2))
        free -= self.ctx.mentor.count(reply)
        self.last = self.turns == MAX_TURNS - 1 or self.in_vain == 2 or min(self.left, free) <= ending
        if self.last:
            self.end(ending)
        else:
            self.messages = (*self.messages, Message(role="user", content=reply))
        return True

    def end(self, ending: int) -> None:
        """Begin the last turn: the problem, as a mentor alone gets it, and what came of the questions.

        The notes are cut where they would leave less than `ending` tokens for the answer.
        """
        self.messages = answer_messages(self.ctx.problem)
        notes = "".join(f"\n- {question}\n  {reply}" for question, reply in self.replies.values())
        if notes := self.ctx.mentor.cut(notes, max(self.space() - _WORDS - ending, 0)):
            *before, asked = self.messages
            self.messages = (*before, Message(role="user", content=f"{asked.content}\n\n{_NOTES}{notes}"))


class Delegate(Strategy):
    """The mentor answers, and asks the intern on the way, in at most 15 turns: ``delegate[:native|:text]``."""

    def __init__(self, way: ToolProtocol | None = None) -> None:
        """`way` is how the mentor asks; None: native tools where it has them, else in its text."""
        self._way = way

    @classmethod
    def of(cls, argument: str | None, budgets: Mapping[str, int]) -> Self:
        """Return the strategy for ``native``, ``text`` or neither. Raises UsageError for anything else."""
        if argument is None:
            return cls()
        if argument not in _WAYS:
            raise UsageError(f"delegate takes how the mentor asks, delegate:native or delegate:text, not '{argument}'")
        return cls(_WAYS[argument])

    def adaptation(self, mentor: ModelSpec) -> str | None:
        """Return ``native`` where it is the mentor that decides so."""
        return None if self._way or not mentor.tools else NATIVE.name

    def calls(self, ladder: Ladder, settings: Settings, draft_tokens: int | None) -> list[PlannedCall]:
        """Return the calls of a conversation that never ends by itself: each turn reads all that was said."""
        cap, reply = settings.mentor_max_tokens, min(REPLY_TOKENS, settings.intern_max_tokens)
        share = -(-cap // MAX_TURNS)
        words = _WORDS + (0 if self._way is TEXT else NATIVE.room)
        planned: list[PlannedCall] = []
        for turn in range(MAX_TURNS):
            read = words + turn * (reply + _WORDS) + (cap if turn else 0)
            planned.append(PlannedCall("mentor", "answer", LEVEL, share, read))
            if turn < MAX_TURNS - 1:
                planned.append(PlannedCall("intern", "answer", LEVEL, reply, share))
        return planned

    async def run(self, ctx: Context) -> AsyncGenerator[Event, None]:
        """Go through the turns; the message that asks nothing is streamed once it is there."""
        way = self._way or (NATIVE if ctx.mentor.spec.tools else TEXT)
        talk = Talk(way, ctx, _first(ctx.problem, way), ctx.max_tokens("mentor"))
        while True:
            call = await talk.open().complete()
            talk.turns, talk.left = talk.turns + 1, talk.left - call.tokens
            text, ask = call.text, None if talk.last else way.find(call.text)
            if ask is not None and has_answer(ctx.problem.task, ask.before):
                text, ask = ask.before.rstrip(), None
            over = ask is None or not await talk.exchange(ask)
            decision = talk.decide(ask, over)
            yield ctx.record(decision)
            if over:
                break
        solution = ctx.conclude(call, level=LEVEL if talk.valid else ANSWER)
        yield AnswerDelta(text)
        yield solution.model_copy(update={"text": text, "answer": answer_of(ctx.problem, text)})


def _first(problem: Problem, way: ToolProtocol) -> tuple[Message, ...]:
    """Return the conversation's beginning: the protocol, and the problem."""
    text = f"{way.protocol}{_END[problem.task]}\n\nProblem: {problem.question}"
    return (*problem.messages[:-1], Message(role="user", content=text))


_WAYS = {way.name: way for way in (NATIVE, TEXT)}
_SHOWN = 80  # characters of a question in a decision
_BOUNDLESS = 1 << 30
_TURN = 8  # tokens that a chat template may add to each message
_WORDS = 128  # tokens at most, of the protocol's words in a turn
_ENDING = 256  # tokens kept for the answer
_END = {
    "math": "When you know the final answer, put it in \\boxed{}.",
    "choice": "When you know which option is right, put its letter in \\boxed{}.",
    "code": "When you know enough, write the complete Python function in one ```python code block.",
    "general": "When you know enough, write your answer.",
}
_NOTES = "Replies of an assistant, who could not see the problem and may be wrong:"
_AGAIN = "You asked that before. The reply was: "
_TOO_LONG = "The question is too long for the assistant. Ask a shorter one, or give the final answer."
_SILENT = "(nothing)"
