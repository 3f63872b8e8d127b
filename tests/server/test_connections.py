"""Connections: small answers leave at once, and who goes away in the midst of asking is counted as gone."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest
from serving import Server, until

from tandem.server.running import listen

Start = Callable[..., Server]


async def test_nothing_waits_for_an_acknowledgement() -> None:
    accepted: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        own = writer.get_extra_info("socket")
        accepted.set_result(own.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    listening = listen("127.0.0.1", 0)
    async with await asyncio.start_server(answer, sock=listening):
        _, writer = await asyncio.open_connection(*listening.getsockname())
        assert await accepted
        writer.close()


@pytest.mark.parametrize("body", [b"", b'{"model": "intern", '], ids=["before", "in the midst of"])
def test_who_goes_before_the_body_is_there_is_gone(start: Start, body: bytes) -> None:
    server = start()
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port)) as client:
        head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        client.sendall(f"{head}Content-Length: 1000\r\n\r\n".encode() + body)
        assert server.metrics("tandem_requests_total") == 0  # it is being read
    until(lambda: server.metrics("tandem_requests_total") == 1)
    assert server.metrics("tandem_requests_total", status="499") == 1
