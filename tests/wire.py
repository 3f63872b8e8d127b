"""A client on plain sockets: cheap enough for thousands of requests, and it goes away in their midst if told to.

Connections are kept and used again, as the official client does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, and the seconds to the first byte of its body and to its end. Status 499: we went away first."""

    status: int
    body: bytes
    first: float
    seconds: float

    @property
    def json(self) -> Any:
        """The body of an answer that is not streamed."""
        return json.loads(self.body)

    @property
    def events(self) -> list[Any]:
        """What was streamed: its chunks, and at last the text [DONE] where that came."""
        lines = [line[6:] for line in self.body.decode().split("\n\n") if line]
        return [line if line == "[DONE]" else json.loads(line) for line in lines]


@dataclass
class Wire:
    """A client of one server; `url` is its address without a path."""

    url: str
    key: str | None = None
    _idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = field(default_factory=list)

    async def post(self, path: str, body: Any, *, leave: float | None = None, seen: bytes = b"\n\n") -> Answer:
        """Post JSON. With `leave` the connection is closed when `seen` has come, or after so many seconds without."""
        reader, writer = await self._connection()
        data = json.dumps(body).encode()
        auth = f"Authorization: Bearer {self.key}\r\n" if self.key else ""
        head = f"POST {path} HTTP/1.1\r\nHost: {urlsplit(self.url).netloc}\r\nContent-Type: application/json\r\n{auth}"
        began, kept = time.perf_counter(), False
        try:
            writer.write(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
            if leave is not None:
                return await _left(reader, began, leave, seen)
            status, headers = await _head(reader)
            found, first = await _body(reader, headers)
            kept = headers.get("connection", "").lower() != "close" and headers["version"] == "HTTP/1.1"
            return Answer(status, found, first - began, time.perf_counter() - began)
        finally:
            if kept:
                self._idle.append((reader, writer))
            else:
                writer.transport.abort() if leave is not None else writer.close()

    def close(self) -> None:
        """Close the connections that are kept."""
        for _, writer in self._idle:
            writer.close()
        self._idle.clear()

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof():
                return reader, writer
            writer.close()  # the server has had enough of waiting
        address = urlsplit(self.url)
        assert address.hostname
        return await asyncio.open_connection(address.hostname, address.port, limit=1 << 20)


async def _left(reader: asyncio.StreamReader, began: float, seconds: float, seen: bytes) -> Answer:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await reader.readuntil(seen)
    return Answer(499, b"", 0.0, time.perf_counter() - began)


async def _head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    version, status, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split(maxsplit=2)
    pairs = (line.partition(":") for line in lines[0].split("\r\n")[1:])
    return int(status), {"version": version} | {name.lower(): value.strip() for name, _, value in pairs}


async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> tuple[bytes, float]:
    """Return a body, and when it began. Raises IncompleteReadError for one that breaks off."""
    if "content-length" in headers:
        return await reader.readexactly(int(headers["content-length"])), time.perf_counter()
    if headers.get("transfer-encoding") != "chunked":
        return await reader.read(), time.perf_counter()
    pieces, first = list[bytes](), 0.0
    while size := int(await reader.readline(), 16):
        pieces.append((await reader.readexactly(size + 2))[:-2])
        first = first or time.perf_counter()
    await reader.readline()
    return b"".join(pieces), first
