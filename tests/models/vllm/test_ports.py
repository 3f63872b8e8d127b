"""A port that a pool has planned is nobody else's, though the server that it is for gets it, again and again."""

from __future__ import annotations

import errno
import socket
import sys

import pytest

from tandem.errors import UsageError
from tandem.models.vllm.ports import Port, check_free

HOST = "127.0.0.1"


def served(port: int, *, shared: bool) -> socket.socket:
    """Listen as a server does; `shared`: as vLLM may, beside others of its kind."""
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    server.bind((HOST, port))
    server.listen()
    return server


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a port cannot be held for another process")
@pytest.mark.parametrize("shared", [False, True])
def test_a_port_is_held_for_its_server_before_between_and_during_its_lives(shared: bool) -> None:
    port = Port(HOST)
    for _ in range(2):
        with socket.socket() as stranger, pytest.raises(OSError, match="in use") as taken:
            stranger.bind((HOST, port.number))
        assert taken.value.errno == errno.EADDRINUSE
        with (
            served(port.number, shared=shared),
            socket.create_connection((HOST, port.number), 5),
            pytest.raises(UsageError, match=f"port {port.number} cannot be used"),
        ):
            check_free(HOST, port.number)
    with pytest.raises(ConnectionRefusedError):  # the hold itself answers nobody
        socket.create_connection((HOST, port.number), 5)
    port.release()
    with socket.socket() as stranger:
        stranger.bind((HOST, port.number))


def test_ports_differ() -> None:
    held = [Port(HOST) for _ in range(20)]
    assert len({port.number for port in held}) == len(held)
    for port in held:
        port.release()
