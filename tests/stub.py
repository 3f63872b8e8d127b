"""A small real HTTP server that speaks /v1/models and /v1/chat/completions as it is told to.

In tests: `async with Stub(Reply(text="Hello")) as stub: ... stub.url ...`. For benchmarks, as a process of its own:
`python tests/stub.py --port 8001 --first-ms 50 --token-ms 5 --tokens 128`. Standard library only.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from types import TracebackType
from typing import Any, Literal

Fault = Literal["reset", "cut", "stall", "half-json", "error-event", "comments"]
_TICK = 0.01  # seconds between two looks at whether the client is still there
_REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 429: "Too Many Requests"}


@dataclass(frozen=True)
class Reply:
    """What one chat request is answered with; every field has a plain, successful default.

    `top` holds each token's top log-probabilities, the chosen token's first (None: the same plausible ones for all).
    `fault` strikes after `fault_after` tokens: "reset" (TCP reset), "cut" (end without a finish reason), "stall"
    (nothing more, connection open), "half-json", "error-event", "comments" (SSE comments for ever).
    `refuses` names request fields (`stream_options.continuous_usage_stats`, …) or `field=value` answered with 400.
    """

    tokens: tuple[str, ...] = ("Hello", ",", " world", "!")
    thinking: tuple[str, ...] = ()
    thinking_field: str = "reasoning_content"
    top: tuple[tuple[float, ...], ...] | None = None
    logprobs: bool = True  # whether log-probabilities are given when asked for
    first_delay: float = 0.0
    token_delay: float = 0.0
    finish: str | None = "stop"
    weight: int = 1  # how many tokens a chunk counts for in usage reports
    prompt_tokens: int = 12
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    usage: bool = True  # whether usage is reported when asked for
    done: bool = True  # whether [DONE] is sent
    refusal: str = ""
    continuation: tuple[str, ...] | None = None  # the tokens for a request that asks to continue
    refuses: tuple[str, ...] = ()
    fault: Fault | None = None
    fault_after: int = 0
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    error: str = "scripted error"


@dataclass
class Seen:
    """One request as it arrived, and what became of it."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    sent: int = 0  # tokens
    finished: bool = False
    disconnected: bool = False


@dataclass
class Stub:
    """The server: an async context manager; `replies` are used up in order, then `default` holds.

    `respond`, where given, chooses the reply from the request's body instead.
    """

    default: Reply = Reply()
    replies: deque[Reply] = field(default_factory=deque)
    respond: Callable[[dict[str, Any]], Reply] | None = None
    models: list[dict[str, Any]] = field(default_factory=lambda: [{"id": "stub", "object": "model"}])
    models_reply: Reply = Reply()  # status, headers and error of /v1/models
    key: str | None = None  # the only key that is let in
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

    def script(self, *replies: Reply) -> None:
        """Append replies for the next requests."""
        self.replies.extend(replies)

    async def until(self, condition: Callable[[], bool], seconds: float = 5.0) -> None:
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
        seen = Seen(path, headers, json.loads(raw) if raw else {})
        self.seen.append(seen)
        if self.key is not None and headers.get("authorization") != f"Bearer {self.key}":
            said = {"error": {"message": f"Incorrect API key provided: {headers.get('authorization')}"}}
            return await _send_json(writer, 401, said)
        if path.endswith("/models"):
            reply = self.models_reply
            listed = {"object": "list", "data": self.models}
            return await _send_json(
                writer, reply.status, listed if reply.status == 200 else _error(reply), reply.headers
            )
        if not path.endswith("/chat/completions"):
            return await _send_json(writer, 404, {"detail": "Not Found"})
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
                return await _send_json(writer, 400, {"error": {"message": f"Unsupported parameter: '{name}'"}})
        if reply.continuation is not None and body.get("continue_final_message"):
            reply = replace(reply, tokens=reply.continuation)
        if reply.status != 200:
            return await _send_json(writer, reply.status, _error(reply), reply.headers)
        if reply.fault == "reset" and reply.fault_after == 0:
            return _reset(writer)
        limit = body.get("max_tokens") or body.get("max_completion_tokens") or len(reply.tokens)
        if limit < len(reply.tokens):
            reply = replace(
                reply, tokens=reply.tokens[:limit], finish="length" if reply.finish == "stop" else reply.finish
            )
        if not body.get("stream"):
            await asyncio.sleep(reply.first_delay + reply.token_delay * len(reply.tokens))
            seen.sent, seen.finished = len(reply.tokens), True
            return await _send_json(writer, 200, _whole(reply, body.get("model", ""), _wanted(reply, body)))
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
        if usage and options.get("continuous_usage_stats"):
            usage = "all"
        frames, tail = _frames(reply, body.get("model", ""), _wanted(reply, body), usage)
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
            due += reply.token_delay
            if index % 64 == 63:
                await writer.drain()
        if reply.fault is not None:
            return await self._strike(reply, reader, writer)
        writer.write(tail)
        seen.finished = True
        await writer.drain()
        return True

    async def _strike(self, reply: Reply, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        match reply.fault:
            case "reset":
                await writer.drain()
                await asyncio.sleep(_TICK)  # what was sent is to arrive: a reset may overtake it
                return _reset(writer)
            case "half-json":
                writer.write(_frame('data: {"choices": [{"delta": {"cont\n\n'))
            case "error-event":
                writer.write(_frame(f"data: {json.dumps(_error(replace(reply, status=500)))}\n\n"))
            case "stall" | "comments":
                while True:
                    await asyncio.sleep(_TICK)
                    _check(reader, writer)
                    if reply.fault == "comments":
                        writer.write(_frame(": still here\n\n"))
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
    return body.get("top_logprobs") if body.get("logprobs") and reply.logprobs else None


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


def _frame(text: str) -> bytes:
    data = text.encode()
    return b"%x\r\n%b\r\n" % (len(data), data)


def _logprobs(reply: Reply, index: int, wanted: int) -> dict[str, Any]:
    top = reply.top[index] if reply.top else tuple(-0.1 - 1.3 * rank for rank in range(20))
    token = reply.tokens[index]
    tops = [
        {"token": token if r == 0 else f"other{r}", "logprob": v, "bytes": None} for r, v in enumerate(top[:wanted])
    ]
    return {"content": [{"token": token, "logprob": top[0], "bytes": None, "top_logprobs": tops}]}


def _usage(reply: Reply, completion: int, *, last: bool) -> dict[str, Any]:
    usage: dict[str, Any] = {
        "prompt_tokens": reply.prompt_tokens,
        "completion_tokens": completion,
        "total_tokens": reply.prompt_tokens + completion,
    }
    if last:
        usage["prompt_tokens_details"] = {"cached_tokens": reply.cached_tokens}
        usage["completion_tokens_details"] = {"reasoning_tokens": reply.reasoning_tokens}
    return usage


def _whole(reply: Reply, model: str, wanted: int | None) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": "".join(reply.tokens), "refusal": reply.refusal or None}
    if reply.thinking:
        message[reply.thinking_field] = "".join(reply.thinking)
    entries = [_logprobs(reply, i, wanted)["content"][0] for i in range(len(reply.tokens))] if wanted else []
    logprobs = {"content": entries} if wanted else None
    choice = {"index": 0, "message": message, "finish_reason": reply.finish, "logprobs": logprobs}
    usage = _usage(reply, len(reply.tokens) + reply.reasoning_tokens, last=True)
    return {
        "id": "stub",
        "object": "chat.completion",
        "created": 0,
        "model": model,
        "choices": [choice],
        "usage": usage,
    }


@lru_cache(maxsize=256)
def _frames(reply: Reply, model: str, wanted: int | None, usage: str) -> tuple[tuple[bytes, ...], bytes]:
    """Return the HTTP chunks of a stream, one per token, and what ends it; built once for equal requests."""

    def event(delta: dict[str, Any], count: int, finish: str | None = None, logprobs: Any = None) -> str:
        choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        chunk = {"id": "stub", "object": "chat.completion.chunk", "created": 0, "model": model, "choices": [choice]}
        if usage == "all":
            chunk["usage"] = _usage(reply, count, last=False)
        return f"data: {json.dumps(chunk)}\n\n"

    events = [event({reply.thinking_field: text}, (i + 1) * reply.weight) for i, text in enumerate(reply.thinking)]
    for index, text in enumerate(reply.tokens):
        logprobs = _logprobs(reply, index, wanted) if wanted else None
        events.append(event({"content": text}, (len(reply.thinking) + index + 1) * reply.weight, logprobs=logprobs))
    role = event({"role": "assistant", "content": ""}, 0)
    frames = [_frame(e) for e in events]
    total = len(events) * reply.weight + reply.reasoning_tokens
    last = ""
    if reply.refusal:
        last += event({"refusal": reply.refusal}, total)
    if reply.finish:
        last += event({}, total, finish=reply.finish)
    if usage:
        report = {
            "id": "stub",
            "object": "chat.completion.chunk",
            "choices": [],
            "usage": _usage(reply, total, last=True),
        }
        last += f"data: {json.dumps(report)}\n\n"
    if reply.done:
        last += "data: [DONE]\n\n"
    if frames:
        frames[0] = _frame(role) + frames[0]
    else:
        last = role + last if reply.finish else last
    return tuple(frames), (_frame(last) if last else b"") + b"0\r\n\r\n"


async def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--model", default="stub")
    parser.add_argument("--first-ms", type=float, default=50.0)
    parser.add_argument("--token-ms", type=float, default=5.0)
    parser.add_argument("--tokens", type=int, default=128)
    args = parser.parse_args()
    words = tuple(f" word{i % 10}" for i in range(args.tokens))
    reply = Reply(tokens=words, first_delay=args.first_ms / 1e3, token_delay=args.token_ms / 1e3)
    async with Stub(reply, models=[{"id": args.model, "object": "model"}], host=args.host, port=args.port) as stub:
        print(stub.url, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_main())
