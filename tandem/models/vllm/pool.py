"""The replicas of one model: started together, watched, restarted when they crash, ended together."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import re
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tandem.errors import EndpointError, UsageError
from tandem.models.vllm import state
from tandem.models.vllm.command import Serve, command, environment
from tandem.models.vllm.log import remove_old
from tandem.models.vllm.placement import Place
from tandem.models.vllm.ports import Port, check_free
from tandem.models.vllm.replica import Replica, ReplicaError
from tandem.models.vllm.supervisor import RestartPolicy, supervise

_PORT_TRIES = 3
_NUMBERS = itertools.count(1)

Progress = Callable[[int, str], None]  # a replica's index, and its current stage
Change = Callable[[str, bool], None]  # a replica's URL, and whether it is up
Lost = Callable[[str, str], None]  # a replica's URL, and why it was given up

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _PoolMember:
    place: Place
    host: str
    port: int
    held: Port | None
    log: Path
    replica: Replica | None = None
    up: bool = False
    note: str = "waiting"
    restarts: int = 0

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}/v1"


class StartLocks:
    """A lock for each GPU, shared by the pools that use it: vLLM measures free memory while it starts."""

    def __init__(self) -> None:
        self._locks: dict[int, asyncio.Lock] = {}

    @asynccontextmanager
    async def hold(self, gpus: Iterable[int]) -> AsyncIterator[None]:
        async with AsyncExitStack() as held:
            for gpu in sorted(set(gpus)):  # in one order everywhere, so that no two wait for each other
                await held.enter_async_context(self._locks.setdefault(gpu, asyncio.Lock()))
            yield


class Pool:
    """N replicas on this machine. Their URLs stay the same over restarts.

    A replica that crashes, or whose health page is silent for too long, is restarted or given up by `policy`.
    `on_change(url, up)` is called when a replica comes up or goes down, `on_lost(url, why)` when it is given up. The
    pool is listed under `name` (see `tandem.models.vllm.state`) from its start to its end.
    """

    def __init__(
        self,
        serve: Serve,
        places: Sequence[Place],
        folder: Path,
        *,
        name: str | None = None,
        ports: Sequence[int] = (),
        standing: bool = False,
        policy: RestartPolicy | None = None,
        on_change: Change | None = None,
        locks: StartLocks | None = None,
    ) -> None:
        """Plan the pool; nothing runs before `start`.

        folder: where the replicas' logs go.
        name: what it is listed under. Default: the model's name with our process id.
        ports: one for each place; free ones if there are none.
        standing: whether it is there for other processes than this one.
        locks: shared with other pools on the same GPUs, whose replicas then start one after the other.

        Raises UsageError for a number of ports that is not that of the places.
        """
        if ports and len(ports) != len(places):
            raise UsageError(f"{len(places)} replicas need {len(places)} ports; there are {len(ports)}")
        self.serve = serve
        self.name = state.check_name(name) if name else f"{pool_name(serve.name)}-{os.getpid()}-{next(_NUMBERS)}"
        self.on_change = on_change
        self.on_lost: Lost | None = None
        self._policy = policy or RestartPolicy()
        self._fixed = bool(ports)
        held = [None if ports else Port(serve.host) for _ in places]
        self._members = [
            _PoolMember(at, serve.host, port.number if port else ports[i], port, folder / f"replica-{at.index}.log")
            for i, (at, port) in enumerate(zip(places, held, strict=True))
        ]
        self._locks = locks or StartLocks()
        self._kind: state.Kind = "standing" if standing else "run"
        self._since = time.time()
        self._listable = True
        self._progress: Progress | None = None
        self._supervisors: list[asyncio.Task[None]] = []

    @property
    def replicas(self) -> list[Replica]:
        """The processes that run now or are being started; after a restart another one is here."""
        return [member.replica for member in self._members if member.replica]

    @property
    def urls(self) -> list[str]:
        """The replicas' base URLs, up or not, in the order of the places; final after `start`."""
        return [member.url for member in self._members]

    @property
    def placed(self) -> list[tuple[int, int]]:
        """How many GPUs and how many cores each replica has."""
        return [(len(member.place.gpus), len(member.place.cores)) for member in self._members]

    async def start(self, progress: Progress | None = None) -> None:
        """Start all replicas together and wait until each is ready.

        Raises UsageError if a port that was asked for is taken, and EndpointError, with the server's own reason and
        its log's path, if one does not start; then none is left running.
        """
        self._progress = progress
        if self._fixed:
            for member in self._members:
                check_free(member.host, member.port)
        starts = [asyncio.create_task(self._launch(member)) for member in self._members]
        try:
            await asyncio.gather(*starts)
        except BaseException:
            for start in starts:
                start.cancel()
            await asyncio.gather(*starts, return_exceptions=True)
            await self.aclose()
            raise
        self._progress = None
        self._supervisors = [asyncio.create_task(self._supervise(member)) for member in self._members]

    async def aclose(self) -> None:
        for supervisor in self._supervisors:
            supervisor.cancel()
        await asyncio.gather(*self._supervisors, return_exceptions=True)
        self._supervisors = []
        await asyncio.gather(*(replica.stop() for replica in self.replicas))
        for member in self._members:
            member.replica = None
            if member.held:
                member.held.release()
        if self._listable:
            state.remove(self.name)

    async def _launch(self, member: _PoolMember) -> None:
        """Start one replica and wait for it; a free port taken meanwhile by another process is replaced."""
        async with self._locks.hold(member.place.gpus):
            for last in (*[False] * (_PORT_TRIES - 1), True):
                try:
                    await self._try(member)
                    break
                except ReplicaError as error:
                    if not error.port_taken or not member.held or member.restarts or last:
                        where = f"replica {member.place.index} of {self.serve.name}"
                        raise EndpointError(f"{where} did not start: {error}") from None
                    member.held.release()
                    member.held = Port(member.host)
                    member.port = member.held.number
        self._set_state(member, up=True, note="ready")

    async def _try(self, member: _PoolMember) -> None:
        argv = command(self.serve, member.place, member.port)
        replica = Replica(argv, environment(self.serve, member.place), member.port, member.log, member.host)
        member.replica = replica
        try:
            await replica.start()
            await replica.wait_ready(self._policy.ready, lambda what: self._note(member, what), self.serve.name)
        except BaseException:
            await replica.stop()
            raise

    async def _supervise(self, member: _PoolMember) -> None:
        why = await supervise(
            member.url, lambda: self._live(member), self._policy, lambda what: self._note(member, what)
        )
        if self.on_lost:
            self.on_lost(member.url, why)

    async def _live(self, member: _PoolMember) -> str:
        """Watch a replica to its end, started anew unless it is up; return why it went down."""
        if not member.up:
            member.restarts += 1
            try:
                await self._launch(member)
            except EndpointError as error:
                return str(error)
        assert member.replica is not None
        why = await self._watch(member.replica)
        self._set_state(member, up=False, note=why)
        await member.replica.stop()
        return why

    async def _watch(self, replica: Replica) -> str:
        ended = asyncio.create_task(replica.ended())
        well = time.monotonic()
        try:
            while not ended.done():
                if await replica.healthy(self._policy.patience):
                    well = time.monotonic()
                elif time.monotonic() - well >= self._policy.patience and not ended.done():
                    return f"not healthy for {self._policy.patience:g} s; its log: {replica.log}"
                await asyncio.wait([ended], timeout=self._policy.interval)
                replica.shorten_log()
            return ended.result()
        finally:
            ended.cancel()

    def _set_state(self, member: _PoolMember, *, up: bool, note: str) -> None:
        member.up = up
        self._note(member, note)
        if self.on_change:
            self.on_change(member.url, up)

    def _note(self, member: _PoolMember, note: str) -> None:
        member.note = note
        if self._progress:
            self._progress(member.place.index, note)
        if not self._listable:
            return
        try:
            state.save(self._state())
        except OSError as error:  # the list of pools is a service to the user; the run goes on without
            self._listable = False
            _log.warning("the pool is not listed: %s: %s", error.filename, error.strerror)

    def _state(self) -> state.PoolState:
        return state.PoolState(
            name=self.name,
            model=self.serve.name,
            kind=self._kind,
            uid=os.getuid(),
            host=state.host(),
            pid=os.getpid(),
            started=state.identity(os.getpid()),
            since=self._since,
            replicas=[_listed(member) for member in self._members],
        )


def _listed(member: _PoolMember) -> state.ReplicaState:
    gpus, cores = (",".join(map(str, numbers)) for numbers in (member.place.gpus, member.place.cores))
    session = member.replica.session if member.replica else None
    return state.ReplicaState(
        url=member.url,
        place=f"GPU {gpus}" if gpus else f"cores {cores}" if cores else "",
        log=str(member.log),
        up=member.up,
        note=member.note,
        restarts=member.restarts,
        pid=member.replica.pid if member.replica else None,
        session=session,
        started=state.identity(session) if session else None,
    )


def pool_name(model: str) -> str:
    return re.sub(r"[^\w.-]+", "-", model.rpartition("/")[2]).strip(".-_")[:60] or "pool"


def log_folder(name: str) -> Path:
    """Return the folder, made if need be, for the logs of a run's own replicas; those of old runs are removed."""
    logs = state.pools_dir() / "logs"
    folder = logs / name
    folder.mkdir(parents=True, exist_ok=True)
    remove_old(logs, keep=state.log_folders() | {folder})
    return folder
