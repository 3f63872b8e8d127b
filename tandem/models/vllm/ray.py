"""Replicas on the machines of a Ray cluster: Ray finds the room and brings a replica back where its node died."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import secrets
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

from tandem.errors import EndpointError, MissingPackageError, UsageError
from tandem.models.vllm import guard
from tandem.models.vllm.command import Serve
from tandem.models.vllm.node import Node, Order
from tandem.models.vllm.pool import Care, Change, Progress, pause_after

_STORE = 100 << 20  # bytes for Ray's objects where we start it: nothing but short messages goes through it
_STOP = guard.GRACE + 10.0  # seconds for a node to end its replica
_TELL = 10.0  # seconds without room before that is said
_AGAIN = 1.0  # seconds between two calls of an actor that is being restarted
_NUMBERS = itertools.count(1)

Move = Callable[[str, str], None]  # a replica's URL, and the one at which it is from now on

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Member:
    order: Order
    first: asyncio.Future[None]  # it was up once
    actor: Any = None
    url: str = ""
    address: str = ""
    node: str = ""
    up: bool = False
    crashes: deque[float] = field(default_factory=deque)


class RayPool:
    """N replicas on the nodes of a Ray cluster, each in an actor; every node has Tandem, vLLM and the model.

    `on_change(url, up)` is called when a replica comes up or goes down, `on_move(old, new)` before it comes up at
    another URL, on another node perhaps. The servers listen at their nodes' addresses and ask for a random key, which
    this process has in the environment variable `api_key_env` between start and end. vLLM asks for it where it
    answers prompts as OpenAI does, and not on every page, so the cluster's network must be trusted, as Ray itself
    demands.
    """

    def __init__(
        self,
        serve: Serve,
        replicas: int | None = None,
        *,
        cores: int | None = None,
        address: str | None = None,
        env: Mapping[str, str] | None = None,
        care: Care | None = None,
        on_change: Change | None = None,
        on_move: Move | None = None,
    ) -> None:
        """Plan the pool; nothing runs before `start`.

        replicas: how many; None: as many as the cluster has GPUs for, one without GPUs.
        cores: of each replica, for replicas on the CPU; None: each takes `serve.tensor_parallel` GPUs.
        address: of a cluster that runs: "auto", or host:port; None: one is started on this machine, and ended.
        env: for the servers, besides what their nodes have.
        """
        if (replicas is not None and replicas < 1) or (cores is not None and cores < 1):
            raise UsageError("a Ray pool needs at least one replica, on at least one GPU or core")
        path = serve.path
        key = secrets.token_urlsafe(32)
        self.serve = replace(serve, model=str(path or serve.model), key=key)
        self.api_key_env = f"TANDEM_RAY_{next(_NUMBERS)}_API_KEY"
        self.on_change = on_change
        self.on_move = on_move
        self._replicas = replicas
        self._kind, self._width = ("CPU", cores) if cores else ("GPU", serve.tensor_parallel)
        self._order = Order(self.serve, 0, cores, path is not None, dict(env or {}), care or Care())
        self._address = address
        self._members: list[_Member] = []
        self._keepers: list[asyncio.Task[None]] = []
        self._progress: Progress | None = None
        self._joined = False

    @property
    def urls(self) -> list[str]:
        """The replicas' base URLs, up or not, after `start`; see `on_move`."""
        return [member.url for member in self._members]

    @property
    def nodes(self) -> list[str]:
        """Ray's ids of the nodes where the replicas are, or were last, in the order of `urls`."""
        return [member.node for member in self._members]

    async def start(self, progress: Progress | None = None) -> None:
        """Start all replicas together and wait until each is ready.

        Raises MissingPackageError without Ray, UsageError if there is no cluster at the address or it has not what
        the replicas take, and EndpointError, with the server's own reason, if one does not start; then none is left.
        """
        ray = _ray()
        self._progress = progress
        try:
            await asyncio.to_thread(_SESSION.join, ray, self._address)
            self._joined = True
            os.environ[self.api_key_env] = self.serve.key
            count = await asyncio.to_thread(self._count, ray)
            loop = asyncio.get_running_loop()
            self._members = [_Member(replace(self._order, index=i), loop.create_future()) for i in range(count)]
            self._keepers = [loop.create_task(self._keep(ray, member)) for member in self._members]
            await asyncio.gather(*(member.first for member in self._members))
        except BaseException:
            await self.aclose()
            raise
        self._progress = None

    async def aclose(self) -> None:
        """End every replica; nothing of them is left afterwards. A cluster that was there stays."""
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        self._keepers = []
        if self._joined:
            self._joined = False
            await asyncio.gather(*(self._end(member) for member in self._members))
            await asyncio.to_thread(_SESSION.leave)
        os.environ.pop(self.api_key_env, None)

    def _count(self, ray: ModuleType) -> int:
        nodes = [node for node in ray.nodes() if node["Alive"]]
        room = sum(int(node["Resources"].get(self._kind, 0) // self._width) for node in nodes)
        count = self._replicas or (room if self._kind == "GPU" and room else 1)
        if count > room:
            hint = "" if any(node["Resources"].get("GPU") for node in nodes) else "; for the CPU, give their cores"
            hint = hint if self._kind == "GPU" else ""
            what = f"{count} replica{'s' * (count > 1)} of {self.serve.name} with {self._need} each"
            raise UsageError(f"the Ray cluster has no room for {what}: it has {_listed(nodes)}{hint}")
        return count

    @property
    def _need(self) -> str:
        return f"{self._width} {self._kind}{'s' * (self._width > 1)}"

    async def _keep(self, ray: ModuleType, member: _Member) -> None:
        """Follow one replica, through all its restarts, until it is given up."""
        name = f"replica {member.order.index} of {self.serve.name}"
        try:
            while True:
                why = await self._lived(ray, member)
                where = f" (on {member.address})" if member.address else ""
                if not member.first.done():
                    member.first.set_exception(EndpointError(f"{name} did not start{where}: {why}"))
                    return
                if member.up:
                    self._turn(member, member.url, up=False)
                pause = pause_after(member.crashes, member.order.care)
                if not pause:
                    _log.error("%s is given up after %d crashes%s: %s", name, len(member.crashes), where, why)
                    if member.actor is not None:
                        ray.kill(member.actor, no_restart=True)  # its room is for others
                    return
                _log.warning("%s went down%s and is restarted: %s", name, where, why)
                await asyncio.sleep(pause)
        except ray.exceptions.RayError as error:
            why = _last_line(error)
            if member.first.done():
                _log.error("%s is given up: %s", name, why)
            else:
                member.first.set_exception(EndpointError(f"{name} did not start: {why}"))

    async def _lived(self, ray: ModuleType, member: _Member) -> str:
        """Live through one life of a replica's actor; return how it ended."""
        settled = False
        try:
            if member.actor is None:
                amount = {"num_cpus": self._width} if self._kind == "CPU" else {"num_gpus": self._width, "num_cpus": 1}
                options = {"max_restarts": -1, "max_task_retries": 0, "scheduling_strategy": "SPREAD", **amount}
                member.actor = ray.remote(Node).options(**options).remote(member.order)
            # Only the first start has an end: later, room may come back at any time.
            async with asyncio.timeout(None if member.first.done() else member.order.care.ready):
                await self._settle(ray, member)
            settled = True
            why = await self._follow(member)
            ray.kill(member.actor, no_restart=False)  # it may fare better elsewhere
        except TimeoutError:
            return f"no room in the Ray cluster within {member.order.care.ready:g} s"
        except ray.exceptions.RayActorError as error:
            why = _last_line(error)
            if not settled:  # it is dead for good
                member.actor = None
        return why

    async def _settle(self, ray: ModuleType, member: _Member) -> None:
        """Wait until Ray has placed the actor."""
        telling = asyncio.create_task(self._tell(ray, member))
        try:
            while True:
                try:
                    member.address, member.node = await member.actor.where.remote()
                    return
                except ray.exceptions.ActorUnavailableError:
                    await asyncio.sleep(_AGAIN)
        finally:
            telling.cancel()

    async def _tell(self, ray: ModuleType, member: _Member) -> None:
        await asyncio.sleep(_TELL)
        nodes = await asyncio.to_thread(ray.nodes)
        said = f"waits for room in the Ray cluster: it needs {self._need}; there is "
        said += _listed([node for node in nodes if node["Alive"]])
        _log.warning("replica %d of %s %s", member.order.index, self.serve.name, said)
        if self._progress:
            self._progress(member.order.index, said)

    async def _follow(self, member: _Member) -> str:
        """Hand on what the actor tells; return why the server did not start."""
        seen = 0
        while True:
            events = await member.actor.news.remote(seen)
            seen += len(events)
            for kind, text in events:
                if kind == "failed":
                    return str(text)
                if kind == "said":
                    _log.warning("%s", text)
                elif kind == "note":
                    if self._progress:
                        self._progress(member.order.index, text)
                else:
                    self._turn(member, text, up=kind == "up")

    def _turn(self, member: _Member, url: str, *, up: bool) -> None:
        old, member.url, member.up = member.url, url, up
        if old not in ("", url) and self.on_move:
            self.on_move(old, url)
        if self.on_change:
            self.on_change(url, up)
        if up and not member.first.done():
            member.first.set_result(None)

    async def _end(self, member: _Member) -> None:
        ray = _ray()
        if member.actor is None:
            return
        try:
            if member.node:
                async with asyncio.timeout(_STOP):
                    await member.actor.stop.remote()
        except (TimeoutError, ray.exceptions.RayActorError):  # its node is gone or silent
            pass
        ray.kill(member.actor, no_restart=True)


class _Session:
    """This process's membership in a cluster, which it can have in one at a time; the last pool to leave ends it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pools = 0
        self._ours = False
        self._address: str | None = None

    def join(self, ray: ModuleType, address: str | None) -> None:
        """Join, or start a cluster on this machine. A membership that the caller's program has is used and kept."""
        with self._lock:
            if self._pools and address != self._address:
                raise UsageError("two Ray clusters in one process are not possible; give both roles the same address")
            if not ray.is_initialized():
                self._init(ray, address)
                self._ours = True
            self._pools, self._address = self._pools + 1, address

    def leave(self) -> None:
        """Undo one `join`."""
        with self._lock:
            self._pools -= 1
            if self._ours and not self._pools:
                self._ours = False
                _ray().shutdown()

    def _init(self, ray: ModuleType, address: str | None) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
        try:
            if address is None:
                ray.init(address="local", include_dashboard=False, object_store_memory=_STORE, **quiet)
            else:
                ray.init(address=address, **quiet)
        except (ConnectionError, RuntimeError, ValueError) as error:
            where = f"no Ray cluster at '{address}' can be joined" if address else "Ray cannot be started here"
            raise UsageError(f"{where}: {_last_line(error)}") from None


_SESSION = _Session()


def _ray() -> ModuleType:
    try:
        import ray
        import ray.exceptions
    except ImportError:
        raise MissingPackageError("serving on several machines", "ray") from None
    module: ModuleType = ray
    return module


def _listed(nodes: list[dict[str, Any]]) -> str:
    """Return the nodes with what each has in all."""
    has = ((node["NodeManagerAddress"], node["Resources"]) for node in nodes)
    return ", ".join(f"{at} ({of.get('CPU', 0):g} CPU, {of.get('GPU', 0):g} GPU)" for at, of in has) or "no node"


def _last_line(error: Exception) -> str:
    """Return the last line of Ray's long errors, which says most."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
