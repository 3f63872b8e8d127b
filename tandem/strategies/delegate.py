"""Delegate: the mentor reasons, and calls the intern as a tool for the small questions.

After the Delegate project (github.com/huyxdang/Delegate, no paper): a large model with one function, `slm_help`, at
most 15 turns, no training. Its published saving counts neither the context that each hop reads again nor the small
model's tokens. Here every turn of the mentor is a call over the whole conversation, and charged as one, and so is
every reply. Where we depart from it:

- A mentor without native tools has a text protocol: it writes ``<ask>question</ask>`` and is stopped there, and the
  reply comes in a user turn. ``delegate:text`` and ``delegate:native`` take one of the two for any mentor.
- A message without a question is the answer. What stands first in a message counts: an answer before a question, or the
  question alone; of several calls, the first.
- The intern gets the question alone, with its ordinary prompt (a choice's sub-question with no instruction), and
  replies in at most 512 tokens.
- The 15th turn is one without the tool: the problem as to a mentor that answers alone, and the replies as notes (small
  mentors that are asked within the conversation to stop go on asking). It comes sooner where the mentor's cap or
  context is nearly used up, or after two calls in a row without a new question: none (an empty message is one), or one
  asked before, whose reply is given once more.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Self

from tandem.config import Settings
from tandem.errors import UsageError
from tandem.grading import answer_of
from tandem.insight import answer_messages
from tandem.ladder import ANSWER, Ladder
from tandem.models.base import TEMPLATE
from tandem.models.call import Call
from tandem.spec import ModelSpec
from tandem.strategies.base import PlannedCall, Strategy
from tandem.strategies.best_of import has_answer
from tandem.strategies.context import Context
from tandem.strategies.delegate_protocol import NATIVE, TEXT, Question, ToolProtocol
from tandem.thinking import after_thinking
from tandem.types import AnswerDelta, Decision, Event, Message, Problem

MAX_TURNS = 15
REPLY_TOKENS = 512
LEVEL = "delegate"


@dataclass(slots=True)
class Conversation:
    """The conversation with the mentor: messages, questions and replies, and what is left of the mentor's tokens."""

    protocol: ToolProtocol
    ctx: Context
    messages: tuple[Message, ...]
    left: int
    last: bool = False  # the next turn is the last one
    turns: int = 0
    valid: int = 0
    unanswered: int = 0  # calls in a row without a new question
    replies: dict[str, tuple[str, str]] = field(default_factory=dict)  # questions as they were put, and the replies

    def open(self) -> Call:
        own = self.ctx.sampling("mentor")
        sampling = own if self.last else own.model_copy(update={"stop": (*own.stop, *self.protocol.stop)})
        room = max(min(self.left, self.space()), 1)
        tools = None if self.last else self.protocol.tools
        return self.ctx.call(
            "mentor", "answer", self.messages, max_tokens=room, sampling=sampling, tools=tools, as_wanted=self.last
        )

    def space(self) -> int:
        context = self.ctx.mentor.spec.context
        if context is None:
            return _BOUNDLESS
        used = sum(self.ctx.mentor.count(message.text) + _TURN for message in self.messages)
        return context - TEMPLATE - self.protocol.room - used

    def decide(self, question: Question | None, over: bool) -> Decision:
        """Return what a turn came to, with the number of turns and of valid calls so far."""
        if question is None:
            reason = "has to answer" if self.last else "answers"
        else:
            shown = question.text if len(question.text) <= _SHOWN else f"{question.text[:_SHOWN]}…"
            how = ", with no room left for a reply" if over else ", unanswered" if self.unanswered else ""
            reason = f"asks{how}: {shown or '(nothing)'}"
        signals: dict[str, float] = {"valid_calls": self.valid, "turns": self.turns}
        return Decision(level=LEVEL, action="answer" if over else "go_on", reason=reason, signals=signals)

    async def reply(self, question: Question) -> str:
        key = " ".join(question.text.lower().split())
        if not key or key in self.replies:
            self.unanswered += 1
            return f"{_AGAIN}{self.replies[key][1]}" if key else self.protocol.nothing
        task = "general" if self.ctx.problem.task == "choice" else self.ctx.problem.task
        asked = Message(role="user", content=question.text)
        small = Problem(id=self.ctx.problem.id, messages=(asked,), task=task, sampling=self.ctx.problem.sampling)
        try:
            call = self.ctx.call(
                "intern",
                "answer",
                answer_messages(small),
                max_tokens=min(REPLY_TOKENS, self.ctx.max_tokens("intern")),
                read_tokens=self.ctx.mentor.count(question.text),
                as_wanted=False,
            )
        except UsageError:
            self.unanswered += 1
            return _TOO_LONG
        reply = after_thinking((await call.complete()).text).strip() or _SILENT
        self.replies[key] = question.text, reply
        self.valid, self.unanswered = self.valid + 1, 0
        return f"{self.protocol.reply}{reply}"

    async def exchange(self, question: Question) -> bool:
        """Get the reply to a question and add both; False where there is no room for a further turn.

        A reply is cut where it would leave no room for the answer.
        """
        turn = str(self.turns)
        self.messages = (*self.messages, question.said(turn))
        free = self.space() - _WORDS
        if min(self.left, free) < 1:
            return False
        ending = min(_ENDING, self.ctx.max_tokens("mentor") // 4)
        reply = self.ctx.mentor.cut(await self.reply(question), max(free - ending, free // 2))
        free -= self.ctx.mentor.count(reply)
        self.last = self.turns == MAX_TURNS - 1 or self.unanswered == 2 or min(self.left, free) <= ending
        if self.last:
            self.end(ending)
        else:
            self.messages = (*self.messages, question.replied(turn, reply))
        return True

    def end(self, ending: int) -> None:
        """Begin the last turn: the problem, as a mentor alone gets it, and what came of the questions.

        The notes are cut where they would leave less than `ending` tokens for the answer.
        """
        self.messages = answer_messages(self.ctx.problem)
        notes = "".join(f"\n- {asked}\n  {reply}" for asked, reply in self.replies.values())
        if notes := self.ctx.mentor.cut(notes, max(self.space() - _WORDS - ending, 0)):
            *before, last = self.messages
            self.messages = (*before, Message(role="user", content=f"{last.content}\n\n{_NOTES}{notes}"))


class Delegate(Strategy):
    """The mentor answers, and asks the intern in between, in at most 15 turns: ``delegate[:native|:text]``."""

    def __init__(self, protocol: ToolProtocol | None = None) -> None:
        """`protocol` is how the mentor asks; None: native tools where it has them, else in its text."""
        self._protocol = protocol

    @classmethod
    def of(cls, argument: str | None, budgets: Mapping[str, int]) -> Self:
        if argument is None:
            return cls()
        if argument not in _PROTOCOLS:
            raise UsageError(f"delegate takes how the mentor asks, delegate:native or delegate:text, not '{argument}'")
        return cls(_PROTOCOLS[argument])

    def adaptation(self, mentor: ModelSpec) -> str | None:
        """Return ``native`` where it is the mentor that decides so."""
        return None if self._protocol or not mentor.tools else NATIVE.name

    def calls(self, ladder: Ladder, settings: Settings, draft_tokens: int | None) -> list[PlannedCall]:
        """Return the calls of a conversation that never ends by itself: each turn reads all messages so far."""
        cap, reply = settings.mentor_max_tokens, min(REPLY_TOKENS, settings.intern_max_tokens)
        share = -(-cap // MAX_TURNS)
        words = _WORDS + (0 if self._protocol is TEXT else NATIVE.room)
        planned: list[PlannedCall] = []
        for turn in range(MAX_TURNS):
            read = words + turn * (reply + _WORDS) + (cap if turn else 0)
            planned.append(PlannedCall("mentor", "answer", LEVEL, share, read))
            if turn < MAX_TURNS - 1:
                planned.append(PlannedCall("intern", "answer", LEVEL, reply, share))
        return planned

    async def run(self, ctx: Context) -> AsyncGenerator[Event, None]:
        """Go through the turns; the message without a question is the answer."""
        protocol = self._protocol or (NATIVE if ctx.mentor.spec.tools else TEXT)
        talk = Conversation(protocol, ctx, _first(ctx.problem, protocol), ctx.max_tokens("mentor"))
        while True:
            call = await talk.open().complete()
            talk.turns, talk.left = talk.turns + 1, talk.left - call.tokens
            text, question = call.text, None if talk.last else protocol.find(call.text)
            if question is not None and has_answer(ctx.problem.task, question.before):
                text, question = question.before.rstrip(), None
            over = question is None or not await talk.exchange(question)
            yield ctx.record(talk.decide(question, over))
            if over:
                break
        solution = ctx.conclude(call, level=LEVEL if talk.valid else ANSWER)
        yield AnswerDelta(text)
        yield solution.model_copy(update={"text": text, "answer": answer_of(ctx.problem, text)})


def _first(problem: Problem, protocol: ToolProtocol) -> tuple[Message, ...]:
    text = f"{protocol.instructions}{_END[problem.task]}\n\nProblem: {problem.question}"
    return (*problem.messages[:-1], Message(role="user", content=text))


_PROTOCOLS = {each.name: each for each in (NATIVE, TEXT)}
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
