"""The values passed between layers: a problem goes in, events come out, the last one is the solution."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from tandem.display import brief, facts_html
from tandem.errors import UsageError
from tandem.ledger import Ledger
from tandem.response_format import ResponseFormat
from tandem.spec import Sampling
from tandem.thinking import CLOSES, OPENS, split_thinking
from tandem.tools import FunctionCall, ToolUse, write_call

TaskKind = Literal["math", "code", "choice", "general"]
Action = Literal["stop", "go_on", "answer"]


class Message(BaseModel):
    """One message of a conversation; an assistant's may call functions, and each call has a reply of role `tool`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Literal["system", "user", "assistant", "tool"]
    content: str
    tool_calls: tuple[FunctionCall, ...] = ()
    tool_call_id: str | None = None  # of the call that a `tool` replies to

    @property
    def text(self) -> str:
        """The content, and behind it the calls in their textual form."""
        if not self.tool_calls:
            return self.content
        return self.content + "".join(write_call(call.name, call.arguments) for call in self.tool_calls)

    @model_serializer(mode="wrap")
    def _as_before_tools(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what a plain message has not: digests are made of dumps."""
        return {name: value for name, value in handler(self).items() if value or name in ("role", "content")}


def count_prompt(messages: Iterable[Message], tools: ToolUse | None, count: Callable[[str], int]) -> int:
    """Return the tokens of messages and of the functions beside them; what a chat template adds is not among them."""
    return sum(count(message.text) for message in messages) + (count(tools.text) if tools else 0)


class ScoredToken(NamedTuple):
    """A token as text with its log-probability (nats, before the temperature), and the likeliest ones in its place.

    `raw` are its bytes where the text does not hold them: a token may be a part of a character.
    """

    text: str
    logprob: float | None  # None: the first token of a text
    top: tuple[ScoredToken, ...] = ()
    raw: bytes | None = None


class CodeTests(BaseModel):
    """Tests of a code problem: Python whose asserts call what the candidate defines.

    `prelude` (a prompt's imports and helpers) goes before both the candidate and the tests. Where there is an
    `entry_point`, the tests may call it by its own name or as `candidate`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    code: str
    entry_point: str = ""
    prelude: str = ""


class RawPrompt(BaseModel):
    """A text, or its token ids, that one model completes as it stands: no chat template, no instructions of ours.

    `echo`: the answer begins with it, and where log-probabilities are asked for, with those of its own tokens. Where it
    does not `write`, that is all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str | tuple[int, ...]
    echo: bool = False
    write: bool = True

    def tokens(self, count: Callable[[str], int]) -> int:
        """Return its number of tokens; `count` is the model's."""
        return count(self.text) if isinstance(self.text, str) else len(self.text)


class Problem(BaseModel):
    """A question with its conversation, its kind and, where known, its reference answer or its tests.

    `grader` names its grader (None: the default of its kind). `logprobs` asks for each token of the answer with so many
    likeliest ones (0 to 20) in its place; only strategies of one model give them. `tools` may be called in its answer.
    `begun` is the beginning of the answer, given by whoever asks: a model goes on from there, and what it writes is the
    solution's text. `tandem`, `fixed`, `budget-forcing` and one model alone can do it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    messages: tuple[Message, ...] = Field(min_length=1)
    task: TaskKind = "general"
    reference: str | None = None
    tests: CodeTests | None = None
    grader: str | None = None
    sampling: Sampling | None = None  # None: the run's own
    response_format: ResponseFormat | None = None  # None: text
    begun: str = ""
    logprobs: int | None = Field(default=None, ge=0, le=20)
    raw: RawPrompt | None = None  # what is completed in place of the messages; only strategies of one model take it
    metadata: dict[str, str] = {}
    tools: ToolUse | None = None

    @classmethod
    def from_text(
        cls, text: str, *, task: TaskKind | None = None, id: str | None = None, reference: str | None = None
    ) -> Problem:
        """Return a one-message problem; its id is a digest of the text, its kind guessed where not given.

        Raises UsageError for an empty text.
        """
        if not text.strip():
            raise UsageError("the problem is empty")
        identity = id or hashlib.sha256(text.encode()).hexdigest()[:16]
        message = Message(role="user", content=text)
        return cls(id=identity, messages=(message,), task=task or guess_task(text), reference=reference)

    @classmethod
    def from_messages(
        cls,
        messages: Sequence[Message | Mapping[str, Any]],
        *,
        task: TaskKind | None = None,
        id: str | None = None,
        reference: str | None = None,
    ) -> Problem:
        """Return the problem of a conversation in OpenAI's form: dicts with `role` and `content`, the question last.

        A content may be a list of text parts; the role ``developer`` is ``system``. The id is a digest of the texts,
        that of `from_text` where there is one message. Raises UsageError that names the message which cannot be used.
        """
        if not messages:
            raise UsageError("there are no messages; give at least one, such as {'role': 'user', 'content': '…'}")
        read = tuple(_message(place, message) for place, message in enumerate(messages))
        whole = "\n".join(message.content for message in read)
        first = cls.from_text(whole, task=task, id=id, reference=reference)
        return first.model_copy(update={"messages": read, "task": task or guess_task(read[-1].content)})

    @classmethod
    def of(cls, question: Question, *, task: TaskKind | None = None) -> Problem:
        """Return a question as a problem: a text, the messages of a conversation, or a problem, which stays as it is.

        `task` is for the first two. Raises UsageError for anything else.
        """
        if isinstance(question, Problem):
            return question
        if isinstance(question, str):
            return cls.from_text(question, task=task)
        if isinstance(question, list | tuple):
            return cls.from_messages(question, task=task)
        raise _no_question(question)

    def prompt_tokens(self, count: Callable[[str], int]) -> int:
        """Return the tokens of its messages, tools and the answer's beginning, or of its raw prompt, by a `count`."""
        if self.raw:
            return self.raw.tokens(count)
        return count_prompt(self.messages, self.tools, count) + (count(self.begun) if self.begun else 0)

    @property
    def gradable(self) -> bool:
        """Whether there is something to grade an answer by."""
        return self.reference is not None or self.tests is not None

    @property
    def question(self) -> str:
        """The last message."""
        return self.messages[-1].content

    @model_serializer(mode="wrap")
    def _without_wishes(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what a plain problem does not wish for: digests are made of dumps."""
        return {name: value for name, value in handler(self).items() if name not in _WISHES or value not in (None, "")}


_WISHES = {"tools", "response_format", "begun", "logprobs"}


Question = str | Problem | Sequence[Message | Mapping[str, Any]]


def _no_question(value: object) -> UsageError:
    hint = "; of one message make a list: [message]" if isinstance(value, Mapping | Message) else ""
    return UsageError(
        "a question is a text, a Problem, or a list of messages such as {'role': 'user', 'content': '…'}, not "
        f"{type(value).__name__}{hint}"
    )


def _message(place: int, message: Any) -> Message:
    """Return a message of a conversation. Raises UsageError, with its place, for what is none."""
    if isinstance(message, Message):
        return message
    if isinstance(message, BaseModel):  # an answer of OpenAI's client, to be gone on with
        message = message.model_dump()
    if not isinstance(message, Mapping):
        raise UsageError(
            f"message {place} is of type {type(message).__name__}; it should be a dict such as "
            "{'role': 'user', 'content': '…'}"
        )
    given = {str(key): value for key, value in message.items() if value not in (None, [])}
    if given.get("role") == "developer":
        given["role"] = "system"
    if isinstance(parts := given.get("content"), list):
        if not all(isinstance(part, Mapping) and isinstance(part.get("text"), str) for part in parts):
            raise UsageError(f"message {place}: a content that is a list holds text parts only")
        given["content"] = "".join(part["text"] for part in parts)
    if isinstance(calls := given.get("tool_calls"), list):  # OpenAI's form, or ours
        called = [(call, call.get("function")) for call in calls if isinstance(call, Mapping)]
        given["tool_calls"] = [{"id": call.get("id"), **it} if isinstance(it, Mapping) else call for call, it in called]
        given.setdefault("content", "")
    try:
        return Message.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UsageError(f"message {place}: {where}: {first['msg']}") from None


def guess_task(text: str) -> TaskKind:
    """Guess the kind of a bare question: code fences and `def` mean code, digits or LaTeX mean math."""
    if "```" in text or "def " in text or "function" in text.lower():
        return "code"
    return "math" if any(c.isdigit() for c in text) or "$" in text or "\\" in text else "general"


@dataclass(frozen=True, slots=True)
class InsightDelta:
    """Mentor text as it arrives; `section` is the GPRA section that it belongs to."""

    text: str
    level: str
    section: str | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """The policy's decision at one level. `sufficiency` and `threshold` are None if no draft was scored.

    `kind` is the kind of tasks that the policy's operating point was chosen on (``all``: every kind), empty where no
    operating point decided.
    """

    level: str
    action: Action
    sufficiency: float | None = None
    threshold: float | None = None
    calibrated: bool = True
    reason: str = ""
    insight_tokens: int = 0
    signals: dict[str, float] = field(default_factory=dict)
    kind: str = ""


@dataclass(frozen=True, slots=True)
class ThinkingDelta:
    """What the model that answers thinks, as it arrives and without its tags: no part of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class AnswerDelta:
    """Text of the answer as it arrives, with its tokens where the problem asks for log-probabilities.

    A discarded draft never becomes an answer delta.
    """

    text: str
    tokens: tuple[ScoredToken, ...] = ()


@dataclass(frozen=True, slots=True)
class CallDelta:
    """A call of one of the problem's tools as it arrives: the first piece of each has `id` and `name`."""

    index: int
    arguments: str
    id: str = ""
    name: str = ""


class Solution(BaseModel):
    """The last event of every strategy: the answer, how it was produced and what it cost.

    `text` is all that was written, with what was thought between <think> and </think> and calls as
    <tool_call>…</tool_call>; `thinking`, `tool_calls` and `content` are these apart. `answer` is what a grader extracts
    from the content; None if nothing was found.
    """

    model_config = ConfigDict(extra="forbid")

    problem_id: str
    strategy: str
    answer: str | None
    text: str
    level: str | None  # None: it failed before there was an answer
    answered_by: Literal["mentor", "intern"] | None
    insight: str = ""
    sections: dict[str, str] = {}
    trace: list[Decision] = []
    ledger: Ledger = Ledger()
    truncated: bool = False  # the answer hit its token cap, or ended within its thought
    seconds: float = 0.0
    synthetic: bool = False
    classifier: str | None = None
    tokens: tuple[ScoredToken, ...] | None = Field(default=None, exclude=True)  # of the content, if asked for
    tool_calls: tuple[FunctionCall, ...] | None = Field(default=None, exclude=True)  # None: there were no tools
    _words: str | None = PrivateAttr(default=None)  # the content, where calls are apart from it

    @property
    def thinking(self) -> str:
        """What was thought, without its tags."""
        return split_thinking(self.text)[0]

    @property
    def content(self) -> str:
        """The text without what was thought, and without the calls of the problem's tools."""
        return split_thinking(self.text)[1] if self._words is None else self._words

    def with_calls(self, calls: tuple[FunctionCall, ...], words: str) -> Solution:
        """Return the solution of a problem with tools: the calls in its answer, and what stands beside them."""
        found = self.model_copy(update={"tool_calls": calls})
        found._words = words
        if calls:
            found.answer = words.strip() or None
        return found

    def with_content(self, content: str) -> Solution:
        """Return the solution with another content behind what was thought."""
        thought = f"{OPENS}{self.thinking}{CLOSES}\n\n" if self.thinking else ""
        return self.model_copy(update={"text": thought + content})

    @classmethod
    def failed(cls, problem_id: str, strategy: str, ledger: Ledger) -> Solution:
        """Return the solution of a failed problem: no answer, and what it cost."""
        return cls(
            problem_id=problem_id, strategy=strategy, answer=None, text="", level=None, answered_by=None, ledger=ledger
        )

    def __str__(self) -> str:
        """Return the answer and how it was produced, as readable text."""
        lines = [f"answer: {self._found}"]
        lines.append(f"by the {self.answered_by} at level {self.level}" + (f"   [{self._climb}]" if self.trace else ""))
        for name, body in self.sections.items():
            lines.append(f"  {name.capitalize()}: {' '.join(body.split())}")
        lines.append(self._cost)
        if self.synthetic:
            lines.append(_SYNTHETIC)
        return "\n".join(lines)

    def __repr__(self) -> str:
        return brief(
            "Solution",
            answer=self.answer,
            answered_by=self.answered_by,
            level=self.level,
            strategy=self.strategy,
            ledger=self.ledger,
            synthetic=self.synthetic or None,
        )

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the answer, how it came about, the insight, the text and the cost."""
        by = f"the {self.answered_by} at level {self.level}" if self.answered_by else None
        sections = [(name.capitalize(), body) for name, body in self.sections.items()]
        return facts_html(
            f"Solution of {self.problem_id}",
            [
                ("answer", self._found),
                ("by", by),
                ("decisions", self._climb),
                *(sections or [("insight", self.insight)]),
                ("thinking", self.thinking),
                ("text", self.content),
                ("cost", self._cost),
                ("note", _SYNTHETIC if self.synthetic else None),
            ],
        )

    @property
    def _found(self) -> str:
        return "(none found)" if self.answer is None else self.answer

    @property
    def _climb(self) -> str:
        steps = (f"{d.level}" + (f" ({d.sufficiency:.2f})" if d.sufficiency is not None else "") for d in self.trace)
        return " -> ".join(steps)

    @property
    def _cost(self) -> str:
        return f"{self.ledger}, {self.seconds:.1f} s" + (", answer cut at its cap" if self.truncated else "")


_SYNTHETIC = "synthetic: a fake model wrote this"


Event = InsightDelta | Decision | ThinkingDelta | AnswerDelta | CallDelta | Solution
