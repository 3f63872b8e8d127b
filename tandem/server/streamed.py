"""A streamed response: it ends in time, gives back what its request held, and is never silent for long."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack

from fastapi import Request
from fastapi.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from tandem.server.service import Bill

_COMMENT: Message = {"type": "http.response.body", "body": b": keep-alive\n\n", "more_body": True}


class StreamedAnswer(StreamingResponse):
    """A stream that always releases its slot; Starlette cancels it when the client disconnects.

    It is aborted a little after the bill's deadline: a client that reads nothing would not see the 504 either. After
    each `keep_alive` seconds without a word (in the queue, while drafts are written) a comment is sent, which clients
    and proxies take for a sign of life.
    """

    def __init__(
        self,
        source: AsyncGenerator[bytes, None],
        held: AsyncExitStack,
        request: Request,
        bill: Bill,
        named: Mapping[str, str],
        keep_alive: float,
    ) -> None:
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no", **named}
        super().__init__(source, media_type="text/event-stream", headers=headers)
        self._source, self._held, self._request, self._bill = source, held, request, bill
        self._every = keep_alive

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        limit = asyncio.timeout(None)
        self._bill.limit_by(limit)
        alive = _KeepAlive(send, self._every)
        try:
            async with limit:
                await super().__call__(scope, receive, alive.send)
        except TimeoutError:
            if not limit.expired():
                raise
            self._bill.failed = 504
        finally:
            await alive.aclose()
            await self._source.aclose()
            await self._held.aclose()
            if self._bill.failed:
                self._request.state.status = self._bill.failed


class _KeepAlive:
    """Sends a response's messages, and comments while there are none: by a timer, which costs a chunk nothing."""

    def __init__(self, send: Send, every: float) -> None:
        self._send, self._every = send, every
        self._loop = asyncio.get_running_loop()
        self._last = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._comment: asyncio.Task[None] | None = None
        self._over = False

    async def send(self, message: Message) -> None:
        self._last = self._loop.time()
        if message["type"] == "http.response.start":
            self._timer = self._loop.call_later(self._every, self._look)
        elif not message.get("more_body", False):
            self._over = True
        await self._send(message)

    async def aclose(self) -> None:
        self._over = True
        if self._timer:
            self._timer.cancel()
        if self._comment:
            self._comment.cancel()
            await asyncio.gather(self._comment, return_exceptions=True)

    def _look(self) -> None:
        silent = self._loop.time() - self._last
        if silent >= self._every and (self._comment is None or self._comment.done()):  # else the client does not read
            self._comment = self._loop.create_task(self._say())
        left = self._every - silent if silent < self._every else self._every
        self._timer = self._loop.call_later(left, self._look)

    async def _say(self) -> None:
        if not self._over:
            self._last = self._loop.time()
            with contextlib.suppress(Exception):  # the answer's own next piece finds what is wrong with the connection
                await self._send(_COMMENT)
