"""Failures of an OpenAI-compatible endpoint: one clear line each, whether to retry, and how long to wait."""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from tandem.errors import EndpointError
from tandem.ledger import Usage
from tandem.models.openai.api_keys import ApiKeys
from tandem.words import shortened

LONGEST_WAIT = 120.0  # seconds; a server that asks for more (a daily quota) gets no silent wait
FIRST_PAUSE = 0.5  # seconds
_RETRYABLE = {408, 409, 429}  # and every 5xx
_GATEWAY = {504, 524}  # a gateway timed out: the server behind it may have done the work
_OVERFLOW = re.compile(
    r"context.?(length|size|window)|prompt is too long|longer than the (model|maximum)|maximum model length", re.I
)
_TOO_LONG = (400, 413, 422)
_TOOLS = re.compile(r"\btools?\b|tool_|tool-|function.call", re.I)
_NO_TOOLS = {400, 404, 422, 501}
_NONE_AT_ALL = re.compile(  # as vLLM, llama.cpp, Ollama, OpenRouter, SGLang and OpenAI say so
    r"--enable-auto-tool-choice|--tool-call-parser|--jinja|"
    r"(?:not|n't|no \w+ \w+ that) (?:support|allow|accept)\w*\b.{0,40}\b(?:tool|function.call)|"
    r"\b(?:tools?|function.calling|tool.use)\b['\"`]?.{0,60}"
    r"(?:not (?:supported|allowed|permitted|enabled)|unsupported)|"
    r"(?:unsupported|unrecognized|unknown|unexpected).{0,60}['\"`: ]tools\b",
    re.I | re.S,
)
_MEANINGS = [  # of error codes and types that are words, as vendors write them
    (re.compile(words, re.I), status)
    for words, status in (
        (r"context_length|too_long|invalid_request|bad_request|unsupported|invalid_(?:prompt|value|parameter)", 400),
        (r"invalid_api_key|authentication|unauthori[sz]ed", 401),
        (r"permission|forbidden", 403),
        (r"not_found", 404),
        (r"rate_limit|insufficient_quota|quota|too_many", 429),
        (r"overloaded|unavailable", 503),
    )
]
_BEARER = re.compile(r"(?i)bearer\s+\S+|\bsk-[\w*-]{6,}")


@dataclass(frozen=True, slots=True)
class Origin:
    """What an error message names: the address, the model as it is served there, where keys are looked for."""

    where: str
    model: str
    keys: ApiKeys


class Failure(EndpointError):
    """An EndpointError with what the retry loop needs.

    `status` is the HTTP status, if there was one; `after` the seconds that the server asked to wait; `detail` what
    the server wrote, in full. `refused`: the model declined; that is an answer of its own kind, not a fault. `free`:
    no work was done for the request, so that it costs nothing.
    """

    def __init__(
        self,
        message: str,
        *,
        retryable: bool = False,
        status: int | None = None,
        after: float | None = None,
        detail: str = "",
        refused: bool = False,
        free: bool = False,
    ) -> None:
        super().__init__(message, retryable=retryable, usage=Usage() if free else None)
        self.status = status
        self.after = after
        self.detail = detail
        self.refused = refused
        self.free = free

    @property
    def overflow(self) -> bool:
        """Whether the prompt is too long for the model's context."""
        return self.status in _TOO_LONG and bool(_OVERFLOW.search(self.detail))

    def within(self, where: str, usage: Usage | None = None) -> Failure:
        """Return the same failure, with `where` it happened and what it cost."""
        failure = copy(self)
        failure.args = (f"{where} ({self})" if where else str(self),)
        failure.usage = usage
        return failure


def from_exception(origin: Origin, error: Exception, timeout: float) -> Failure | None:
    """Return the failure that a client's or transport's exception means; None for an error that is not theirs."""
    import openai

    if isinstance(error, openai.APIStatusError):
        body, status = error.body or error.response.text, error.status_code
        return from_status(origin, status, body, error.response.headers, free=status not in _GATEWAY)
    # Exceptions of the transport come bare from a body that is being read; httpx's or httpx2's, as the client has it.
    package = type(error).__module__.partition(".")[0]
    ours = isinstance(error, openai.APIConnectionError | OSError) or package in ("httpx", "httpx2", "httpcore", "anyio")
    if not ours:
        return None
    below = error.__cause__ or error
    unsent = type(below).__name__ in ("ConnectError", "ConnectTimeout", "PoolTimeout")
    if isinstance(error, openai.APITimeoutError | TimeoutError) or "Timeout" in type(error).__name__:
        if unsent:
            return Failure(f"cannot reach {origin.where}: no connection in time", retryable=True, free=True)
        return stalled(origin, timeout)
    cause = _one_line(str(below) or type(below).__name__)
    if unsent:
        return Failure(f"cannot reach {origin.where}: is the server running? ({cause})", retryable=True, free=True)
    return Failure(f"{origin.where} broke the connection ({cause})", retryable=True)


def stalled(origin: Origin, timeout: float) -> Failure:
    return Failure(f"{origin.where} sent nothing for {timeout:g} s", retryable=True)


def from_status(
    origin: Origin, status: int, body: object, headers: Mapping[str, str] | None = None, *, free: bool = False
) -> Failure:
    """Return the failure of an HTTP status (or of an error event within a stream) with the server's words."""
    words = _redact(_message(body), origin.keys)
    line = f": {_one_line(words)}" if words else ""
    detail = _redact(str(body), origin.keys)
    retryable = status in _RETRYABLE or status >= 500
    if status in (401, 403):
        # The server's own words are left out: some echo a part of the key.
        verb = "wants another key" if origin.keys.key else "wants a key"
        message = f"{origin.where} {verb} for '{origin.model}' ({status}): {origin.keys.advice}"
    elif status == 404:
        message = f"{origin.where} serves no model '{origin.model}' (404){line}"
    elif status in _TOO_LONG and _OVERFLOW.search(detail):
        message = f"the prompt is too long for '{origin.model}' at {origin.where}{line}"
    elif "insufficient_quota" in detail:
        message, retryable = f"the account at {origin.where} has no credit left ({status}){line}", False
    else:
        message = f"{origin.where} answered {status}{line}"
    after = retry_after(headers or {})
    return Failure(message, retryable=retryable, status=status, after=after, detail=detail, free=free)


def status_of(error: object) -> int:
    """Return the HTTP status that an error object within a body means: its code as a number or in words, else 500."""
    fields: Mapping[str, Any] = error if isinstance(error, Mapping) else {}
    for key in ("code", "status", "status_code", "type"):
        value = str(fields.get(key) or "")
        if value.isdigit() and 400 <= int(value) < 600:
            return int(value)
        if found := next((status for words, status in _MEANINGS if words.search(value)), None):
            return found
    return 500


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds to wait by `retry-after-ms` or `retry-after` (seconds or an HTTP date), if they say so."""
    try:
        if milliseconds := headers.get("retry-after-ms"):
            return max(float(milliseconds) / 1000, 0.0)
        if not (value := headers.get("retry-after")):
            return None
        if re.fullmatch(r"\s*\d+(\.\d+)?\s*", value):
            return float(value)
        return max(parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
    except (ValueError, OverflowError):
        return None


def refuses_tools(failure: Failure) -> bool:
    """Whether an endpoint fails a request because of its tool; llama.cpp does with 500 and the option that it lacks."""
    lacks = failure.status in _NO_TOOLS or "--jinja" in failure.detail
    return bool(lacks and _TOOLS.search(failure.detail) and not _OVERFLOW.search(failure.detail))


def has_no_tools(failure: Failure) -> bool:
    """Whether the words of a refusal are about all tools, and not about those of one request (a schema, an id)."""
    return _NONE_AT_ALL.search(failure.detail) is not None


class Backoff:
    """The waits of one call: what the server asks for, else 0.5 s doubled each time up to 30 s, with jitter."""

    def __init__(self, retries: int) -> None:
        self._left = retries
        self._pause = FIRST_PAUSE

    def pause(self, failure: Failure) -> float:
        """Return the seconds before the next attempt; raises `failure` if another is useless or none is left."""
        if not failure.retryable or self._left <= 0:
            raise failure
        if failure.after is not None and failure.after > LONGEST_WAIT:
            raise failure.within(f"it asks to wait {failure.after:.0f} s", failure.usage)
        self._left -= 1
        pause, self._pause = self._pause, min(self._pause * 2, 30.0)
        # Spread out, so that many calls refused together do not come back together; never before the asked time.
        spread = random.uniform(1.0, 1.25)
        return pause * spread / 1.25 if failure.after is None else failure.after * spread

    async def wait(self, failure: Failure) -> None:
        """Sleep before the next attempt; raises as `pause` does."""
        await asyncio.sleep(self.pause(failure))


def _message(body: object) -> str:
    """Return the sentence in an error body: `{"error": {"message": …}}`, `{"message": …}`, `{"detail": …}` or text."""
    if isinstance(body, Mapping):
        fields: Mapping[str, Any] = body
        inner = fields.get("error") or fields.get("message") or fields.get("detail")
        return _message(inner) if inner else ""
    return str(body or "")


def _one_line(text: str, longest: int = 240) -> str:
    return shortened(" ".join(text.split()), longest)


def _redact(text: str, keys: ApiKeys) -> str:
    return _BEARER.sub("[key]", keys.redact(text))
