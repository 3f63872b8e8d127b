"""Models behind any OpenAI-compatible endpoint: OpenAI, OpenRouter, vLLM, SGLang, llama.cpp."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path

from tandem.ledger import Usage
from tandem.models.base import Completion, Delta, Request, gather
from tandem.models.openai.endpoint import Endpoint
from tandem.models.openai.errors import Backoff, Failure, stalled
from tandem.models.openai.probe import probe
from tandem.models.openai.request import Dialect, chat_body
from tandem.models.openai.stream import StreamReader
from tandem.models.tokens import TokenCounter
from tandem.spec import ModelSpec

_DRAIN = 0.1  # seconds for the end of a body after its last event, so that the connection can be used again


class OpenAIModel:
    """A model at an endpoint that speaks the chat-completions API. Nothing is connected before the first call.

    Calls may raise EndpointError, MissingKeyError and CapabilityError. Transient errors are retried until the first
    delta; a stream that breaks later is an EndpointError with `retryable` set, because its text is half out.
    """

    def __init__(
        self,
        spec: ModelSpec,
        *,
        base_url: str | None = None,
        api_key_env: str = "OPENAI_API_KEY",
        served_name: str | None = None,
        max_in_flight: int = 64,
        timeout: float = 600.0,
        retries: int = 6,
        tokenizer_path: Path | None = None,
    ) -> None:
        """Describe the endpoint.

        base_url: up to and with `/v1`; None is OpenAI's own.
        api_key_env: the variable that holds the key (OPENROUTER_API_KEY at openrouter.ai).
        served_name: the model's name at the endpoint, where it is not `spec.name`.
        max_in_flight: requests that may be open at once.
        timeout: seconds to the first token, and between two.
        retries: further tries of a call that failed before its first delta.
        tokenizer_path: tokenizer.json (or its folder) for `count` and `cut`; see TokenCounter.
        """
        self.spec = spec
        self._served = served_name or spec.name
        self._endpoint = Endpoint(base_url, api_key_env, self._served, max_in_flight=max_in_flight, timeout=timeout)
        # OpenAI and OpenRouter report usage at the end only.
        self._dialect = Dialect(usage="plain" if self._endpoint.hosted else "continuous")
        self._retries = retries
        self._tokens = TokenCounter(self._served, tokenizer_path)
        self._probed = False

    async def complete(self, request: Request) -> Completion:
        """Return the whole answer."""
        return await gather(self.stream(request))

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        """Yield the answer as it is written; closing the generator closes the connection, so that the server stops."""
        backoff, timeout = Backoff(self._retries), self._endpoint.timeout
        while True:
            dialect = self._dialect
            body = chat_body(self.spec, self._served, request, dialect)
            reader = StreamReader(
                self._endpoint.origin,
                vocabulary=self.spec.vocabulary,
                logprobs=bool(request.top_logprobs),
                prefix=request.prefix if isinstance(request.prefix, str) else "",
            )
            try:
                async with self._endpoint.slot(), self._endpoint.chat(body) as pieces:
                    heard = time.monotonic()
                    async for data in pieces:
                        for delta in reader.feed(data):
                            yield delta
                            heard = time.monotonic()  # after the yield: our reader's own pauses are no stall
                        if reader.done:
                            break
                        if time.monotonic() - heard > timeout:  # comments keep a connection alive, not a call
                            raise stalled(self._endpoint.origin, timeout)
                    else:
                        for delta in reader.feed(b"\n"):  # a last line without its line end
                            yield delta
                    await _drain(pieces)
                finish = reader.finish()
            except Failure as failure:
                await self._recover(failure, reader, dialect, backoff)
                continue
            yield Delta(finish_reason=finish, usage=reader.usage or self._counted(request, reader.tokens))
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

    async def aclose(self) -> None:
        """Close the connections; calls in flight end with an EndpointError."""
        await self._endpoint.aclose()

    async def _recover(self, failure: Failure, reader: StreamReader, dialect: Dialect, backoff: Backoff) -> None:
        """Prepare another try: in a narrower dialect, or after a pause; raises where there is none."""
        if failure.refused:
            raise failure
        if reader.started:
            message = f"{self._endpoint.origin.where}: the stream was cut after {reader.tokens} tokens ({failure})"
            raise Failure(message, retryable=True) from None
        if failure.status in (400, 422) and (narrower := dialect.narrower(failure.detail)):
            self._dialect = narrower  # found once, for all later calls
            return
        await backoff.wait(failure)

    def _counted(self, request: Request, tokens: int) -> Usage:
        prompt = sum(self.count(message.content) for message in request.messages)
        return Usage(prompt=prompt, completion=tokens, source="counted")


async def _drain(pieces: AsyncIterator[bytes]) -> None:
    with contextlib.suppress(Exception):  # the answer is complete: no trouble matters any more
        async with asyncio.timeout(_DRAIN):
            async for _ in pieces:
                pass
