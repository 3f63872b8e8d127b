"""Ports for servers: one that is free is held from the plan to the end, so that no restart finds it taken."""

from __future__ import annotations

import socket
import sys

from tandem.errors import UsageError

_HOLDS = sys.platform == "linux"  # elsewhere a bound port shuts out the server too


class Port:
    """A free port of `host`. A server that binds with SO_REUSEADDR, as all do, gets it; nobody is given it unasked.

    vLLM also binds with SO_REUSEPORT where it may, so two of them at one port would not even notice.
    """

    def __init__(self, host: str) -> None:
        self._held = socket.socket()
        self._held.bind((host, 0))
        self.number: int = self._held.getsockname()[1]
        if _HOLDS:
            self._held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # after bind: what is found is ours alone
        else:
            self._held.close()

    def release(self) -> None:
        self._held.close()


def check_free(host: str, port: int) -> None:
    """Raise UsageError if a port that the user chose is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UsageError(f"port {port} cannot be used ({error.strerror}); take another --port") from None
