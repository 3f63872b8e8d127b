"""The server: real HTTP on asyncio alone, and a record of every request."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Literal

from stub import sse
from stub.reply import Reply
from stub.tokens import Tokenizer

_TICK = 0.01  # seconds between two looks at whether the client is still there
_REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 429: "Too Many Requests"}


@dataclass
class Seen:
    """One request as it arrived, what became of it, and the tokens that it is billed."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    at: float  # time.monotonic() on arrival
    sent: int = 0  # tokens
    finished: bool = False
    disconnected: bool = False
    status: int = 200
    billed_prompt: int = 0
    billed_completion: int = 0
    prompt: str = ""  # what the model reads, where the server has a tokenizer

    @property
    def ended(self) -> Literal["whole", "cut", "refused"]:
        """Whether all was sent; "refused" is an HTTP error, which is billed nothing."""
        return "whole" if self.finished else "cut" if self.status == 200 else "refused"


@dataclass
class Stub:
    """The server: an async context manager; `replies` are used up in order, then `default` holds.

    `respond`, where given, chooses the reply from the request's body instead. Where `allows` is given, what comes
    beyond so many chats at once is answered with `beyond`.
    """

    default: Reply = field(default_factory=Reply)
    replies: deque[Reply] = field(default_factory=deque)
    respond: Callable[[dict[str, Any]], Reply] | None = None
    tokenizer: Tokenizer | None = None  # with one, there are /tokenize and /v1/completions too
    models: list[dict[str, Any]] = field(default_factory=lambda: [{"id": "stub", "object": "model"}])
    models_reply: Reply = field(default_factory=Reply)  # status, headers and error of /v1/models
    key: str | None = None  # the only key that is let in
    allows: int | None = None
    beyond: Reply = field(default_factory=lambda: Reply(status=429))
    host: str = "127.0.0.1"
    port: int = 0
    seen: list[Seen] = field(default_factory=list)
    connections: int = 0  # TCP connections accepted so far
    in_flight: int = 0
    most_in_flight: int = 0

    @property
    def url(self) -> str:
        """The base URL for clients."""
        return f"http://{self.host}:{self.port}/v1"

    @property
    def chats(self) -> list[Seen]:
        """The chat requests, in order of arrival."""
        return [s for s in self.seen if s.path.endswith("/chat/completions")]

    @property
    def completions(self) -> list[Seen]:
        """The completions of token ids, in order of arrival."""
        return [s for s in self.seen if s.path == "/v1/completions"]

    def script(self, *replies: Reply) -> None:
        """Append replies for the next requests."""
        self.replies.extend(replies)

    async def until(self, condition: Callable[[], bool], seconds: float = 60.0) -> None:
        """Wait until `condition` holds; raises TimeoutError if it does not within `seconds`."""
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110 (any condition: there is no event to wait for)
                await asyncio.sleep(0.002)

    async def __aenter__(self) -> Stub:
        self._tasks: set[asyncio.Task[None]] = set()
        self._server = await asyncio.start_server(self._accept, self.host, self.port, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.connections += 1
        try:
            while await self._serve(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            with contextlib.suppress(Exception):
                writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; return whether the connection may carry another."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        path = head[0].split(" ")[1]
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:] if line)}
        raw = await reader.readexactly(int(headers.get("content-length", "0")))
        seen = Seen(path, headers, json.loads(raw) if raw else {}, time.monotonic())
        self.seen.append(seen)
        if self.key is not None and headers.get("authorization") != f"Bearer {self.key}":
            seen.status = 401
            said = {"error": {"message": f"Incorrect API key provided: {headers.get('authorization')}"}}
            return await _send_json(writer, 401, said)
        if path.endswith("/models"):
            reply = self.models_reply
            listed = {"object": "list", "data": self.models}
            return await _send_json(
                writer, reply.status, listed if reply.status == 200 else _error(reply), reply.headers
            )
        if self.tokenizer and path in ("/tokenize", "/detokenize"):
            return await _send_json(writer, 200, self.tokenizer.serve(path, seen.body))
        if not path.endswith("/chat/completions") and not (self.tokenizer and path == "/v1/completions"):
            return await _send_json(writer, 404, {"detail": "Not Found"})
        if self.allows is not None and self.in_flight >= self.allows:
            seen.status = self.beyond.status
            return await _send_json(writer, seen.status, _error(self.beyond), self.beyond.headers)
        reply = self.respond(seen.body) if self.respond else self.replies.popleft() if self.replies else self.default
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            return await self._chat(reply, seen, reader, writer)
        finally:
            self.in_flight -= 1

    async def _chat(self, reply: Reply, seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        body = seen.body
        for name in reply.refuses:
            if _asks(body, name):
                seen.status = 400
                return await _send_json(writer, 400, {"error": {"message": f"Unsupported parameter: '{name}'"}})
        if reply.continuation is not None and (body.get("continue_final_message") or "prompt" in body):
            reply = replace(reply, tokens=reply.continuation)
        if self.tokenizer:
            continued = bool(body.get("continue_final_message"))
            seen.prompt = (
                self.tokenizer.text(body["prompt"])
                if "prompt" in body
                else self.tokenizer.template(body["messages"], continued=continued)
            )
        seen.status = reply.status
        if reply.status != 200:
            return await _send_json(writer, reply.status, _error(reply), reply.headers)
        seen.billed_prompt = reply.prompt_tokens
        if reply.fault == "reset" and reply.fault_after == 0:
            seen.billed_completion = reply.unsent
            return _reset(writer)
        limit = body.get("max_tokens") or body.get("max_completion_tokens") or len(reply.tokens)
        if limit < len(reply.tokens):
            reply = replace(
                reply, tokens=reply.tokens[:limit], finish="length" if reply.finish == "stop" else reply.finish
            )
        if not body.get("stream"):
            await asyncio.sleep(reply.first_delay + reply.token_delay * len(reply.tokens))
            seen.sent, seen.finished = len(reply.tokens), True
            seen.billed_completion = len(reply.tokens) + reply.reasoning_tokens
            if "prompt" in body:
                return await _send_json(writer, 200, sse.whole_text(reply, self._ids(reply, seen)))
            return await _send_json(writer, 200, sse.whole(reply, body.get("model", ""), _wanted(reply, body)))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            return await self._stream(reply, seen, reader, writer)
        except ConnectionError:
            seen.disconnected = True
            raise

    async def _stream(
        self, reply: Reply, seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        body = seen.body
        options = body.get("stream_options") or {}
        usage = "" if not (reply.usage and options.get("include_usage")) else "end"
        if usage and options.get("continuous_usage_stats") and reply.continuous:
            usage = "all"
        ids = self._ids(reply, seen) if self.tokenizer and body.get("return_token_ids") else None
        frames, tail = sse.frames(
            reply,
            body.get("model", ""),
            _wanted(reply, body),
            usage,
            ids,
            chat="prompt" not in body,
            calls=reply.calls if "tools" in body else (),
        )
        clock = asyncio.get_running_loop().time
        due = clock() + reply.first_delay
        for index, frame in enumerate(frames):
            while (wait := due - clock()) > 0:
                await asyncio.sleep(wait if wait < 10 * _TICK else 10 * _TICK)
                _check(reader, writer)
            if reply.fault is not None and index == reply.fault_after:
                break
            writer.write(frame)
            seen.sent = index + 1
            seen.billed_completion = seen.sent * reply.weight
            due += reply.token_delay
            if index % 64 == 63:
                await writer.drain()
        if reply.fault is not None:
            seen.billed_completion += reply.unsent
            return await self._strike(reply, reader, writer)
        writer.write(tail)
        seen.finished, seen.billed_completion = True, sse.completion(reply)
        await writer.drain()
        return True

    def _ids(self, reply: Reply, seen: Seen) -> sse.Ids:
        assert self.tokenizer is not None
        pieces = reply.pieces or (*reply.thinking, *reply.tokens)
        return sse.Ids(tuple(self.tokenizer.ids(seen.prompt)), tuple(map(self.tokenizer.of, pieces)))

    async def _strike(self, reply: Reply, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        match reply.fault:
            case "reset":
                await writer.drain()
                await asyncio.sleep(_TICK)  # what was sent is to arrive: a reset may overtake it
                return _reset(writer)
            case "half-json":
                writer.write(sse.frame('data: {"choices": [{"delta": {"cont\n\n'))
            case "error-event":
                writer.write(sse.frame(f"data: {json.dumps(_error(replace(reply, status=500)))}\n\n"))
            case "stall" | "comments":
                while True:
                    await asyncio.sleep(_TICK)
                    _check(reader, writer)
                    if reply.fault == "comments":
                        writer.write(sse.frame(": still here\n\n"))
        writer.write(b"0\r\n\r\n")
        return False


def _check(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    if reader.at_eof() or writer.is_closing():
        raise ConnectionResetError("the client has gone")


def _reset(writer: asyncio.StreamWriter) -> bool:
    writer.transport.abort()
    return False


def _asks(body: dict[str, Any], name: str) -> bool:
    name, _, value = name.partition("=")
    found: Any = body
    for part in name.split("."):
        if not isinstance(found, dict) or part not in found:
            return False
        found = found[part]
    return not value or str(found) == value


def _wanted(reply: Reply, body: dict[str, Any]) -> int | None:
    wanted = body.get("logprobs") if "prompt" in body else body.get("top_logprobs")
    return wanted if body.get("logprobs") and reply.logprobs else None


def _error(reply: Reply) -> dict[str, Any]:
    return {"error": {"message": reply.error, "type": "scripted", "code": reply.status}}


async def _send_json(
    writer: asyncio.StreamWriter, status: int, value: Any, headers: Iterable[tuple[str, str]] = ()
) -> bool:
    data = json.dumps(value).encode()
    lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Scripted')}", "Content-Type: application/json"]
    lines += [f"Content-Length: {len(data)}", *(f"{k}: {v}" for k, v in headers)]
    writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + data)
    await writer.drain()
    return True
