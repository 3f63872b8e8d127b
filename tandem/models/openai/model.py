"""Models behind any OpenAI-compatible endpoint: OpenAI, OpenRouter, vLLM, SGLang, llama.cpp."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias
from urllib.parse import urlsplit

from tandem.errors import CapabilityError, EndpointError
from tandem.ledger import Role
from tandem.models.base import Completion, Delta, Reading, Request, gather
from tandem.models.openai.endpoint import Endpoint, Pieces
from tandem.models.openai.errors import Backoff, Failure, refuses_tools, stalled
from tandem.models.openai.fields import read_text
from tandem.models.openai.ids import REFUSED, Written, prompt_ids
from tandem.models.openai.limiter import Slot
from tandem.models.openai.probe import probe, served_context, served_weights
from tandem.models.openai.request import Dialect, chat_body, completion_body
from tandem.models.openai.stream import StreamReader
from tandem.models.openai.tries import Handed, Try
from tandem.models.skip import skip
from tandem.models.tokens import TokenCounter
from tandem.models.tools import ADVICE
from tandem.spec import ModelSpec

Send: TypeAlias = Callable[[Try, Slot], Awaitable[Pieces]]

_DRAIN = 0.1  # seconds for the end of a body after its last event, so that the connection can be used again


class OpenAIModel:
    """A model at an endpoint that speaks the chat-completions API. Nothing is connected before the first call.

    Calls may raise EndpointError, MissingKeyError and CapabilityError. Transient errors are retried, and every try that
    failed is reported (`Delta.failed`). A stream that breaks is taken up where it stopped if the model continues text;
    else the answer is written again and the part that is known is left out; a text that is another the second time
    is an EndpointError with `retryable` set.
    """

    def __init__(
        self,
        spec: ModelSpec,
        *,
        base_url: str | None = None,
        role: Role | None = None,
        api_key_env: str | None = None,
        served_name: str | None = None,
        max_in_flight: int = 64,
        timeout: float = 600.0,
        retries: int = 6,
        tokenizer_path: Path | None = None,
    ) -> None:
        """Describe the endpoint.

        base_url: up to and with `/v1`; None is OpenAI's own.
        role: whose key it gets, see `Keys`.
        api_key_env: the variable that holds the key, whatever the endpoint.
        served_name: the model's name at the endpoint, where it is not `spec.name`.
        max_in_flight: requests that may be open at once, where the endpoint takes as many.
        timeout: seconds to the first token, and between two.
        retries: further tries of a call.
        tokenizer_path: tokenizer.json (or its folder) for `count` and `cut`; see TokenCounter.
        """
        self.spec = spec
        self._served = served_name or spec.name
        self._endpoint = Endpoint(
            base_url, self._served, role=role, api_key_env=api_key_env, max_in_flight=max_in_flight, timeout=timeout
        )
        self.address = f"{self._endpoint.origin.where}{urlsplit(self._endpoint.base_url).path} {self._served}"
        # OpenAI and OpenRouter report usage at the end only.
        self._dialect = Dialect(usage="plain" if self._endpoint.keys.own else "continuous")
        self._retries = retries
        self._tokens = TokenCounter(self._served, tokenizer_path)
        self._written = Written()
        self._probed = False

    async def complete(self, request: Request) -> Completion:
        """Return the whole answer."""
        return await gather(self.stream(request))

    def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        """Yield the answer as it is written; closing the generator closes the connection, so that the server stops."""
        return self.resume(Handed.of(self.spec, request), Backoff(self._retries))

    async def resume(self, handed: Handed, backoff: Backoff) -> AsyncGenerator[Delta, None]:
        """Yield what is missing of a call, of which other endpoints may have given a part.

        Raises the Failure of the last try, with what it cost, when `backoff` allows no other one here.
        """
        while True:
            dialect, (part, known) = self._dialect, handed.next()
            by_ids = part.prefix is not None and self.spec.token_ids and dialect.ids and handed.by_ids
            send = self._by_ids(dialect, handed.ids) if by_ids else self._by_chat(part, dialect)
            attempt = Try(part, known, self._reader(part, inside=handed.inside and not by_ids), self.count)
            broken: Failure | None = None
            try:
                deltas = self._deltas(send, attempt)
                async with aclosing(skip(deltas, known) if known else deltas) as new:
                    async for delta in new:
                        handed.take(delta)
                        yield delta
            except Failure as failure:
                broken = failure
            except EndpointError as error:  # written once more, it became another text
                error.usage = attempt.cut()
                raise
            try:
                finish = attempt.reader.finish(broken)
                usage = attempt.cut() if broken else attempt.ended()
            except Failure as failure:
                narrower = dialect.narrower(failure.detail) if failure.status in (400, 422) else None
                if narrower and not attempt.reader.started:
                    self._dialect = narrower  # found once, for all later calls; nothing was paid
                    continue
                if part.tool and refuses_tools(failure):
                    raise CapabilityError(f"'{self.spec.name}' takes no tools here, {ADVICE} ({failure})") from failure
                to_chat = by_ids and isinstance(part.prefix, str) and not attempt.reader.started
                if to_chat and failure.status in REFUSED:
                    handed.by_ids = False
                    if failure.status not in (400, 422):
                        self._dialect = replace(dialect, ids=False)
                    continue
                if not (handed.full and failure.retryable):
                    failed = attempt.failed(failure)
                    pause = handed.pause(failed, attempt, backoff)
                    yield Delta(failed=attempt.report(failed))
                    await asyncio.sleep(pause)
                    continue
                finish, usage = "length", attempt.cut()  # all is there, only its end was lost
            if (call := attempt.call(usage)) is not None:
                yield call
            if finish == "length":
                self._written.keep(handed.request, handed.text, attempt.ids)
            yield Delta(finish_reason=finish, usage=usage)
            return

    async def read(self, text: str, *, top_logprobs: int = 20, max_tokens: int | None = None) -> Reading:
        """Read `text` without answering it, see `Reads`. Raises CapabilityError where the endpoint cannot."""
        kept = text if max_tokens is None else self.cut(text, max_tokens)
        return await read_text(self._endpoint, self.spec, self._served, kept, top_logprobs, Backoff(self._retries))

    def cut(self, text: str, tokens: int) -> str:
        """Return the longest beginning of `text` with at most `tokens` tokens, as well as they are known here."""
        return self._tokens.cut(text, tokens)

    def count(self, text: str) -> int:
        """Return how many tokens `text` has, as well as they are known here."""
        return self._tokens.count(text)

    async def probe(self) -> ModelSpec:
        """Find out whether the model is served and what it can do, once; return and keep the completed spec."""
        if not self._probed:
            self.spec = await probe(self._endpoint, self.spec)
            self._probed = True
        return self.spec

    async def check(self) -> int | None:
        """Ask once whether the model is served; return its context, where the endpoint says it.

        Raises EndpointError if the endpoint is down or does not serve the model.
        """
        return await served_context(self._endpoint)

    async def weights(self) -> str | None:
        """Return what the endpoint calls the weights that it serves, None where it does not; raises as `check` does."""
        return await served_weights(self._endpoint)

    async def disconnect(self) -> None:
        """Break the connections: calls in flight fail as if the endpoint had done it, and later ones connect anew."""
        await self._endpoint.disconnect()

    async def aclose(self) -> None:
        """Close the connections; calls in flight end with an EndpointError."""
        await self._endpoint.aclose()

    def _reader(self, request: Request, *, inside: bool) -> StreamReader:
        return StreamReader(
            self._endpoint.origin,
            vocabulary=self.spec.vocabulary,
            logprobs=request.top_logprobs or 0,
            prefix=request.prefix if isinstance(request.prefix, str) else "",
            inside=inside,
            tool=request.tool is not None,
        )

    def _by_chat(self, request: Request, dialect: Dialect) -> Send:
        """Return what sends a try as a chat; raises CapabilityError as `chat_body` does."""
        body = chat_body(self.spec, self._served, request, dialect)

        async def send(attempt: Try, turn: Slot) -> Pieces:
            return self._endpoint.chat(body, turn)

        return send

    def _by_ids(self, dialect: Dialect, known: Sequence[int] | None) -> Send:
        """Return what sends a try as the ids of its messages and of its prefix; `known` may be those of the prefix."""

        async def send(attempt: Try, turn: Slot) -> Pieces:
            request = attempt.request
            template, attempt.prefix = await prompt_ids(
                self._endpoint, request, known if known is not None else self._written.find(request)
            )
            prompt = [*template, *attempt.prefix]
            return self._endpoint.completion(completion_body(self.spec, self._served, request, dialect, prompt), turn)

        return send

    async def _deltas(self, send: Send, attempt: Try) -> AsyncGenerator[Delta, None]:
        """Yield the deltas of one try."""
        endpoint, reader, timeout = self._endpoint, attempt.reader, self._endpoint.timeout
        async with endpoint.turn() as turn:
            attempt.began = heard = time.monotonic()
            async with await send(attempt, turn) as pieces:
                async for data in pieces:
                    for delta in reader.feed(data):
                        # What is written once more is not handed out: the usage tells of it.
                        yield replace(delta, usage=attempt.cut()) if attempt.known else delta
                        heard = time.monotonic()  # after the yield: our reader's own pauses are no stall
                    if reader.done:
                        break
                    if time.monotonic() - heard > timeout:  # comments keep a connection alive, not a call
                        raise stalled(endpoint.origin, timeout)
                else:
                    for delta in reader.feed(b"\n"):  # a last line without its line end
                        yield delta
                await _drain(pieces)


async def _drain(pieces: AsyncIterator[bytes]) -> None:
    with contextlib.suppress(Exception):  # the answer is complete: no trouble matters any more
        async with asyncio.timeout(_DRAIN):
            async for _ in pieces:
                pass
