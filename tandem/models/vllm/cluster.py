"""This process in a Ray cluster: joining one or starting it, whether its head is there, and leaving it."""

from __future__ import annotations

import importlib
import logging
import os
import socket
import threading
from types import ModuleType
from typing import Any

from tandem.errors import MissingPackageError, UsageError

ANSWER = 5.0  # seconds for a cluster's head to take a connection
_STORE = 100 << 20  # bytes for Ray's objects where we start it: nothing but short messages goes through it


class RayConnection:
    """This process's connection to a cluster, of which it can have one at a time; the last pool to leave ends it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pools = 0
        self._ours = False
        self._address: str | None = None

    def join(self, ray: ModuleType, address: str | None) -> None:
        """Join, or start a cluster on this machine. A connection that the caller's program has is used and kept."""
        with self._lock:
            if self._pools and address != self._address:
                raise UsageError("two Ray clusters in one process are not possible; give both roles the same address")
            if not ray.is_initialized():
                self._init(ray, address)
                self._ours = True
            self._pools, self._address = self._pools + 1, address

    def leave(self) -> None:
        with self._lock:
            self._pools -= 1
            if self._ours and not self._pools:
                self._ours = False
                import_ray().shutdown()
                _printing(True)

    def _init(self, ray: ModuleType, address: str | None) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
        try:
            if address is not None and "://" not in address:
                from ray._private.services import canonicalize_bootstrap_address_or_die

                # Ray itself would try for a quarter of an hour, and cannot be interrupted.
                if why := unreachable(canonicalize_bootstrap_address_or_die(address)):
                    raise ConnectionError(why)
            if address is None:
                ray.init(address="local", include_dashboard=False, object_store_memory=_STORE, **quiet)
            else:
                ray.init(address=address, **quiet)
            _printing(False)
        except (ConnectionError, RuntimeError, ValueError) as error:
            where = f"no Ray cluster at '{address}' can be joined" if address else "Ray cannot be started here"
            raise UsageError(f"{where}: {last_line(error)}") from None


CONNECTION = RayConnection()


def unreachable(address: str) -> str | None:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER).close()
    except OSError as error:
        return f"nothing answers at {address} ({error.strerror or error})"
    return None


def _printing(on: bool) -> None:
    """Let Ray print its paragraphs on lost workers to standard output, or not; `log_to_driver` leaves those out."""
    worker: Any = importlib.import_module("ray._private.worker")
    worker._worker_logs_enabled = on


def import_ray() -> ModuleType:
    try:
        import ray
        import ray.exceptions
    except ImportError:
        raise MissingPackageError("serving on several machines", "ray") from None
    module: ModuleType = ray
    return module


def last_line(error: Exception) -> str:
    """Return the last line of Ray's long errors, the most informative one."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
