"""One metered call: deltas are read as far as needed, and exactly one ledger entry is written."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from tandem.errors import EndpointError, TandemError
from tandem.ledger import Entry, Ledger, Purpose, Role, Usage
from tandem.models.base import Attempt, Delta, FinishReason, Model, Request
from tandem.models.recorded import Piece, Recorded
from tandem.models.skip import skip

if TYPE_CHECKING:
    from tandem.models.logprobs import TokenStat


class Recorder(Protocol):
    """Records calls and replays them: a run's journal, or the response cache."""

    def find(self, model: Model, request: Request, occurrence: int) -> Recorded | None:
        """Return the recorded output of this request; `occurrence` counts equal requests of one problem from 0."""
        ...

    async def turn(self, model: Model, request: Request, occurrence: int) -> None:
        """Wait for an equal request in flight that `find` may serve afterwards; to be called before `find`."""
        ...

    async def open(self, model: Model, request: Request, role: Role, occurrence: int) -> str | None:
        """Record a call's start, and return its number. Raises LimitReached if it may exceed the budget."""
        ...

    def failed(self, number: str | None, request: Request, entry: Entry) -> None:
        """Record a failed attempt of a call that continues."""
        ...

    def close(
        self, number: str | None, model: Model, request: Request, occurrence: int, entry: Entry, given: Recorded | None
    ) -> None:
        """Record a call's end; `given` is None for a failed one."""
        ...


class Call:
    """A request in flight, as an async context manager and an async iterator.

    Leaving the context before the end aborts the request; its tokens are then counted, not reported, and
    `max_tokens` is kept as the worst case. The entry is written once, at the end or at the abort, whatever happens;
    each failed attempt of the backend has its own. With a `recorder` the call is recorded, or replayed without calling
    the model.
    """

    def __init__(
        self,
        model: Model,
        request: Request,
        role: Role,
        ledger: Ledger,
        *,
        read_tokens: int = 0,
        recorder: Recorder | None = None,
        occurrence: int = 0,
    ) -> None:
        """`read_tokens` are the mentor tokens within the prompt (the published cost formula charges them)."""
        self.model = model
        self.request = request
        self.role: Role = role
        self.purpose: Purpose = request.purpose
        self.text = ""
        self.tokens = 0
        self.stats: list[TokenStat] = []
        self.finish_reason: FinishReason | None = None
        self.at_end_of_record = False  # what follows is a new cost
        self._ledger = ledger
        self._read_tokens = read_tokens
        self._recorder = recorder
        self._occurrence = occurrence
        self._recorded: Recorded | None = None
        self._number: str | None = None
        self._pieces: list[Piece] = []
        self._usage: Usage | None = None
        self._started = time.monotonic()
        self._before = 0  # tokens of failed attempts
        self._sent = False
        self._stream = self._deltas()
        self._closed = False

    @property
    def finished(self) -> bool:
        """Whether the model ended the stream (by itself or at the cap)."""
        return self.finish_reason is not None

    def require_end(self) -> Call:
        """Return the call; raises TandemError where its stream broke off without a finish reason."""
        if not self.finished:
            raise TandemError(f"{self.model.spec.name} ended its stream without a finish reason")
        return self

    async def read_to_end(self) -> Call:
        """Read what is left of the stream, and return the call, still open; raises as `require_end`."""
        async for _ in self:
            pass
        return self.require_end()

    async def complete(self) -> Call:
        """Read the call to its end and close it; raises as `require_end`."""
        async with self:
            async for _ in self:
                pass
        return self.require_end()

    def __aiter__(self) -> AsyncIterator[Delta]:
        return self

    async def __anext__(self) -> Delta:
        delta = await anext(self._stream)
        while delta.failed is not None:
            self._book_attempt(delta.failed)
            delta = await anext(self._stream)
        self.text += delta.text
        self.tokens += delta.tokens
        self.stats.extend(delta.stats)
        if delta.text or delta.tokens:
            self._pieces.append(Piece(len(delta.text), delta.tokens, len(delta.stats)))
        self.finish_reason = delta.finish_reason or self.finish_reason
        self._usage = delta.usage or self._usage
        given = self._recorded
        self.at_end_of_record = given is not None and len(self._pieces) == len(given.pieces) and not given.finish_reason
        return delta

    async def __aenter__(self) -> Call:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close(error=error)

    async def close(self, purpose: Purpose | None = None, error: BaseException | None = None) -> None:
        """End the call; `purpose` renames it first (a discarded draft becomes a `probe`)."""
        if self._closed:
            return
        self._closed = True
        self.purpose = purpose or self.purpose
        try:
            await self._stream.aclose()
        finally:
            self._book(error if isinstance(error, Exception) else None)

    async def _deltas(self) -> AsyncGenerator[Delta, None]:
        """Replay the recorded part of the call; then call the model."""
        given = None
        if self._recorder:
            await self._recorder.turn(self.model, self.request, self._occurrence)
            given = self._recorder.find(self.model, self.request, self._occurrence)
        self._recorded = given
        if given is not None:
            for delta in given.deltas():
                yield delta
            if given.finish_reason is not None:
                return
            self._book(None)  # the recorded part stays charged; now the whole call is made again
            self._recorded = None
        if self._recorder:
            self._number = await self._recorder.open(self.model, self.request, self.role, self._occurrence)
        self._sent, self._started = True, time.monotonic()
        async with aclosing(skip(self.model.stream(self.request), given.text if given else "")) as deltas:
            async for delta in deltas:
                yield delta

    def _book(self, error: Exception | None) -> None:
        given = self._recorded
        if given is not None and given.entry is not None:
            self._ledger.entries.append(given.entry.model_copy(update={"purpose": self.purpose}))
            return
        if given is None and not self._sent:
            return  # no request was made
        # If the reader stops early, it is charged as far as it was read, as with a model.
        whole = given is not None and (self.finished or given.finish_reason is None)
        usage = given.usage if given is not None and whole else self._final_usage(error)
        seconds = time.monotonic() - self._started
        if given is not None and given.seconds is not None:
            seconds = given.seconds * (self.tokens / given.tokens if given.tokens else 1.0)
        entry = self._entry(usage, seconds, self.purpose, error)
        if given is not None:
            self._ledger.entries.append(entry.model_copy(update={"paid": False}))
            return
        self._ledger.entries.append(entry)
        if self._recorder:
            kept = None if error else self._so_far(usage, entry)
            self._recorder.close(self._number, self.model, self.request, self._occurrence, entry, kept)

    def _book_attempt(self, attempt: Attempt) -> None:
        entry = self._entry(attempt.usage, attempt.seconds, self.purpose, attempt.error)
        self._ledger.entries.append(entry)
        self._usage, self._before, self._started = None, self.tokens, time.monotonic()
        if self._recorder:
            self._recorder.failed(self._number, self.request, entry)

    def _entry(self, usage: Usage, seconds: float, purpose: Purpose, error: Exception | str | None) -> Entry:
        entry = Entry.of(
            self.model.spec,
            self.role,
            purpose,
            usage,
            seconds=seconds,
            read_tokens=self._read_tokens,
            error=None if error is None else str(error) or type(error).__name__,
        )
        return entry.model_copy(update={"call": self._number}) if self._number else entry

    def _so_far(self, usage: Usage, entry: Entry) -> Recorded:
        pieces, stats = tuple(self._pieces), tuple(self.stats)
        return Recorded(self.text, pieces, stats, self.finish_reason, usage, entry, entry.seconds)

    def _final_usage(self, error: Exception | None) -> Usage:
        reported, request = self._usage, self.request
        if isinstance(error, EndpointError) and error.usage is not None:
            return error.usage
        if self.finished and reported is not None:
            return reported
        received = max(self.tokens - self._before, reported.completion if reported else 0)
        if not received and reported is None:
            if isinstance(error, TandemError) and not isinstance(error, EndpointError):
                return Usage()  # never sent: no key, or beyond the model's capabilities
            return request.worst
        # Cut: the prompt as the server reported it, else counted; the completion as received.
        return Usage(
            prompt=reported.prompt if reported else request.prompt_tokens(self.model.count),
            cached=reported.cached if reported else 0,
            cache_write=reported.cache_write if reported else 0,
            completion=received,
            reasoning=reported.reasoning if reported else 0,
            source="counted",
            completion_bound=None if self.finished else request.max_tokens,
            prompt_bound=None if reported else request.prompt_bound,
        )
