"""What every strategy shares: the context that it runs in, and an answer that is streamed to its end."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field, replace

from tandem.config import Settings
from tandem.errors import CapabilityError, UsageError
from tandem.grading import Sandbox, answer_of
from tandem.insight import begun_messages, intern_view, split_sections
from tandem.ladder import Ladder
from tandem.ledger import Ledger, Purpose, Role
from tandem.models.base import Model, Request, cue
from tandem.models.call import Call, Recorder
from tandem.spec import Continuation, ModelSpec, Sampling
from tandem.sufficiency.policy import Policy
from tandem.thinking import CLOSES, OPENS, as_thought, is_open
from tandem.tools import ToolUse
from tandem.types import AnswerDelta, Decision, Event, Message, Problem, ScoredToken, Solution


@dataclass(slots=True)
class Context:
    """One problem on its way through one strategy: the models, the settings, and what has happened so far."""

    problem: Problem
    strategy: str
    mentor: Model
    intern: Model
    settings: Settings
    ladder: Ladder
    policy: Policy | None = None
    draft_tokens: int | None = 64  # None: the whole answer is the draft
    recorder: Recorder | None = None
    sandbox: Sandbox | None = None  # where code that a model wrote may run; None: nowhere
    ledger: Ledger = field(default_factory=Ledger)
    trace: list[Decision] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)
    asked: Counter[Request] = field(default_factory=Counter)
    opened: list[Call] = field(default_factory=list)

    def model(self, role: Role) -> Model:
        """Return the model in `role`."""
        return self.mentor if role == "mentor" else self.intern

    def max_tokens(self, role: Role) -> int:
        """Return the cap on an answer by `role`."""
        return self.settings.max_tokens(role)

    def call(
        self,
        role: Role,
        purpose: Purpose,
        messages: Sequence[Message] | None = None,
        *,
        insight: str = "",
        max_tokens: int | None = None,
        prefix: str | None = None,
        logprobs: bool = False,
        read_tokens: int = 0,
        sampling: Sampling | None = None,
        tools: ToolUse | None = None,
        as_wanted: bool = True,
    ) -> Call:
        """Open one metered call; a use as a context manager closes it whatever happens.

        Without `messages` it is the prompt of a model that answers alone, or of the intern under an `insight`.
        `sampling` is the problem's or the role's where none is given. `as_wanted`: what the caller wants of the answer
        (its form) holds for this call, if it writes one. Raises UsageError for a prompt that fills the
        model's context.
        """
        if messages is None:
            messages, begun = intern_view(self.problem, insight, self.mentor.spec.insight_mode)
            prefix = begun or prefix
        model = self.model(role)
        # A comparison asks for them with all that the intern writes, so that equal calls can be shared.
        logprobs = logprobs or (role == "intern" and self.settings.intern_logprobs and self.intern.spec.logprobs)
        wanted = as_wanted and purpose in ("answer", "probe")
        given = self.problem.begun if wanted and prefix is None else ""
        native = model.spec.continuation is Continuation.NATIVE
        if given and native:
            prefix = behind_thought(model.spec, given)
        elif given:
            messages = begun_messages(messages, given)
        # The answer's tokens as text, where the problem asks for them; no strategy reads them.
        alternatives = self.problem.logprobs if purpose == "answer" else None
        top = self.settings.top_logprobs if logprobs else None
        request = Request(
            messages=tuple(messages),
            purpose=purpose,
            max_tokens=max_tokens or self.max_tokens(role),
            sampling=sampling or self.sampling(role, purpose),
            prefix=prefix,
            top_logprobs=top if alternatives is None else max(top or 1, alternatives),
            affinity=self.problem.id,
            tools=tools or (self.problem.tools if wanted else None),
            # Notes are no JSON, and a tool's call has a form of its own.
            response_format=self.problem.response_format if wanted and tools is None else None,
            alternatives=alternatives,
            raw=self.problem.raw.text if self.problem.raw else None,
            cue=cue(model.spec, self.problem.question, self.problem.reference, role, read_tokens),
        )
        if given and not native and request.response_format:  # by which it would begin once more
            request = replace(request, messages=request.told, response_format=None)
        request = within_context(request, model)
        before = self.asked[request]
        self.asked[request] += 1
        call = Call(
            model, request, role, self.ledger, read_tokens=read_tokens, recorder=self.recorder, occurrence=before
        )
        self.opened.append(call)
        return call

    async def aclose(self) -> None:
        """Close the calls that a strategy left open, as one that raises may: the ledger then has all of them."""
        for call in self.opened:
            await call.close()

    def sampling(self, role: Role, purpose: Purpose = "answer") -> Sampling:
        """Return the problem's own sampling, else that of the model in `role`.

        What ends an answer, or keeps it from repeating itself, is none of an insight's business.
        """
        own = self.problem.sampling or self.settings.sampling_of(role)
        bent = own.stop or own.presence_penalty or own.frequency_penalty
        return own.model_copy(update=_UNBENT) if bent and purpose == "insight" else own

    def record(self, decision: Decision) -> Decision:
        """Add a decision to the trace, and return it: a strategy yields what it decides."""
        self.trace.append(decision)
        return decision

    def conclude(self, call: Call, *, level: str, insight: str = "", prefix: str | None = None) -> Solution:
        """Make the solution of the call that wrote the answer; the call must have ended.

        `prefix` stands before what it wrote: the request's own where none is given.
        """
        given = call.request.prefix
        begun = prefix if prefix is not None else given if isinstance(given, str) else ""
        text = whole_text(call, begun)
        cut = call.finish_reason == "length" or is_open(text)
        return self.solution(text, call.role, level, truncated=cut, insight=insight)

    def solution(self, text: str, role: Role, level: str, *, truncated: bool, insight: str = "") -> Solution:
        """Make the solution of a text that the model in `role` wrote, with the beginning that was given."""
        written, begun = text, self.problem.begun
        if begun and (given := behind_thought(self.model(role).spec, begun)) and text.startswith(given):
            written = text.removeprefix(given)
        return Solution(
            problem_id=self.problem.id,
            strategy=self.strategy,
            answer=answer_of(self.problem, text),
            text=written,
            level=level,
            answered_by=role,
            insight=insight,
            sections=split_sections(insight),
            trace=self.trace,
            ledger=self.ledger,
            truncated=truncated,
            seconds=time.monotonic() - self.started,
            synthetic=self.mentor.spec.synthetic or self.intern.spec.synthetic,
            classifier=self.policy.classifier.id if self.policy else None,
        )


_UNBENT = {"stop": (), "presence_penalty": 0.0, "frequency_penalty": 0.0}


def whole_text(call: Call, begun: str = "") -> str:
    """Return what a call wrote behind `begun`; of a thought that was cut, with the tag that its prompt had."""
    cut = call.finish_reason == "length" and begins_within(call.model.spec)
    return as_thought(begun + call.text) if cut else begun + call.text


def behind_thought(spec: ModelSpec, text: str) -> str:
    """Return the beginning of an answer as the prefix of a model's message: whoever gave it did not think."""
    return f"{OPENS}\n\n{CLOSES}\n\n{text}" if spec.thinks else text


def begins_within(spec: ModelSpec) -> bool:
    """Whether what a model writes is a thought until that closes; where its template is not known, most likely."""
    return spec.thinks and spec.opens_thinking is not False


def within_context(request: Request, model: Model) -> Request:
    """Return the request, cut to what the model's context leaves; raises UsageError for a prompt that fills it."""
    context = model.spec.context
    # No token is shorter than a byte: most prompts need no counting.
    if context is None or request.prompt_bound + request.max_tokens <= context:
        return request
    room = request.room(context, model.count)
    if room < 1:
        raise UsageError(
            f"the problem is too long for {model.spec.name}: {context - room} tokens with its instructions, "
            f"{context} fit"
        )
    return replace(request, max_tokens=min(request.max_tokens, room))


async def stream_answer(
    role: Role,
    ctx: Context,
    level: str,
    insight: str = "",
    tokens: int = 0,
    messages: tuple[Message, ...] | None = None,
) -> AsyncGenerator[Event, None]:
    """Stream the answer of one model with its own unchanged prompt, or under an insight of so many mentor tokens.

    `messages` are the whole prompt where the insight stands elsewhere in it. The last event is the solution.
    """
    scored: list[ScoredToken] = []  # a token that is a part of a character goes with the text that it ends up in
    async with ctx.call(role, "answer", messages, insight=insight, read_tokens=tokens) as call:
        async for delta in call:
            scored += delta.scored
            if delta.text:
                yield AnswerDelta(delta.text, tuple(scored))
                scored.clear()
    yield ctx.conclude(call.require_end(), level=level, insight=insight)


def tools_with_notes(mentor: ModelSpec) -> str | None:
    """Return why an insight does not go with tools; None: it does."""
    if mentor.insight_mode != "prefix":
        return None
    return (
        f"takes no tools with the mentor {mentor.name}, whose insight is the beginning of its own answer "
        "(--insight-mode prefix); the mentor or the intern alone does"
    )


def need_logprobs(model: Model, strategy: str) -> None:
    """Raise CapabilityError if the intern cannot show its uncertainty."""
    if not model.spec.logprobs:
        raise CapabilityError(
            f"strategy '{strategy}' reads the intern's log-probabilities, and {model.spec.name} exposes none; "
            "take an intern that does, or --strategy fixed:<level>"
        )
