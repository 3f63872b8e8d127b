"""One OpenAI-compatible endpoint: its address and key, the client behind it, and how many requests may be in flight."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tandem.errors import EndpointError, MissingKeyError
from tandem.models.openai.errors import Origin, from_exception

if TYPE_CHECKING:
    import openai

OPENAI_URL = "https://api.openai.com/v1"
Pieces = AbstractAsyncContextManager[AsyncIterator[bytes]]
_CONNECT_TIMEOUT = 10.0  # seconds


class Endpoint:
    """Sends requests and hands out the bytes that come back; every failure leaves as one of our errors.

    The client is built on first use and belongs to the event loop of that use; another loop gets another client.
    """

    def __init__(
        self, base_url: str | None, api_key_env: str, model: str, *, max_in_flight: int, timeout: float
    ) -> None:
        address = urlsplit(base_url or OPENAI_URL)
        path = address.path.rstrip("/") or "/v1"
        self.base_url = address._replace(path=path).geturl()
        host = address.hostname or self.base_url
        self.hosted = any(host == name or host.endswith(f".{name}") for name in ("openai.com", "openrouter.ai"))
        if host.endswith("openrouter.ai") and api_key_env == "OPENAI_API_KEY":
            api_key_env = "OPENROUTER_API_KEY"
        # User and password, if the address has any, stay out of messages.
        self.origin = Origin(address.netloc.rpartition("@")[2] or self.base_url, model, api_key_env)
        self.timeout = timeout
        self._max_in_flight = max_in_flight
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client: openai.AsyncOpenAI | None = None
        self._slots = asyncio.Semaphore(max_in_flight)
        self._closed = False

    def slot(self) -> asyncio.Semaphore:
        """Return the limit on requests in flight: hold it while a stream is open."""
        self._connected()
        return self._slots

    def chat(self, body: dict[str, Any]) -> Pieces:
        """Send a chat completion: the context yields the bytes of the answer; leaving it ends the request."""
        fields: Any = {name: body[name] for name in ("model", "messages", "stream")}
        return self._answer(lambda c: c.chat.completions.with_streaming_response.create(**fields, extra_body=body))

    def models(self) -> Pieces:
        """Ask for the list of models: the context yields the bytes of the answer."""
        return self._answer(lambda c: c.models.with_streaming_response.list())

    async def aclose(self) -> None:
        """Close the client for good; requests in flight end with an error."""
        self._closed = True
        client, self._client = self._client, None
        if client is not None and self._loop is asyncio.get_running_loop():
            await client.close()

    @asynccontextmanager
    async def _answer(self, send: Callable[[openai.AsyncOpenAI], Any]) -> AsyncIterator[AsyncIterator[bytes]]:
        client = self._connected()
        try:
            async with send(client) as response, aclosing(response.http_response.aiter_bytes()) as pieces:
                yield pieces
        except Exception as error:
            failure = from_exception(self.origin, error, self.timeout)
            if failure is None:
                raise
            raise (self._gone() if self._closed else failure) from None

    def _connected(self) -> openai.AsyncOpenAI:
        if self._closed:
            raise self._gone()
        loop = asyncio.get_running_loop()
        if self._client is None or self._loop is not loop:
            import openai

            self._client = openai.AsyncOpenAI(
                api_key=self._key(),
                base_url=self.base_url,
                timeout=openai.Timeout(self.timeout, connect=min(self.timeout, _CONNECT_TIMEOUT)),
                max_retries=0,  # tries are counted in one place, ours
                # Given, because the client's own one starts a task when it is collected, in whatever loop runs then.
                http_client=openai.DefaultAsyncHttpxClient(),
            )
            self._slots = asyncio.Semaphore(self._max_in_flight)
            self._loop = loop
        return self._client

    def _gone(self) -> EndpointError:
        return EndpointError(f"the connection to {self.origin.where} was closed")

    def _key(self) -> str:
        name = self.origin.key_env
        key = os.environ.get(name, "").strip()
        if not key and self.hosted:
            raise MissingKeyError(f"set {name} in the environment or in .env to use {self.origin.where}")
        return key or "none"  # most servers of one's own ask for no key
