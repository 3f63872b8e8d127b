"""One OpenAI-compatible endpoint: its address and keys, the client behind it, and the limit on requests in flight."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tandem.errors import MissingKeyError
from tandem.ledger import Role
from tandem.models.openai.errors import LONGEST_WAIT, Failure, Origin, from_exception
from tandem.models.openai.keys import Keys
from tandem.models.openai.limiter import Limiter, Slot

if TYPE_CHECKING:
    import openai

OPENAI_URL = "https://api.openai.com/v1"
Pieces = AbstractAsyncContextManager[AsyncIterator[bytes]]
_CONNECT_TIMEOUT = 10.0  # seconds
_BUSY = {429, 503}


class Endpoint:
    """Sends requests and hands out the bytes that come back; every failure leaves as one of our errors.

    The client is built on first use and belongs to the event loop of that use; another loop gets another client.
    """

    def __init__(
        self,
        base_url: str | None,
        model: str,
        *,
        role: Role | None,
        api_key_env: str | None,
        max_in_flight: int,
        timeout: float,
    ) -> None:
        address = urlsplit(base_url or OPENAI_URL)
        path = address.path.rstrip("/") or "/v1"
        self.base_url = address._replace(path=path).geturl()
        host = address.hostname or self.base_url
        self.keys = Keys(host, role, api_key_env)
        # User and password, if the address has any, stay out of messages.
        self.origin = Origin(address.netloc.rpartition("@")[2] or self.base_url, model, self.keys)
        self.timeout = timeout
        self._max_in_flight = max_in_flight
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client: openai.AsyncOpenAI | None = None
        self.limiter = Limiter(max_in_flight)
        self._closed = False

    def turn(self) -> Slot:
        """Return a place among the requests in flight: enter it to wait for it, and hold it to the answer's end."""
        self._connected()
        return self.limiter.slot()

    def chat(self, body: dict[str, Any], turn: Slot) -> Pieces:
        """Send a chat completion: the context yields the bytes of the answer; leaving it ends the request."""
        # The messages go as a part of `extra_body` alone, which replaces fields and is sent as it is.
        fields: Any = {"model": body["model"], "messages": [], "stream": body["stream"], "extra_body": body}
        return self._answer(turn, lambda c: c.chat.completions.with_streaming_response.create(**fields))

    def models(self, turn: Slot) -> Pieces:
        """Ask for the list of models: the context yields the bytes of the answer."""
        return self._answer(turn, lambda c: c.models.with_streaming_response.list())

    async def aclose(self) -> None:
        """Close the client for good; requests in flight end with an error."""
        self._closed = True
        client, self._client = self._client, None
        if client is not None and self._loop is asyncio.get_running_loop():
            await client.close()

    @asynccontextmanager
    async def _answer(
        self, turn: Slot, send: Callable[[openai.AsyncOpenAI], Any]
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        client = self._connected()
        try:
            async with send(client) as response, aclosing(response.http_response.aiter_bytes()) as pieces:
                turn.let_in()
                yield pieces
        except Exception as error:
            failure = from_exception(self.origin, error, self.timeout)
            if failure is None:
                raise
            if failure.status in _BUSY and failure.retryable:
                # A very long wait (a daily quota) is for each call to report, not for all to sit out.
                turn.refused(failure.after if (failure.after or 0) <= LONGEST_WAIT else None)
            raise (self._gone() if self._closed else failure) from None

    def _connected(self) -> openai.AsyncOpenAI:
        if self._closed:
            raise self._gone(free=True)
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
            self.limiter = Limiter(self._max_in_flight)
            self._loop = loop
        return self._client

    def _gone(self, *, free: bool = False) -> Failure:
        return Failure(f"the connection to {self.origin.where} was closed", free=free)

    def _key(self) -> str:
        if not (key := self.keys.key) and self.keys.own:
            raise MissingKeyError(f"{self.keys.advice} in the environment or in .env to use {self.origin.where}")
        return key or "none"  # most servers of one's own ask for no key
