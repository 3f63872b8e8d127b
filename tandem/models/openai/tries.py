"""The tries of one call: what each of them costs, what they have handed out together, and how the next one goes on."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import replace

from tandem.ledger import Usage
from tandem.models import base
from tandem.models.base import Delta, Request
from tandem.models.openai.errors import Backoff, Failure
from tandem.models.openai.stream import StreamReader
from tandem.spec import Continuation, ModelSpec


class Try:
    """One try: the request as it is sent, the reader of what comes back, and the usage that this makes.

    `known` is the beginning of the answer that was handed out before and comes once more. `prefix` are the ids of the
    request's prefix, as far as they are known.
    """

    def __init__(self, request: Request, known: str, reader: StreamReader, count: Callable[[str], int]) -> None:
        self.request = request
        self.known = known
        self.reader = reader
        self.prefix: Sequence[int] | None = None if request.prefix else ()
        self.began = time.monotonic()  # set anew when it is sent
        self._count = count
        self._prompt: int | None = None

    @property
    def ids(self) -> array[int] | None:
        """The ids of the prefix and of all that came behind it; None where they are not known."""
        came = self.reader.ids
        return None if self.prefix is None or came is None else array("i", self.prefix) + came

    def ended(self) -> Usage:
        """Return the usage of a try that came to its end: as reported, else counted."""
        tokens = self.reader.tokens
        return self.reader.usage or Usage(prompt=self._counted(), completion=tokens, source="counted")

    def cut(self) -> Usage:
        """Return the usage so far: the report of the whole if it came, else what was received, with the worst case."""
        usage, tokens, longest = self.reader.usage, self.reader.tokens, self.request.max_tokens
        if usage is None:
            return Usage(
                prompt=self._counted(),
                completion=tokens,
                source="counted",
                completion_bound=longest,
                prompt_bound=self.request.prompt_bound,
            )
        if self.reader.reported:
            return usage
        completion = max(tokens, usage.completion)
        return usage.model_copy(update={"completion": completion, "source": "counted", "completion_bound": longest})

    def call(self, usage: Usage) -> Delta | None:
        """Return the tool's call that an answer of this usage ends with, None where there is none."""
        if not (text := self.reader.call):
            return None
        # Chunks are counted as they come, and a server may send a whole call in one: its report knows better.
        apart = self.reader.tokens - self.reader.held
        reported = usage.completion - usage.reasoning - apart if usage.source == "reported" else 0
        return Delta(text, max(self.reader.held, reported))

    def failed(self, failure: Failure) -> Failure:
        """Return the failure with what this try cost; where nothing came back, only the worst case is known."""
        reader = self.reader
        if failure.free:
            usage = Usage()
        elif reader.started or reader.usage:
            usage = self.cut()
        else:
            usage = self.request.worst
        cut = reader.started and not failure.refused
        return failure.within(f"the stream was cut after {reader.tokens} tokens" if cut else "", usage)

    def report(self, failure: Failure) -> base.Attempt:
        """Return what the stream says of this try, which another one replaces."""
        return base.Attempt(str(failure), failure.usage or Usage(), time.monotonic() - self.began)

    def _counted(self) -> int:
        if self._prompt is None:
            prefix = self.request.prefix
            written = self._count(prefix) if isinstance(prefix, str) else len(prefix or ())
            self._prompt = written + sum(self._count(text) for text in self.request.texts)
        return self._prompt


class Handed:
    """What a call has handed out, over all its tries.

    A broken stream is taken up where it stopped by a model that continues text (`native`). Another one writes the
    answer once more, and the beginning that is known is left out; that is of no use where tokens are drawn by chance
    (`repeats` is False). `ids` are the ids of the next try's prefix, where they are known.
    """

    def __init__(self, request: Request, *, native: bool, repeats: bool) -> None:
        self.tokens = 0
        self.inside = False  # the next try goes on within a thinking block
        self.ids: array[int] | None = None
        # A prefix goes by its ids where the endpoint takes them; but a completion of ids has no tools.
        self.by_ids = request.tool is None
        self.request = request
        self._native = native
        self._repeats = repeats
        self._texts: list[str] = []

    @classmethod
    def of(cls, spec: ModelSpec, request: Request) -> Handed:
        """Return the beginning of a call to a model."""
        sampling = request.sampling
        repeats = not spec.reasoning and (sampling.temperature == 0 or sampling.seed is not None)
        # What is written behind a prefix of ids has no text that another try could be held against.
        native = spec.continuation is Continuation.NATIVE and not isinstance(request.prefix, tuple)
        native = native and request.tool is None  # behind a text that it did not write, a call may be read as text
        return cls(request, native=native, repeats=repeats)

    def take(self, delta: Delta) -> None:
        """Note what is handed out."""
        self.tokens += delta.tokens
        if delta.text:
            self._texts.append(delta.text)

    @property
    def text(self) -> str:
        """What was handed out."""
        return "".join(self._texts)

    @property
    def full(self) -> bool:
        """Whether all tokens that were asked for are there."""
        return self.tokens >= self.request.max_tokens

    @property
    def lost(self) -> bool:
        """Whether no other try can go on with what was handed out."""
        return bool(self._texts) and not (self._native or self._repeats)

    def next(self) -> tuple[Request, str]:
        """Return the next try's request, and the text with which its answer will begin once more."""
        text, request = self.text, self.request
        if not text or not self._native:
            return request, text
        prefix = request.prefix if isinstance(request.prefix, str) else ""
        return replace(request, prefix=prefix + text, max_tokens=request.max_tokens - self.tokens), ""

    def pause(self, failure: Failure, attempt: Try, backoff: Backoff) -> float:
        """Return the seconds to wait before the next try; raises `failure` where there is none."""
        if attempt.request is not self.request and failure.status in (400, 422):
            self._native = False  # this text it does not continue (a template may drop its thinking)
            failure.retryable = True
        self.inside = self._native and attempt.reader.inside
        if attempt.reader.started:
            self.ids = attempt.ids
        if self.lost:
            raise failure
        return backoff.pause(failure)
