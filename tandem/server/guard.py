"""Middleware around every request: who may ask, authentication and size before it is read; its id, log line, status."""

from __future__ import annotations

import contextlib
import logging
import re
import time
import uuid
from urllib.parse import urlsplit

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tandem.server.addresses import own_machine
from tandem.server.errors import FAULT, ApiError
from tandem.server.service import Service

_log = logging.getLogger(__name__)
_access = logging.getLogger("tandem.access")
_PROBES = ("/healthz", "/readyz", "/metrics")  # asked every few seconds
_ID = re.compile(r"[\x21-\x7e]{1,128}")
_PLAIN = re.compile(r"[^\x21-\x7e]")
COUNTED = ("/v1/chat/completions", "/v1/completions", "/v1/responses")
TOKENIZER = ("/tokenize", "/detokenize", "/tokenizer_info")  # as vLLM has them, beside /v1


class Guard:
    """Refuses what a stranger's page sends (403), requests to /v1 and the tokenizer without a key (401), bodies that
    are not JSON (415) and those of more than `most` bytes (413); counts how requests end, and logs each in a line.

    `private`: only this machine's own names are answered, so that a page whose name resolves to 127.0.0.1 is not
    (DNS rebinding). The account is stored in the request's state, where routes put `model`, `status` if a stream breaks
    off, and `reason` of a refusal.
    """

    def __init__(self, app: ASGIApp, service: Service, most: int, *, private: bool = False) -> None:
        self._app, self._service, self._most, self._private = app, service, most, private

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        headers, began = dict(scope["headers"]), time.monotonic()
        given = headers.get(b"x-request-id", b"").decode("latin-1")
        request_id = given if _ID.fullmatch(given) else f"req_{uuid.uuid4().hex}"
        status, started, ended = 499, False, False  # no response: the client had disconnected
        head = scope["method"] == "HEAD"
        scope = {**scope, "method": "GET"} if head else scope  # a copy: the server itself must know

        async def noted(message: Message) -> None:
            nonlocal status, started, ended
            if message["type"] == "http.response.start":
                status, started = message["status"], True
                message = {**message, "headers": [*message["headers"], (b"x-request-id", request_id.encode())]}
            elif message["type"] == "http.response.body":
                ended = ended or not message.get("more_body", False)
                message = {**message, "body": b""} if head else message
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
            final = state.get("status", status if ended else 499)
            if scope["path"] in COUNTED and scope["method"] == "POST":
                self._service.metrics.ended(state.get("model", "unknown"), final)
            self._log_line(scope, "HEAD" if head else scope["method"], final, time.monotonic() - began, request_id)

    async def _guarded(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        try:
            self._check_stranger(headers)
            if scope["path"].startswith("/v1/") or scope["path"] in TOKENIZER:
                scope["state"]["account"] = self._service.keys.account(_authorization(headers))
            if scope["path"] in (*COUNTED, *TOKENIZER) and scope["method"] == "POST":
                _check_json(headers)
            length = headers.get(b"content-length", b"0")
            if length.isdigit() and int(length) > self._most:
                raise self._too_large
        except ApiError as error:
            scope["state"]["reason"] = error.code
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

    def _check_stranger(self, headers: dict[bytes, bytes]) -> None:
        """Raise ApiError 403 for what a browser sends for somebody else's page to a server without keys."""
        if self._service.keys.needed:
            return  # no page knows a key
        host = headers.get(b"host", b"").decode("latin-1")
        name = urlsplit(f"//{host}").hostname or ""
        if self._private and not (own_machine(name) or name.endswith(".localhost")):
            reason = "this server has no keys and answers to localhost and 127.0.0.1 only; --keys FILE admits others"
            raise ApiError(403, reason, code="foreign_host")
        origin = headers.get(b"origin")
        if origin is not None and urlsplit(origin.decode("latin-1")).netloc != host:
            raise ApiError(403, "this server has no keys and takes no requests of other pages", code="foreign_origin")

    def _log_line(self, scope: Scope, method: str, status: int, seconds: float, request_id: str) -> None:
        """Log a request: no query, no body, no key but its name."""
        state = scope["state"]
        account = state.get("account")
        more = {"key": account.entry.name if account else "-", "model": state.get("model", "-")}
        words = " ".join(f"{name}={_PLAIN.sub('?', str(value))}" for name, value in more.items())
        outcome = f"{status} {state['reason']}" if state.get("reason") else str(status)
        path = _PLAIN.sub("?", scope["path"])[:200]
        level = logging.DEBUG if path in _PROBES and status < 400 else logging.INFO
        _access.log(level, "%s %s %s %.0fms %s id=%s", method, path, outcome, 1000 * seconds, words, request_id)

    @property
    def _too_large(self) -> ApiError:
        return ApiError(413, f"the body is larger than {self._most:,} bytes", code="body_too_large")


def _authorization(headers: dict[bytes, bytes]) -> str | None:
    """Return the Authorization header, or what some clients send instead of it."""
    if given := headers.get(b"authorization"):
        return given.decode("latin-1")
    key = headers.get(b"x-api-key")
    return None if key is None else f"Bearer {key.decode('latin-1')}"


def _check_json(headers: dict[bytes, bytes]) -> None:
    """Raise ApiError 415 for a body that does not say that it is JSON: a page may send others without asking first."""
    kind = headers.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()
    if kind != "application/json" and not re.fullmatch(r"application/[\w.-]+\+json", kind):
        raise ApiError(415, f"the body must be JSON: Content-Type: application/json, not '{kind[:80] or 'none'}'")


async def _refuse(error: ApiError, scope: Scope, receive: Receive, send: Send) -> None:
    headers = error.headers | {"Connection": "close"}  # the rest of the body is not read
    await JSONResponse(error.body, error.status, headers)(scope, receive, send)
