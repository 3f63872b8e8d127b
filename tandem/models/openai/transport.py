"""One OpenAI-compatible endpoint: its address and keys, the client behind it, and the limit on requests in flight."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tandem.errors import MissingKeyError
from tandem.ledger import Role
from tandem.models.openai.api_keys import ApiKeys
from tandem.models.openai.errors import LONGEST_WAIT, Backoff, Failure, Origin, from_exception
from tandem.models.openai.limiter import Limiter, Slot

if TYPE_CHECKING:
    import openai

OPENAI_URL = "https://api.openai.com/v1"
Pieces = AbstractAsyncContextManager[AsyncIterator[bytes]]
_CONNECT_TIMEOUT = 10.0  # seconds
_PER_CLIENT = 128  # requests in flight: a client looks at all of its connections for each request
_BUSY = {429, 503}


class Endpoint:
    """Sends requests and hands out the bytes that come back; every failure leaves as one of our errors.

    A client is built on first use, and another one for each further 128 requests in flight. They belong to the event
    loop of that use; another loop gets others.
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
        self.keys = ApiKeys(host, role, api_key_env)
        self.model = model  # as it was asked for; `origin` has the name that the endpoint gives it
        # User and password, if the address has any, stay out of messages.
        self.origin = Origin(address.netloc.rpartition("@")[2] or self.base_url, model, self.keys)
        self.timeout = timeout
        self._max_in_flight = max_in_flight
        self._loop: asyncio.AbstractEventLoop | None = None
        self._clients: list[openai.AsyncOpenAI] = []
        self._sent = 0
        self.limiter = Limiter(max_in_flight)
        self._closed = False

    def serves_as(self, name: str) -> None:
        """Note what the endpoint calls the model: requests from now on ask for that."""
        if name != self.origin.model:
            self.origin = replace(self.origin, model=name)

    def slot(self) -> Slot:
        """Return a place among the requests in flight: enter it to wait for it, and hold it to the answer's end."""
        self._connected()
        return self.limiter.slot()

    def chat(self, body: dict[str, Any], slot: Slot) -> Pieces:
        """Send a chat completion: the context yields the bytes of the answer; leaving it ends the request."""
        # The messages go as a part of `extra_body` alone, which replaces fields and is sent as it is.
        fields: Any = {"model": body["model"], "messages": [], "stream": body["stream"], "extra_body": body}
        return self._answer(slot, lambda c: c.chat.completions.with_streaming_response.create(**fields))

    def completion(self, body: dict[str, Any], slot: Slot) -> Pieces:
        fields: Any = {"model": body["model"], "prompt": "", "stream": body["stream"], "extra_body": body}
        return self._answer(slot, lambda c: c.completions.with_streaming_response.create(**fields))

    async def fetch(self, send: Callable[[Slot], Pieces], backoff: Backoff, final: Collection[int] = ()) -> bytes:
        """Return a whole answer, asked for again as `backoff` allows; a status in `final` is not retried."""
        while True:
            try:
                async with self.slot() as slot, send(slot) as pieces:
                    return b"".join([piece async for piece in pieces])
            except Failure as failure:
                if failure.status in final:
                    raise
                await backoff.wait(failure)

    async def beside(self, path: str, body: dict[str, Any]) -> Any:
        """Send to a path beside `/v1` (vLLM has its tokenizer there), and return the JSON that comes back."""
        async with self._answer(None, lambda c: _posted(c, self.base_url.removesuffix("/v1") + path, body)) as pieces:
            answer = b"".join([piece async for piece in pieces])
        try:
            return json.loads(answer)
        except ValueError:
            raise Failure(f"{self.origin.where} answers {path} without JSON", status=501) from None

    def models(self, slot: Slot) -> Pieces:
        return self._answer(slot, lambda c: c.models.with_streaming_response.list())

    async def aclose(self) -> None:
        """Close the client for good; requests in flight end with an error."""
        self._closed = True
        await self.disconnect()

    async def disconnect(self) -> None:
        """Break the connections: requests in flight fail and may be made again; the next one connects anew."""
        clients, self._clients = self._clients, []
        if self._loop is asyncio.get_running_loop():
            for client in clients:
                await client.close()

    @asynccontextmanager
    async def _answer(
        self, slot: Slot | None, send: Callable[[openai.AsyncOpenAI], Any]
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        self._connected()
        self._sent += 1
        client = self._clients[self._sent % len(self._clients)]
        try:
            async with send(client) as response, aclosing(response.http_response.aiter_bytes()) as pieces:
                if slot:
                    slot.let_in()
                yield pieces
        except Exception as error:
            failure = from_exception(self.origin, error, self.timeout)
            if failure is None:
                raise
            if slot and failure.status in _BUSY and failure.retryable:
                # A very long wait (a daily quota) is reported by each call, not waited for.
                slot.refused(failure.after if (failure.after or 0) <= LONGEST_WAIT else None)
            raise (self._gone() if self._closed else failure) from None

    def _connected(self) -> None:
        if self._closed:
            raise self._gone(free=True)
        loop = asyncio.get_running_loop()
        if not self._clients or self._loop is not loop:
            self._clients = [self._client()]
            self.limiter = Limiter(self._max_in_flight)
            self._loop = loop
        elif self.limiter.in_flight > _PER_CLIENT * len(self._clients):
            self._clients.append(self._client())

    def _client(self) -> openai.AsyncOpenAI:
        import httpx
        import openai

        if not (key := self.keys.key) and self.keys.own:
            raise MissingKeyError(f"{self.keys.advice} in the environment or in .env to use {self.origin.where}")
        # The limiter alone decides how many connections there are; all of them may be used again.
        limits: Any = httpx.Limits(max_connections=None, max_keepalive_connections=self._max_in_flight)
        return openai.AsyncOpenAI(
            api_key=key or "none",  # most self-hosted servers need no key
            base_url=self.base_url,
            timeout=openai.Timeout(self.timeout, connect=min(self.timeout, _CONNECT_TIMEOUT)),
            max_retries=0,  # tries are counted in one place, ours
            # Explicit, because the client's own one starts a task when garbage-collected, in whatever loop runs then.
            http_client=openai.DefaultAsyncHttpxClient(limits=limits),
        )

    def _gone(self, *, free: bool = False) -> Failure:
        return Failure(f"the connection to {self.origin.where} was closed", free=free)


@asynccontextmanager
async def _posted(client: openai.AsyncOpenAI, url: str, body: dict[str, Any]) -> AsyncIterator[Any]:
    """Send what the client has no method for; yield the answer as its streamed ones do."""
    import httpx

    yield SimpleNamespace(http_response=await client.post(url, cast_to=httpx.Response, body=body))
