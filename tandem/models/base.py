"""The protocol that every backend keeps: a request goes in, deltas come out, closing the stream stops the work."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from tandem.ledger import Purpose, Role, Usage
from tandem.models.logprobs import TokenStat
from tandem.response_format import ResponseFormat
from tandem.spec import ModelSpec, Sampling
from tandem.thinking import is_open
from tandem.tools import ToolUse
from tandem.types import Message, ScoredToken, count_prompt

FinishReason = Literal["stop", "length", "error"]
TEMPLATE = 64  # tokens that a chat template may add to a prompt
_SPECIAL = 2  # tokens that a tokenizer may add to a text


@dataclass(frozen=True, slots=True)
class Cue:
    """What a synthetic model is told, and no other, so that its answers can be right: see `cue`."""

    question: str
    reference: str
    role: Role
    read_tokens: int = 0  # mentor tokens in the prompt


def cue(spec: ModelSpec, question: str, reference: str | None, role: Role, read_tokens: int = 0) -> Cue | None:
    """Return what to tell a synthetic model of a problem with a reference; None for every real model."""
    return Cue(question, reference, role, read_tokens) if spec.synthetic and reference is not None else None


@dataclass(frozen=True, slots=True)
class Request:
    """One call to a model.

    `prefix` is the beginning of the assistant's message, to be continued and not repeated: text, or token ids.
    `top_logprobs` (1 to 20) asks for a TokenStat per token. `affinity` groups requests that share a prompt prefix.
    `tools` may be called: calls come as the end of the text, in their textual form (`tandem.tools.write_call`).
    `response_format` is what the answer must be, behind any thought: the backend decodes by it where it can, and
    whoever reads the answer checks it. `alternatives` (0 to 20) asks for each token as text with so many likeliest ones
    in its place (`Delta.scored`); `top_logprobs` is then set too, to at least as many. `raw` is read as it is in place
    of the messages, without a chat template: a text, or token ids. `cue` is for synthetic
    models only, and no part of what is asked.
    """

    messages: tuple[Message, ...]
    purpose: Purpose
    max_tokens: int
    sampling: Sampling = field(default_factory=Sampling)
    prefix: str | tuple[int, ...] | None = None
    top_logprobs: int | None = None
    affinity: str = ""
    tools: ToolUse | None = None
    response_format: ResponseFormat | None = None
    alternatives: int | None = None
    raw: str | tuple[int, ...] | None = None
    cue: Cue | None = field(default=None, compare=False, repr=False)

    @property
    def may_be_cut(self) -> bool:
        """Whether its reader may stop early: an insight, or a draft with log-probabilities."""
        return self.purpose != "answer" or self.top_logprobs is not None

    @property
    def prompt_bound(self) -> int:
        """Prompt tokens at most, whatever the tokenizer: none is shorter than a byte."""
        return self._count(lambda text: len(text.encode())) + self._template * len(self.messages) + self._beside

    def prompt_tokens(self, count: Callable[[str], int]) -> int:
        """Return the tokens of the prompt, `count` being the model's; what a chat template adds is not among them."""
        wanted = count(self.response_format.words) if self.response_format else 0
        return self._count(count) + (count(self.tools.text) if self.tools else 0) + wanted

    def room(self, context: int, count: Callable[[str], int]) -> int:
        """Return the tokens left in a model's context after the prompt; zero or less: the prompt fills it."""
        return context - self._count(count) - self._template - self._beside

    @property
    def _template(self) -> int:
        """Tokens at most that a chat template adds to a message, or a tokenizer to a text."""
        return TEMPLATE if self.raw is None else _SPECIAL if isinstance(self.raw, str) else 0

    @property
    def _beside(self) -> int:
        """Tokens at most that stand in a prompt beside its messages."""
        wanted = len(self.response_format.words.encode()) + TEMPLATE if self.response_format else 0
        return wanted + (self.tools.room if self.tools else 0)

    def _count(self, count: Callable[[str], int]) -> int:
        if self.raw is not None:
            return count(self.raw) if isinstance(self.raw, str) else len(self.raw)
        prefix = self.prefix or ""
        begun = count(prefix) if isinstance(prefix, str) else len(prefix)
        return begun + count_prompt(self.messages, None, count)

    @property
    def told(self) -> tuple[Message, ...]:
        """The messages, with the answer's form in words behind the last of the user's: it cannot be decoded by."""
        if self.response_format is None:
            return self.messages
        words = self.response_format.words
        last = max((k for k, message in enumerate(self.messages) if message.role == "user"), default=None)
        if last is None:
            return (*self.messages, Message(role="user", content=words))
        told = self.messages[last].model_copy(update={"content": f"{self.messages[last].content}\n\n{words}"})
        return (*self.messages[:last], told, *self.messages[last + 1 :])

    @property
    def decoded_by(self) -> ResponseFormat | None:
        """The form to decode by: none where a call may come, nor behind a text, where a second value would begin."""
        goes_on = self.prefix is not None and not (isinstance(self.prefix, str) and is_open(self.prefix))
        calls = self.tools is not None and self.tools.choice != "none"  # which are no such JSON
        return None if goes_on or calls else self.response_format

    @property
    def worst(self) -> Usage:
        """A usage with only its upper bound known."""
        return Usage(source="bound", prompt_bound=self.prompt_bound, completion_bound=self.max_tokens)


def within(spec: ModelSpec, prompt: int, cap: int) -> int:
    """Return the tokens that an answer may have behind a prompt of so many: `cap`, or what the context leaves."""
    return cap if spec.context is None else max(min(cap, spec.context - prompt), 1)


@dataclass(frozen=True, slots=True)
class Attempt:
    """A failed attempt that the backend replaced by another: the reason, the cost, the duration (seconds)."""

    error: str
    usage: Usage
    seconds: float


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of a stream. `tokens` counts the tokens in `text`; `stats` has one entry per token where asked, `scored`
    one per token of the text where `Request.alternatives` asks for them.

    `usage` and `finish_reason` come with the last delta; a server that reports usage as it goes may send `usage`
    earlier too. A delta may carry tokens and no text (half a character). `failed` reports a try that the backend has
    given up and replaced by another; its delta carries nothing else.
    """

    text: str = ""
    tokens: int = 0
    stats: Sequence[TokenStat] = ()
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    failed: Attempt | None = None
    scored: Sequence[ScoredToken] = ()


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole answer: what `stream` would have yielded, put together."""

    text: str
    tokens: int
    finish_reason: FinishReason
    usage: Usage
    stats: Sequence[TokenStat] = ()


@dataclass(frozen=True, slots=True)
class Reading:
    """A model's reading of a given text: its tokens as text, and statistics of all but the first.

    Where alternatives were asked for, `text` is all that was read, `scored` its tokens with them (the first has no
    log-probability), and `following` the likeliest token behind it; `ended`: that one ends the text.
    """

    pieces: Sequence[str]
    stats: Sequence[TokenStat]
    usage: Usage
    text: str = ""
    scored: Sequence[ScoredToken] = ()
    following: ScoredToken | None = None
    ended: bool = False


@runtime_checkable
class Reads(Protocol):
    """An optional part of Model: log-probabilities of a given text, for one uncached prefill."""

    async def read(
        self,
        text: str | Sequence[int],
        *,
        top_logprobs: int = 20,
        max_tokens: int | None = None,
        alternatives: int | None = None,
    ) -> Reading:
        """Read `text` (or token ids) as it is, without a chat template, its first `max_tokens` tokens if given.

        `alternatives` (0 to `top_logprobs`) asks for the tokens as text, see Reading.
        """
        ...


@runtime_checkable
class Tokenizes(Protocol):
    """An optional part of Model: its own tokenizer, for clients that send token ids. Methods may raise TandemError."""

    async def encode(self, text: str, *, special: bool) -> list[int]:
        """Return the ids of a text; `special`: with the tokens that a tokenizer puts around it."""
        ...

    async def decode(self, ids: Sequence[int]) -> str:
        """Return the text of token ids, special ones too."""
        ...

    async def special_tokens(self) -> dict[str, str | None]:
        """Return the texts of its special tokens by name (``eos_token``, ``bos_token``); None: none, or not known."""
        ...


@runtime_checkable
class Model(Protocol):
    """A model behind any backend. Methods may raise TandemError; nothing else is expected of them.

    `address` says where it runs: an endpoint's URL without user and password, a folder, or what else distinguishes two.
    """

    spec: ModelSpec
    address: str

    async def complete(self, request: Request) -> Completion:
        """Return the whole answer: what `stream` yields, put together, unless a backend has a better source."""
        return await gather(self.stream(request))

    def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        """Yield the answer as it is written; closing the iterator aborts the request at the model."""
        ...

    def cut(self, text: str, tokens: int) -> str:
        """Return the longest beginning of `text` with at most `tokens` of this model's tokens."""
        ...

    def count(self, text: str) -> int:
        """Return how many of this model's tokens `text` has."""
        ...

    async def probe(self) -> ModelSpec:
        """Probe the unknown parts of the specification (continuation, served name) and return it, completed."""
        ...

    async def aclose(self) -> None:
        """Release what the model holds; calls in flight end with an error."""
        ...


async def gather(stream: AsyncIterator[Delta]) -> Completion:
    """Read a stream to its end: the one implementation of `complete` for backends that stream anyway."""
    text: list[str] = []
    stats: list[TokenStat] = []
    tokens, finish, usage = 0, None, None
    async for delta in stream:
        text.append(delta.text)
        stats.extend(delta.stats)
        tokens += delta.tokens
        finish = delta.finish_reason or finish
        usage = delta.usage or usage
    return Completion(
        text="".join(text),
        tokens=tokens,
        finish_reason=finish or "error",
        usage=usage or Usage(completion=tokens, source="counted"),
        stats=stats,
    )


__all__ = [
    "TEMPLATE",
    "Attempt",
    "Completion",
    "Cue",
    "Delta",
    "FinishReason",
    "Model",
    "Reading",
    "Reads",
    "Request",
    "Tokenizes",
    "cue",
    "gather",
]
