"""Models behind any OpenAI-compatible endpoint: OpenAI, OpenRouter, vLLM, SGLang, llama.cpp."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tandem.errors import EndpointError
from tandem.ledger import Role
from tandem.models.base import Completion, Delta, Request, gather
from tandem.models.openai.attempt import Attempt, Handed
from tandem.models.openai.endpoint import Endpoint
from tandem.models.openai.errors import Backoff, Failure, stalled
from tandem.models.openai.probe import probe, served_context
from tandem.models.openai.request import Dialect, chat_body
from tandem.models.openai.stream import StreamReader
from tandem.models.skip import skip
from tandem.models.tokens import TokenCounter
from tandem.spec import ModelSpec

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
            body = chat_body(self.spec, self._served, part, dialect)
            attempt = Attempt(part, known, self._reader(part, inside=handed.inside), self.count)
            broken: Failure | None = None
            try:
                deltas = self._deltas(body, attempt)
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
                if not (handed.full and failure.retryable):
                    failed = attempt.failed(failure)
                    pause = handed.pause(failed, attempt, backoff)
                    yield Delta(failed=attempt.report(failed))
                    await asyncio.sleep(pause)
                    continue
                finish, usage = "length", attempt.cut()  # all is there, only its end was lost
            yield Delta(finish_reason=finish, usage=usage)
            return

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
            logprobs=bool(request.top_logprobs),
            prefix=request.prefix if isinstance(request.prefix, str) else "",
            inside=inside,
        )

    async def _deltas(self, body: dict[str, Any], attempt: Attempt) -> AsyncGenerator[Delta, None]:
        """Yield the deltas of one try."""
        endpoint, reader, timeout = self._endpoint, attempt.reader, self._endpoint.timeout
        async with endpoint.turn() as turn:
            attempt.began = heard = time.monotonic()
            async with endpoint.chat(body, turn) as pieces:
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
