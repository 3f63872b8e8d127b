"""Middleware around every request: authentication and size limit before it is read, and its final status."""

from __future__ import annotations

import contextlib
import logging

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tandem.server.errors import FAULT, ApiError
from tandem.server.service import Service

_log = logging.getLogger(__name__)
COUNTED = ("/v1/chat/completions", "/v1/completions")


class Guard:
    """Refuses requests to /v1 without a key (401) and bodies of more than `most` bytes (413); counts how requests end.

    The account is stored in the request's state, where routes put `model`, and `status` if a stream breaks off.
    """

    def __init__(self, app: ASGIApp, service: Service, most: int) -> None:
        self._app, self._service, self._most = app, service, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        status, started, ended = 499, False, False  # no response: the client had disconnected

        async def noted(message: Message) -> None:
            nonlocal status, started, ended
            if message["type"] == "http.response.start":
                status, started = message["status"], True
            elif message["type"] == "http.response.body":
                ended = ended or not message.get("more_body", False)
            await send(message)

        try:
            await self._guarded(scope, receive, noted)
        except Exception:
            _log.exception("an error in %s", scope["path"])
            if started:  # this breaks the connection
                state["status"] = 500
                raise
            await _refuse(ApiError(500, FAULT), scope, receive, noted)
        finally:
            if scope["path"] in COUNTED and scope["method"] == "POST":
                final = state.get("status", status if ended else 499)
                self._service.metrics.ended(state.get("model", "unknown"), final)

    async def _guarded(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        try:
            if scope["path"].startswith("/v1/"):
                given = headers.get(b"authorization")
                scope["state"]["account"] = self._service.keys.account(given and given.decode("latin-1"))
            length = headers.get(b"content-length", b"0")
            if length.isdigit() and int(length) > self._most:
                raise self._too_large
        except ApiError as error:
            await _refuse(error, scope, receive, send)
            return
        await self._measured(scope, receive, send)

    async def _measured(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward a request while its body is within the limit; not every client sends its length."""
        taken, over, started = 0, False, False

        async def counted() -> Message:
            nonlocal taken, over
            message = await receive()
            if message["type"] == "http.request":
                taken += len(message.get("body", b""))
                if taken > self._most:
                    over = True
                    raise self._too_large
            elif not started:  # the client disconnected; the application's reply to half a body does not matter
                scope["state"]["status"] = 499
            return message

        async def held(message: Message) -> None:
            nonlocal started
            if over and not started:
                return  # the application's reply to a cut body is dropped
            started = True
            await send(message)

        with contextlib.suppress(ApiError):
            await self._app(scope, counted, held)
        if over and not started:
            await _refuse(self._too_large, scope, receive, send)

    @property
    def _too_large(self) -> ApiError:
        return ApiError(413, f"the body is larger than {self._most:,} bytes", code="body_too_large")


async def _refuse(error: ApiError, scope: Scope, receive: Receive, send: Send) -> None:
    headers = error.headers | {"Connection": "close"}  # the rest of the body is not read
    await JSONResponse(error.body, error.status, headers)(scope, receive, send)
