"""One answer over several attempts: the cost of each, the text yielded so far, and how the next one continues."""

from __future__ import annotations

import asyncio
import contextlib
import time
from array import array
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Protocol

from tandem.errors import CapabilityError, EndpointError
from tandem.ledger import Usage
from tandem.models.base import Attempt, Delta, Request
from tandem.models.openai.errors import Backoff, Failure, has_no_tools, refuses_tools, stalled
from tandem.models.openai.limiter import Slot
from tandem.models.openai.request import Dialect, as_taken, chat_body, completion_body, refuses_form
from tandem.models.openai.stream import StreamReader
from tandem.models.openai.token_ids import REFUSED, Written, prompt_ids
from tandem.models.openai.transport import Endpoint, Pieces
from tandem.models.skip import skip
from tandem.models.tool_prompt import has_tools
from tandem.spec import Continuation, ModelSpec
from tandem.tools import ADVICE

_NO_COMPLETIONS = {404, 405, 501}
_DRAIN = 0.1  # seconds for the end of a body after its last event, so that the connection can be used again


class Target(Protocol):
    """A model at one endpoint, with the discovered properties."""

    spec: ModelSpec
    endpoint: Endpoint
    dialect: Dialect
    written: Written

    def count(self, text: str) -> int: ...


class RetryPolicy(Protocol):
    async def target(self) -> Target: ...

    def pause(self, failure: Failure) -> float:
        """Return the seconds before the next attempt; raises the failure if there is none."""
        ...


class RetryHere(Backoff):
    """The policy of a single endpoint: exponential backoff."""

    def __init__(self, target: Target, retries: int) -> None:
        super().__init__(retries)
        self._target = target

    async def target(self) -> Target:
        return self._target


class ResumableAnswer:
    """The answer to one request, over all its attempts.

    A model that continues text (`native`) resumes a broken stream where it stopped. Another one writes the answer
    again, and the known beginning is skipped; impossible if tokens are sampled at random (`repeats` is False).
    """

    def __init__(self, spec: ModelSpec, request: Request) -> None:
        sampling = request.sampling
        self.request = request
        self._opened = bool(spec.opens_thinking)
        self._repeats = not spec.reasoning and (sampling.temperature == 0 or sampling.seed is not None)
        # What is written behind a prefix of ids has no text that another try could be held against; and behind a text
        # that a model did not write, it may give a call as text.
        continues = spec.continuation is Continuation.NATIVE
        # Nor does a raw prompt: it may be ids, and another try reads it again.
        by_text = request.raw is None and not isinstance(request.prefix, tuple)
        self._native = continues and by_text and request.tools is None
        self._tokens = 0
        self._texts: list[str] = []
        self._inside = False  # the next try goes on within a thinking block
        self._ids: array[int] | None = None  # of the next try's prefix, where they are known
        # A prefix goes by its ids where the endpoint takes them; but a completion of ids has no tools.
        self._by_ids = request.tools is None
        self._formed = True  # the answer's form is more than words

    async def stream(self, policy: RetryPolicy) -> AsyncGenerator[Delta, None]:
        """Yield the answer, and each try that failed (`Delta.failed`).

        Raises the Failure of the last try, with what it cost, when `policy` allows no other one. An answer that becomes
        another text when it is written once more is an EndpointError with `retryable` set.
        """
        while True:
            target = await policy.target()
            attempt = self._next(target)
            broken: Failure | None = None
            try:
                deltas = attempt.deltas()
                async with aclosing(skip(deltas, attempt.known) if attempt.known else deltas) as new:
                    async for delta in new:
                        self._tokens += delta.tokens
                        if delta.text:
                            self._texts.append(delta.text)
                        yield delta
            except Failure as failure:
                broken = failure
            except EndpointError as error:  # the repeated answer was a different text
                error.usage = attempt.cut()
                raise
            try:
                finish = attempt.reader.finish(broken)
                usage = attempt.cut() if broken else attempt.ended()
            except Failure as failure:
                if self._adapts(attempt, failure):
                    continue
                if self._tokens < self.request.max_tokens or not failure.retryable:
                    failed = attempt.failed(failure)
                    pause = self._pause(failed, attempt, policy)
                    yield Delta(failed=attempt.report(failed))
                    await asyncio.sleep(pause)
                    continue
                finish, usage = "length", attempt.cut()  # complete, only the end marker was lost
            if not attempt.reader.explained and self._tokens >= self.request.max_tokens:
                finish = "length"
            if (call := attempt.call(usage)) is not None:
                yield call
            if finish == "length":
                target.written.keep(self.request, self._text, attempt.ids)
            yield Delta(finish_reason=finish, usage=usage)
            return

    @property
    def _text(self) -> str:
        return "".join(self._texts)

    def _next(self, target: Target) -> Try:
        text, request, known = self._text, self.request, ""
        if text and self._native:
            prefix = request.prefix if isinstance(request.prefix, str) else ""
            request = replace(request, prefix=prefix + text, max_tokens=request.max_tokens - self._tokens)
        else:
            known = text
        by_ids = request.prefix is not None and target.spec.token_ids and target.dialect.ids and self._by_ids
        opened = self._opened and request.prefix is None and request.raw is None
        dialect = target.dialect if self._formed else replace(target.dialect, form="none")
        return Try(target, dialect, request, known, by_ids=by_ids, ids=self._ids, inside=self._inside, opened=opened)

    def _adapts(self, attempt: Try, failure: Failure) -> bool:
        """Whether the next try is the same in a form that this endpoint takes; the one that failed cost nothing.

        Raises CapabilityError where it takes no tools.
        """
        target, dialect, fresh = attempt.target, attempt.dialect, not attempt.reader.started
        narrower = dialect.narrower(failure.detail) if failure.status in (400, 422) else None
        if narrower and fresh:
            # Found once, for all later calls.
            target.dialect = narrower if self._formed else replace(narrower, form=target.dialect.form)
            return True
        formed = self._formed and attempt.request.response_format is not None and fresh
        if formed and failure.status in REFUSED and refuses_form(failure.detail):
            self._formed = False  # it does not take this schema; whoever reads the answer checks it
            return True
        if attempt.request.raw is not None and failure.status in _NO_COMPLETIONS:
            raise CapabilityError(f"'{target.spec.name}' takes no raw prompt here ({failure})") from failure
        if refuses_tools(failure) and (attempt.request.tools or has_tools(attempt.request.messages)):
            if has_no_tools(failure) and dialect.tools and fresh and attempt.textual:
                target.dialect = replace(dialect, tools=False)
                return True
            advice = "does not take these tools" if attempt.textual else f"takes no tools here, {ADVICE}"
            raise CapabilityError(f"'{target.spec.name}' {advice} ({failure})") from failure
        if not (attempt.by_ids and isinstance(attempt.request.prefix, str) and fresh and failure.status in REFUSED):
            return False
        self._by_ids = False
        if failure.status not in (400, 422):
            target.dialect = replace(dialect, ids=False)
        return True

    def _pause(self, failure: Failure, attempt: Try, policy: RetryPolicy) -> float:
        if attempt.request.prefix != self.request.prefix and failure.status in (400, 422):
            self._native = False  # this text it does not continue (a template may drop its thinking)
            failure.retryable = True
        self._inside = self._native and attempt.reader.inside
        if attempt.reader.started:
            self._ids = attempt.ids
        pause = policy.pause(failure)
        if self._texts and not (self._native or self._repeats):
            raise failure  # no other try can go on with what came
        return pause


class Try:
    """One try: the request as it is sent, the reader of what comes back, and the usage that this makes.

    `known` is the beginning of the answer that was yielded before and comes once more. `ids` may be those of the
    request's prefix, for a try `by_ids`. Raises CapabilityError as `chat_body` does.
    """

    def __init__(
        self,
        target: Target,
        dialect: Dialect,
        request: Request,
        known: str,
        *,
        by_ids: bool,
        ids: Sequence[int] | None,
        inside: bool,
        opened: bool,
    ) -> None:
        self.target = target
        self.dialect = dialect
        self._asked = request
        self.request = request = as_taken(request, target.spec, dialect)
        self.known = known
        self.by_ids = by_ids
        self.reader = StreamReader(
            target.endpoint.origin,
            vocabulary=target.spec.vocabulary,
            logprobs=request.top_logprobs or 0,
            prefix=request.prefix if isinstance(request.prefix, str) else "",
            inside=inside and not by_ids,
            opened=opened,
            tools=request.tools,
            scored=request.alternatives is not None,
        )
        beside = by_ids or request.raw is not None
        self._chat = None if beside else chat_body(target.spec, target.endpoint.origin.model, request, self.dialect)
        self._known_ids = ids
        self._prefix: Sequence[int] | None = None if request.prefix else ()  # its ids, as far as they are known
        self._began = time.monotonic()  # set anew when it is sent
        self._prompt: int | None = None

    async def deltas(self) -> AsyncGenerator[Delta, None]:
        endpoint, reader = self.target.endpoint, self.reader
        async with endpoint.slot() as slot:
            self._began = heard = time.monotonic()
            async with await self._send(slot) as pieces:
                async for data in pieces:
                    for delta in reader.feed(data):
                        # What is written once more is not yielded; the usage counts it.
                        yield replace(delta, usage=self.cut()) if self.known else delta
                        heard = time.monotonic()  # after the yield: our reader's own pauses are no stall
                    if reader.done:
                        break
                    if time.monotonic() - heard > endpoint.timeout:  # comments keep a connection alive, not a call
                        raise stalled(endpoint.origin, endpoint.timeout)
                else:
                    for delta in reader.end():
                        yield delta
                await _drain(pieces)

    @property
    def textual(self) -> bool:
        """Whether tools may also be given as text."""
        return self.request.tools is None or self.request.tools.textual

    @property
    def ids(self) -> array[int] | None:
        """The ids of the prefix and of all that came behind it; None where they are not known."""
        came = self.reader.ids
        return None if self._prefix is None or came is None else array("i", self._prefix) + came

    def ended(self) -> Usage:
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
        if not (text := self.reader.call):
            return None
        # Chunks are counted as they come, and a server may send a whole call in one: its report knows better.
        apart = self.reader.tokens - self.reader.held
        reported = usage.completion - usage.reasoning - apart if usage.source == "reported" else 0
        return Delta(text, max(self.reader.held, reported), self.reader.held_stats)

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

    def report(self, failure: Failure) -> Attempt:
        return Attempt(str(failure), failure.usage or Usage(), time.monotonic() - self._began)

    async def _send(self, slot: Slot) -> Pieces:
        target, request = self.target, self.request
        if self._chat is not None:
            return target.endpoint.chat(self._chat, slot)
        prompt = request.raw
        if prompt is None:
            known = target.written.find(self._asked) if self._known_ids is None else self._known_ids
            template, self._prefix = await prompt_ids(target.endpoint, request, known)
            prompt = (*template, *self._prefix)
        body = completion_body(target.spec, target.endpoint.origin.model, request, self.dialect, prompt)
        return target.endpoint.completion(body, slot)

    def _counted(self) -> int:
        if self._prompt is None:
            self._prompt = self.request.prompt_tokens(self.target.count)
        return self._prompt


async def _drain(pieces: AsyncIterator[bytes]) -> None:
    with contextlib.suppress(Exception):  # the answer is complete: no trouble matters any more
        async with asyncio.timeout(_DRAIN):
            async for _ in pieces:
                pass
