"""The pools running on this machine: one small file each in the cache, valid only while its processes live."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import time
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from tandem.errors import TandemError, UsageError
from tandem.models.vllm import guard
from tandem.models.vllm.machine import read_proc
from tandem.paths import cache_dir
from tandem.storage.files import replacing
from tandem.storage.formats import read_model, stamped

Kind = Literal["run", "standing"]

_PATIENCE = 2 * guard.GRACE  # seconds for a daemon to end its replicas
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,99}")


class ReplicaState(BaseModel):
    """One replica. `session` is that of its processes, `started` the identity of the guard that leads it."""

    model_config = ConfigDict(extra="forbid")

    url: str
    place: str
    log: str
    up: bool = False
    note: str = ""
    restarts: int = 0
    pid: int | None = None
    session: int | None = None
    started: str | None = None


class PoolState(BaseModel):
    """One pool: of a run, or `standing` until `tandem pool down`. `pid` is the process that runs it."""

    model_config = ConfigDict(extra="forbid")

    format: int = 1
    name: str
    model: str
    kind: Kind
    uid: int
    host: str
    pid: int
    started: str | None
    since: float
    replicas: list[ReplicaState]


def host() -> str:
    return socket.gethostname()


def identity(pid: int) -> str | None:
    """Return what tells a process from a later one with the same id, or None if there is no such process."""
    process = guard.look(pid)
    if process:
        return f"{_boot()}/{process.started}"
    if Path("/proc/self/stat").exists():
        return None
    try:
        os.kill(pid, 0)  # a system without /proc: the id is all there is
    except OSError:
        return None
    return "running"


def pools_dir() -> Path:
    return cache_dir() / "pools"


def check_name(name: str) -> str:
    """Return `name`; raises UsageError if it cannot name a pool."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"'{name}' cannot name a pool: letters, digits, '.', '_' and '-' only, at most 100")
    return name


def save(state: PoolState) -> None:
    """Write a pool's state as a whole or not at all, for its owner only."""
    folder = pools_dir()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with replacing(_file(state.name), private=True, durable=False) as file:
        file.write(json.dumps(stamped(state.model_dump(mode="json")), indent=1).encode() + b"\n")


def remove(name: str) -> None:
    _file(name).unlink(missing_ok=True)


def load(name: str) -> PoolState | None:
    """Return a pool that runs, or None. A state whose process is gone is cleaned: what is left of it is ended.

    Raises UsageError for a pool of another user or machine, and for a file that is no state.
    """
    path = _file(check_name(name))
    try:
        owner = path.stat().st_uid
        state = _read(path)
    except FileNotFoundError:
        return None
    except TandemError as error:
        if not path.exists():  # it ended meanwhile
            return None
        raise UsageError(str(error)) from None
    if owner != os.getuid() or state.uid != owner:
        raise UsageError(f"the pool '{name}' belongs to user {owner}, not to you")
    if state.host != host():
        raise UsageError(f"the pool '{name}' runs on {state.host}; manage it there, or delete {path}")
    if state.started is None or identity(state.pid) != state.started:
        _clean(state)
        return None
    return state


def load_all() -> tuple[list[PoolState], list[str]]:
    found, errors = [], []
    for path in sorted(pools_dir().glob("*.json")):
        try:
            state = load(path.stem)
        except UsageError as error:
            errors.append(str(error))
            continue
        if state:
            found.append(state)
    return found, errors


def log_folders() -> set[Path]:
    """Return where pools that run have their logs; those of other machines with the same cache too."""
    found: set[Path] = set()
    for path in pools_dir().glob("*.json"):
        try:
            pool = _read(path)
        except TandemError:
            continue
        if pool.host != host() or (pool.started and identity(pool.pid) == pool.started):
            found.update(Path(replica.log).parent for replica in pool.replicas)
    return found


def end(pool: PoolState) -> None:
    """End a standing pool, and wait until nothing is left of it. Raises UsageError for the pool of a run."""
    if pool.kind != "standing":
        raise UsageError(f"the pool '{pool.name}' belongs to a run (process {pool.pid}) and ends with it")
    os.kill(pool.pid, signal.SIGTERM)
    deadline = time.monotonic() + _PATIENCE
    while identity(pool.pid) == pool.started:
        if time.monotonic() > deadline:
            os.kill(pool.pid, signal.SIGKILL)  # its guards notice
        time.sleep(0.05)
    _clean(pool)


def _clean(state: PoolState) -> None:
    """End what a dead pool left, which is nothing unless its guards were killed as well, and forget it."""
    for replica in state.replicas:
        head, started = replica.session, replica.started or ""
        # While it has a member, a session's number is not given away, except by a new start of the machine.
        if head and started.startswith(f"{_boot()}/") and identity(head) in (None, started):
            guard.kill_family(head)
    remove(state.name)


def _read(path: Path) -> PoolState:
    return read_model(path, PoolState, instead="delete it")


def _file(name: str) -> Path:
    return pools_dir() / f"{name}.json"


def _boot() -> str:
    return read_proc("sys/kernel/random/boot_id").strip()
