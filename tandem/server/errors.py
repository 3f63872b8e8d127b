"""Errors in OpenAI's format: each has a status, a message that says what to do, and the invalid field."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from tandem.errors import (
    CapabilityError,
    EndpointError,
    InvalidOutputError,
    LimitReached,
    MissingKeyError,
    TandemError,
    UsageError,
)

FAULT = "an internal error; see the server's log"
_log = logging.getLogger(__name__)
_ADDRESS = re.compile(
    r"\w+://[^\s'\"]+|\[[0-9a-f:]+\](?::\d+)?|\b(?:\d{1,3}\.){3}\d{1,3}(?::\d+)?|\b[\w.-]+:\d{2,5}\b"
    r"|\b(?:[a-z0-9-]+\.)+[a-z]{2,}\b|\blocalhost\b"
)
_VARIABLE = re.compile(r"\b[A-Z][A-Z0-9]*_[A-Z0-9_]+\b")
_NAMED = re.compile(r"'([a-z_]+(?:\[\d+\]|\.[a-z_]+)*)'")
_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


class ApiError(Exception):
    """An error response. `param` names the field; `retry_after` is in seconds."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message.encode(errors="backslashreplace").decode()  # it may quote a client's lone surrogate
        self.status, self.param, self.code = status, param, code
        self.retry_after = retry_after

    @property
    def kind(self) -> str:
        return _TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")

    @property
    def body(self) -> dict[str, Any]:
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}

    @property
    def headers(self) -> dict[str, str]:
        found = {} if self.retry_after is None else {"Retry-After": str(max(1, round(self.retry_after)))}
        return found | ({"WWW-Authenticate": "Bearer"} if self.status == 401 else {})


def api_error(error: TandemError, *, raw: bool = False) -> ApiError:
    """Return the client's error for a failure: its own mistake, a model that is down, or a bug of ours.

    `raw`: of a prompt that is read as it stands, which a model may not be able to.
    """
    words = _public(str(error))
    if isinstance(error, UsageError):
        field = "logprobs" if isinstance(error, CapabilityError) else "prompt"
        return ApiError(400, words, param=field if raw else None)
    if isinstance(error, LimitReached):
        return ApiError(429, words, code="insufficient_quota")
    if isinstance(error, EndpointError) and "prompt is too long" in words:
        return ApiError(400, words, code="context_length_exceeded")
    _log.warning("%s", error)
    if isinstance(error, InvalidOutputError):  # whose place in the answer is no address
        status, words, code = 502, str(error), "invalid_output"
    elif isinstance(error, MissingKeyError):
        status, words, code = 502, "a model behind this server refuses its key: missing or wrong", "upstream"
    elif isinstance(error, EndpointError):
        status = 503 if error.retryable else 502
        words, code = f"a model behind this server failed: {words}", "upstream"
    else:
        status, code = 500, None
    return ApiError(status, words, code=code)


def _public(text: str) -> str:
    """Return an error's words without the addresses and variables of this server's own set-up: they are in its log."""
    return _VARIABLE.sub("[variable]", _ADDRESS.sub("[address]", text))


def install(app: FastAPI) -> None:
    @app.exception_handler(ApiError)
    async def known(request: Request, error: ApiError) -> JSONResponse:
        request.state.reason = error.code or error.param
        return JSONResponse(error.body, error.status, error.headers)

    @app.exception_handler(TandemError)
    async def failed(request: Request, error: TandemError) -> JSONResponse:
        return await known(request, api_error(error))

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> JSONResponse:
        return await known(request, invalid(error.errors()))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        message = {
            404: f"there is no {request.url.path}",
            405: f"{request.url.path} does not take {request.method}",
            400: "the body is not valid JSON in UTF-8",
        }.get(error.status_code, str(error.detail))
        found = await known(request, ApiError(error.status_code, message))
        found.headers.update(error.headers or {})
        return found


def invalid(errors: Sequence[Mapping[str, Any]]) -> ApiError:
    first = errors[0]
    where = [part for part in first["loc"] if part not in ("body", "query", "path", "header")]
    if first["type"] == "json_invalid":
        return ApiError(400, "the body is not valid JSON")
    param = field(where)
    message = str(first["msg"]).removeprefix("Value error, ")
    if param is None and (named := _NAMED.search(message)):  # a rule about several fields names the field itself
        return ApiError(400, message, param=named[1])
    return ApiError(400, f"{param}: {message}" if param else f"the body: {message}", param=param)


def field(path: Sequence[str | int]) -> str | None:
    """Return a location in the body in OpenAI's notation: ``messages[0].content``; tags as <message> are left out."""
    parts = (part for part in path if not str(part).startswith("<"))
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
    return text.removeprefix(".") or None
