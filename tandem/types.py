"""The values passed between layers: a problem goes in, events come out, the last one is the solution."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from tandem.errors import UsageError
from tandem.ledger import Ledger
from tandem.response_format import ResponseFormat
from tandem.spec import Sampling
from tandem.thinking import split_thinking

TaskKind = Literal["math", "code", "choice", "general"]
Action = Literal["stop", "go_on", "answer"]


class Message(BaseModel):
    """One message of a conversation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Literal["system", "user", "assistant"]
    content: str


class CodeTests(BaseModel):
    """Tests of a code problem: Python whose asserts call what the candidate defines.

    `prelude` (a prompt's imports and helpers) goes before both the candidate and the tests. Where there is an
    `entry_point`, the tests may call it by its own name or as `candidate`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    code: str
    entry_point: str = ""
    prelude: str = ""


class Problem(BaseModel):
    """A question with its conversation, its kind and, where known, its reference answer or its tests.

    `grader` names its grader (None: the default of its kind).
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
    metadata: dict[str, str] = {}

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

    @property
    def question(self) -> str:
        """The last message."""
        return self.messages[-1].content


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
    """Text of the answer as it arrives; a discarded draft never becomes an answer delta."""

    text: str


class Solution(BaseModel):
    """The last event of every strategy: the answer, how it was produced and what it cost.

    `text` is all that was written, with what was thought between <think> and </think>; `thinking` and `content` are
    the two apart. `answer` is what a grader extracts from the content; None if nothing was found.
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

    @property
    def thinking(self) -> str:
        """What was thought, without its tags."""
        return split_thinking(self.text)[0]

    @property
    def content(self) -> str:
        """The text without what was thought."""
        return split_thinking(self.text)[1]

    @classmethod
    def failed(cls, problem_id: str, strategy: str, ledger: Ledger) -> Solution:
        """Return the solution of a failed problem: no answer, and what it cost."""
        return cls(
            problem_id=problem_id, strategy=strategy, answer=None, text="", level=None, answered_by=None, ledger=ledger
        )

    def __str__(self) -> str:
        """Return the answer and how it was produced, as readable text."""
        ledger = self.ledger
        lines = [f"answer: {self.answer if self.answer is not None else '(none found)'}"]
        climb = " -> ".join(
            f"{d.level}" + (f" ({d.sufficiency:.2f})" if d.sufficiency is not None else "") for d in self.trace
        )
        lines.append(f"by the {self.answered_by} at level {self.level}" + (f"   [{climb}]" if climb else ""))
        for name, body in self.sections.items():
            lines.append(f"  {name.capitalize()}: {' '.join(body.split())}")
        cost = f"mentor {ledger.mentor_tokens} tokens, intern {ledger.intern_tokens} tokens"
        if ledger.probe_tokens:
            cost += f" ({ledger.probe_tokens} in discarded drafts)"
        if ledger.tflops is not None:
            cost += f", {ledger.tflops:.2f} TFLOPs"
        if ledger.usd is not None:
            cost += f", US$ {ledger.usd:.4f}"
        lines.append(f"{cost}, {self.seconds:.1f} s" + (", answer cut at its cap" if self.truncated else ""))
        if self.synthetic:
            lines.append("synthetic: a fake model wrote this")
        return "\n".join(lines)


Event = InsightDelta | Decision | ThinkingDelta | AnswerDelta | Solution
