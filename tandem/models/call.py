"""One metered call: deltas are read as far as they are wanted, and exactly one ledger entry comes of it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from types import TracebackType
from typing import TYPE_CHECKING

from tandem.ledger import Entry, Ledger, Purpose, Role, Usage
from tandem.models.base import Delta, FinishReason, Model, Request

if TYPE_CHECKING:
    from tandem.models.logprobs import TokenStat


class Call:
    """A request in flight, as an async context manager and an async iterator.

    Leaving the context before the end aborts the request; its tokens are then counted, not reported, and
    `max_tokens` is kept as the worst case. The entry is written once, at the end or at the abort, whatever happens.
    """

    def __init__(self, model: Model, request: Request, role: Role, ledger: Ledger, *, read_tokens: int = 0) -> None:
        """`read_tokens` are the mentor tokens within the prompt (the published cost formula charges them)."""
        self.model = model
        self.request = request
        self.role: Role = role
        self.purpose: Purpose = request.purpose
        self.text = ""
        self.tokens = 0
        self.stats: list[TokenStat] = []
        self.finish_reason: FinishReason | None = None
        self._ledger = ledger
        self._read_tokens = read_tokens
        self._usage: Usage | None = None
        self._started = time.monotonic()
        self._stream = model.stream(request)
        self._entered = False

    @property
    def finished(self) -> bool:
        """Whether the model ended the stream (by itself or at the cap)."""
        return self.finish_reason is not None

    def __aiter__(self) -> AsyncIterator[Delta]:
        return self

    async def __anext__(self) -> Delta:
        delta = await anext(self._stream)
        self.text += delta.text
        self.tokens += delta.tokens
        self.stats.extend(delta.stats)
        self.finish_reason = delta.finish_reason or self.finish_reason
        self._usage = delta.usage or self._usage
        return delta

    async def __aenter__(self) -> Call:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self, purpose: Purpose | None = None) -> None:
        """End the call; `purpose` renames it first (a discarded draft becomes a `probe`)."""
        if self._entered:
            return
        self._entered = True
        self.purpose = purpose or self.purpose
        try:
            await self._stream.aclose()
        finally:
            self._ledger.entries.append(
                Entry.of(
                    self.model.spec,
                    self.role,
                    self.purpose,
                    self._final_usage(),
                    seconds=time.monotonic() - self._started,
                    read_tokens=self._read_tokens,
                )
            )

    def _final_usage(self) -> Usage:
        if self.finished and self._usage is not None:
            return self._usage
        # Cut: the prompt as the server said it if it did, else counted; the completion as received.
        reported = self._usage
        prompt = reported.prompt if reported else sum(self.model.count(m.content) for m in self.request.messages)
        return Usage(
            prompt=prompt,
            cached=reported.cached if reported else 0,
            completion=max(self.tokens, reported.completion if reported else 0),
            reasoning=reported.reasoning if reported else 0,
            source="counted",
            completion_bound=None if self.finished else self.request.max_tokens,
        )
