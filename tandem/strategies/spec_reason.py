"""SpecReason (arXiv 2504.07891): the intern writes steps, the mentor scores each with one token and rewrites the weak.

A step goes up to a blank line, or to 512 tokens. The mentor reads the question, the text so far and the step, and
writes one digit, 0 to 9. Below the threshold (7, as published) the step is dropped and the mentor writes it, going on
from the text so far as from its own. What is charged: every score with all that it reads, every dropped step as
`probe`. Where we depart from the paper:

- The digit is drawn greedily; there is no mean weighted by probability, and no option that lets the mentor write the
  first steps. What is no digit counts as weak.
- Steps are drawn as the run says (the paper: temperature 0.6, top-p 0.95), and each model writes at most its own cap
  of the answer (the paper: 8,192 tokens in all), in at most 40 steps.
- The paper's models think aloud, and what follows the thinking is the answer. Ours need not think: the text has ended
  with a step that holds the final answer. A stop sequence is the same at a blank line and at the end of a text, so a
  `general` question, which has no such mark, and one with stop sequences of its own are written in steps of 512 tokens.
- A step that is empty, or one that stands there already, is rewritten without a score.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Self

from tandem.config import Settings
from tandem.errors import CapabilityError, TandemError, UsageError
from tandem.ladder import Ladder
from tandem.ledger import Role
from tandem.models.base import Model
from tandem.models.call import Call
from tandem.spec import Continuation, Sampling
from tandem.strategies.base import PlannedCall, Strategy
from tandem.strategies.best_of import has_answer
from tandem.strategies.context import Context
from tandem.types import AnswerDelta, Decision, Event, Message

DEFAULT_THRESHOLD = 7
STEP_TOKENS = 512
MAX_STEPS = 40
LEVEL = "steps"


@dataclass(slots=True)
class Answer:
    """The answer as far as it is written: its text, its steps, and how many tokens of it each model wrote."""

    ctx: Context
    text: str = ""
    joint: str = ""  # goes between the text and the next step: the blank line that the stop sequence took away
    steps: list[str] = field(default_factory=list)
    tokens: dict[Role, int] = field(default_factory=lambda: {"mentor": 0, "intern": 0})
    last: Call | None = None  # wrote the last step

    @property
    def prefix(self) -> str:
        return self.text + self.joint

    def sampling(self, role: Role) -> Sampling:
        """Return how a step is drawn: with a stop at the blank line, where the answer's end is known without it."""
        own = self.ctx.sampling(role)
        return own if own.stop or self.ctx.problem.task == "general" else own.model_copy(update={"stop": (_BLANK,)})

    def open(self, role: Role) -> Call | None:
        """Open the call that writes the next step; None where a cap or the context leaves no room for one.

        Raises UsageError for a problem that is itself too long.
        """
        room = min(STEP_TOKENS, self.ctx.max_tokens(role) - self.tokens[role])
        if room < 1:
            return None
        try:
            return self.ctx.call(
                role,
                "answer",
                max_tokens=room,
                prefix=self.prefix or None,
                read_tokens=self.tokens["mentor"] if role == "intern" else 0,
                sampling=self.sampling(role),
            )
        except UsageError:
            if not self.text:
                raise
            return None

    def keep(self, call: Call) -> str:
        new, self.last = self.joint + call.text, call
        self.text += new
        self.joint = _BLANK if call.finish_reason == "stop" else ""
        self.steps.append(call.text.strip())
        self.tokens[call.role] += call.tokens
        return new

    def ended(self) -> bool:
        if _BLANK not in self.sampling("intern").stop:
            return self.last is not None and self.last.finish_reason == "stop"
        thinks = "prefix" in (self.ctx.mentor.spec.insight_mode, self.ctx.intern.spec.insight_mode)
        return ("</think>" in self.text or not thinks) and has_answer(self.ctx.problem.task, self.text)


class SpecReason(Strategy):
    """The intern's steps, each scored by the mentor; weak ones are the mentor's own: ``spec-reason:<threshold>``."""

    def __init__(self, threshold: int = DEFAULT_THRESHOLD) -> None:
        if not 0 <= threshold <= 9:
            raise UsageError(f"spec-reason takes a score from 0 to 9 as its threshold, not {threshold}")
        self.threshold = threshold

    @classmethod
    def of(cls, argument: str | None, budgets: Mapping[str, int]) -> Self:
        if argument is None:
            return cls()
        if argument not in _DIGITS:
            raise UsageError(f"spec-reason takes a score from 0 to 9, as in spec-reason:5, not '{argument}'")
        return cls(int(argument))

    def check(self, mentor: Model, intern: Model) -> None:
        for model in (intern, mentor):
            if model.spec.continuation is not Continuation.NATIVE:
                raise CapabilityError(
                    f"strategy 'spec-reason' lets both models go on from each other's text, and {model.spec.name} "
                    "cannot continue a partial answer; take models that do (local weights, vLLM), or another strategy"
                )

    def calls(self, ladder: Ladder, settings: Settings, draft_tokens: int | None) -> list[PlannedCall]:
        """Return the calls of an answer whose every step is dropped, scored and rewritten."""
        step = -(-settings.mentor_max_tokens // MAX_STEPS)
        draft = min(STEP_TOKENS, settings.intern_max_tokens)
        planned: list[PlannedCall] = []
        for read in range(0, MAX_STEPS * step, step):
            planned += [
                PlannedCall("intern", "probe", LEVEL, draft, read),
                PlannedCall("mentor", "score", LEVEL, 1, read + draft + _SCORE_ROOM),
                PlannedCall("mentor", "answer", LEVEL, min(step, STEP_TOKENS), read),
            ]
        return planned

    async def run(self, ctx: Context) -> AsyncGenerator[Event, None]:
        """Let the intern write step by step and the mentor judge each; a step is streamed once it is kept."""
        answer, cut, number = Answer(ctx), True, 0
        while (number := number + 1) <= MAX_STEPS and (call := answer.open("intern")):
            booked = len(ctx.ledger.entries)
            await call.complete()
            end = len(ctx.ledger.entries)
            decision = await self._judge(answer, call.text.strip(), number)
            if weak := decision.action == "go_on":
                # A call left open would keep its share of the run's budget, and count the mentor's time as its own.
                for index in range(booked, end):
                    ctx.ledger.entries[index] = ctx.ledger.entries[index].model_copy(update={"purpose": "probe"})
            yield ctx.record(decision)
            if weak:
                if (rewrite := answer.open("mentor")) is None:
                    break
                call = await rewrite.complete()
                if call.text.strip() in ("", *answer.steps[-1:]):  # the mentor adds nothing
                    answer.last, cut = answer.last or call, False
                    break
            yield AnswerDelta(answer.keep(call))
            if answer.ended():
                cut = False
                break
        if answer.last is None:
            raise TandemError("spec-reason: not even one step fits the token caps")
        solution = ctx.conclude(answer.last, level=LEVEL)
        solution.truncated = cut
        yield solution

    async def _judge(self, answer: Answer, step: str, number: int) -> Decision:
        score: int | None = None
        if not step:
            reason = "the intern wrote nothing"
        elif step in answer.steps:
            reason = "the step stands there already"
        elif (written := await _score(answer, step)) is None:
            reason = "the mentor's context has no room for a score"
        elif written not in _DIGITS:
            reason = f"the mentor's score {written!r} is no digit"
        else:
            score = int(written)
            reason = f"scored {score}" + (f", below {self.threshold}" if score < self.threshold else "")
        return Decision(
            level=LEVEL,
            action="go_on" if score is None or score < self.threshold else "stop",
            reason=reason,
            insight_tokens=answer.tokens["mentor"],
            signals={"step": number} if score is None else {"step": number, "score": score},
        )


async def _score(answer: Answer, step: str) -> str | None:
    """Return the one token that the mentor writes as its score; None where the prompt fills its context.

    What stays (the instructions, the problem) comes before what grows: steps share all of the prompt but its end.
    """
    problem = answer.ctx.problem
    text = f"{_RATE}{problem.question}{_SO_FAR}{answer.prefix}{step}{_WHICH}"
    messages = (*problem.messages[:-1], Message(role="user", content=text))
    try:
        call = answer.ctx.call("mentor", "score", messages, max_tokens=1, prefix=_SCORE_PREFIX, sampling=Sampling())
    except UsageError:
        return None
    return (await call.complete()).text.strip()


_DIGITS = tuple("0123456789")
_BLANK = "\n\n"
_SCORE_ROOM = 128  # tokens, of the words around what is scored
_RATE = (
    "You check a solution as it is written. Rate its last paragraph only: is it correct, and does it follow from what "
    "stands before it? Never mind its style, or that the solution goes on. Answer with one digit, from 0 (surely "
    "wrong) to 9 (surely correct).\n\nProblem: "
)
_SO_FAR = "\n\nSolution so far:\n"
_WHICH = "\n\nWhich digit for the last paragraph?"
_SCORE_PREFIX = "Digit: "
