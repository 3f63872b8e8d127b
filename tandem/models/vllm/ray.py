"""Replicas on the machines of a Ray cluster: Ray finds the room and brings a replica back where its node died."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

from tandem.errors import EndpointError, UsageError
from tandem.models.vllm import guard
from tandem.models.vllm.cluster import ANSWER, CONNECTION, import_ray, last_line, unreachable
from tandem.models.vllm.command import Serve
from tandem.models.vllm.node import ReplicaActor, ReplicaTask
from tandem.models.vllm.pool import Change, Lost, Progress
from tandem.models.vllm.supervisor import RestartPolicy, supervise

_STOP = guard.GRACE + 10.0  # seconds for a node to end its replica
_REPORT = 10.0  # seconds without room before that is reported
_AGAIN = 1.0  # seconds between two calls of an actor that is being restarted
_HEAD = 3  # silent looks at the head, `ANSWER` apart, before it is given up: Ray ends our process a minute after
_NUMBERS = itertools.count(1)

Move = Callable[[str, str], None]  # a replica's URL, and the one at which it is from now on

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _RayMember:
    task: ReplicaTask
    first: asyncio.Future[None]  # it was up once
    actor: Any = None
    url: str = ""
    address: str = ""
    node: str = ""
    up: bool = False


class RayPool:
    """N replicas on the nodes of a Ray cluster, each in an actor; every node has Tandem, vLLM and the model.

    `on_change(url, up)` is called when a replica comes up or goes down, `on_move(old, new)` before it comes up at
    another URL, on another node perhaps, `on_lost(url, why)` when it is given up. The servers listen at their nodes'
    addresses and ask for a random key, which this process has in the environment variable `api_key_env` between start
    and end. vLLM checks it under /v1 only: anyone who reaches a node may read /metrics and use /tokenize, so the
    cluster's network must be trusted, as Ray itself requires.

    Without its head a cluster ends: then every replica is given up, and this process leaves it.
    """

    def __init__(
        self,
        serve: Serve,
        replicas: int | None = None,
        *,
        cores: int | None = None,
        address: str | None = None,
        env: Mapping[str, str] | None = None,
        policy: RestartPolicy | None = None,
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
        self.on_lost: Lost | None = None
        self._replicas = replicas
        self._kind, self._width = ("CPU", cores) if cores else ("GPU", serve.tensor_parallel)
        self._task = ReplicaTask(self.serve, 0, cores, path is not None, dict(env or {}), policy or RestartPolicy())
        self._address = address
        self._members: list[_RayMember] = []
        self._supervisors: list[asyncio.Task[None]] = []
        self._progress: Progress | None = None
        self._joined = False
        self._watch: asyncio.Task[None] | None = None

    @property
    def urls(self) -> list[str]:
        """The replicas' base URLs, up or not, after `start`; see `on_move`."""
        return [member.url for member in self._members]

    @property
    def placed(self) -> list[tuple[int, int]]:
        """How many GPUs and how many cores each replica has."""
        each = (self._width, 0) if self._kind == "GPU" else (0, self._width)
        return [each] * len(self._members)

    @property
    def nodes(self) -> list[str]:
        """Ray's ids of the nodes where the replicas are, or were last, in the order of `urls`."""
        return [member.node for member in self._members]

    async def start(self, progress: Progress | None = None) -> None:
        """Start all replicas together and wait until each is ready.

        Raises MissingPackageError without Ray, UsageError if there is no cluster at the address or it has not what
        the replicas take, and EndpointError, with the server's own reason, if one does not start; then none is left.
        """
        ray = import_ray()
        self._progress = progress
        try:
            await asyncio.to_thread(CONNECTION.join, ray, self._address)
            self._joined = True
            os.environ[self.api_key_env] = self.serve.key
            count = await asyncio.to_thread(self._count, ray)
            loop = asyncio.get_running_loop()
            self._members = [_RayMember(replace(self._task, index=i), loop.create_future()) for i in range(count)]
            self._supervisors = [loop.create_task(self._supervise(ray, member)) for member in self._members]
            self._watch = loop.create_task(self._watch_head(ray.get_runtime_context().gcs_address))
            await asyncio.gather(*(member.first for member in self._members))
        except BaseException:
            await self.aclose()
            raise
        self._progress = None

    async def aclose(self) -> None:
        """End every replica; nothing of them is left afterwards. A cluster that was there stays."""
        watch, self._watch = self._watch, None
        if watch:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
        await self._release()
        os.environ.pop(self.api_key_env, None)

    async def _release(self) -> None:
        for supervisor in self._supervisors:
            supervisor.cancel()
        await asyncio.gather(*self._supervisors, return_exceptions=True)
        self._supervisors = []
        if self._joined:
            self._joined = False
            await asyncio.gather(*(self._end(member) for member in self._members))
            await asyncio.to_thread(CONNECTION.leave)

    async def _watch_head(self, address: str) -> None:
        silent = 0
        while silent < _HEAD:
            await asyncio.sleep(ANSWER)
            silent = 0 if await asyncio.to_thread(unreachable, address) is None else silent + 1
        why = f"the head of the Ray cluster, {address}, no longer answers"
        _log.error("%s; all replicas of %s are given up", why, self.serve.name)
        for member in self._members:
            member.up = False
            if not member.first.done():
                member.first.set_exception(EndpointError(f"replica {member.task.index} did not start: {why}"))
            elif self.on_lost:
                self.on_lost(member.url, why)
        await asyncio.gather(*(self._stop(member) for member in self._members))  # what still runs hears us without it
        for member in self._members:
            member.actor = None  # it ends with the cluster
        await self._release()

    def _count(self, ray: ModuleType) -> int:
        nodes = [node for node in ray.nodes() if node["Alive"]]
        room = sum(int(node["Resources"].get(self._kind, 0) // self._width) for node in nodes)
        count = self._replicas or (room if self._kind == "GPU" and room else 1)
        if count > room:
            hint = "" if any(node["Resources"].get("GPU") for node in nodes) else "; for the CPU, give their cores"
            hint = hint if self._kind == "GPU" else ""
            what = f"{count} replica{'s' * (count > 1)} of {self.serve.name} with {self._need} each"
            raise UsageError(f"the Ray cluster has no room for {what}: it has {_describe(nodes)}{hint}")
        return count

    @property
    def _need(self) -> str:
        return f"{self._width} {self._kind}{'s' * (self._width > 1)}"

    async def _supervise(self, ray: ModuleType, member: _RayMember) -> None:
        name = f"replica {member.task.index} of {self.serve.name}"
        try:
            why = await supervise(name, lambda: self._live(ray, member, name), member.task.policy, lambda what: None)
            if member.actor is not None:
                ray.kill(member.actor, no_restart=True)  # its room is for others
        except EndpointError as error:
            member.first.set_exception(error)
            return
        except ray.exceptions.RayError as error:
            why = f"given up: {last_line(error)}"
            _log.error("%s is %s", name, why)
        if self.on_lost:
            self.on_lost(member.url, why)

    async def _live(self, ray: ModuleType, member: _RayMember, name: str) -> str:
        """Follow a replica to its end; return why it went down. Raises EndpointError where it was never up."""
        try:
            why = await self._run_actor(ray, member)
        except ray.exceptions.RayError as error:
            if member.first.done():
                raise
            why = last_line(error)
        where = f" (on {member.address})" if member.address else ""
        if not member.first.done():
            raise EndpointError(f"{name} did not start{where}: {why}")
        if member.up:
            self._set_state(member, member.url, up=False)
        return why + where

    async def _run_actor(self, ray: ModuleType, member: _RayMember) -> str:
        """Follow the actor, placed anew unless Ray restarts it, until its replica is down; return why."""
        settled = False
        try:
            if member.actor is None:
                amount = {"num_cpus": self._width} if self._kind == "CPU" else {"num_gpus": self._width, "num_cpus": 1}
                options = {"max_restarts": -1, "max_task_retries": 0, "scheduling_strategy": "SPREAD", **amount}
                member.actor = ray.remote(ReplicaActor).options(**options).remote(member.task)
            # Only the first start has an end: later, room may come back at any time.
            async with asyncio.timeout(None if member.first.done() else member.task.policy.ready):
                await self._settle(ray, member)
            settled = True
            why = await self._follow(member)
            ray.kill(member.actor, no_restart=False)  # it may fare better elsewhere
        except TimeoutError:
            return f"no room in the Ray cluster within {member.task.policy.ready:g} s"
        except ray.exceptions.RayActorError as error:
            why = last_line(error)
            if isinstance(error, ray.exceptions.ActorUnavailableError):  # its text lists all causes
                why = "its worker or its node is gone (out of memory, perhaps)"
            if not settled:  # it is dead for good
                member.actor = None
        return why

    async def _settle(self, ray: ModuleType, member: _RayMember) -> None:
        reporting = asyncio.create_task(self._report_waiting(ray, member))
        try:
            while True:
                try:
                    member.address, member.node = await member.actor.where.remote()
                    return
                except ray.exceptions.ActorUnavailableError:
                    await asyncio.sleep(_AGAIN)
        finally:
            reporting.cancel()

    async def _report_waiting(self, ray: ModuleType, member: _RayMember) -> None:
        await asyncio.sleep(_REPORT)
        nodes = await asyncio.to_thread(ray.nodes)
        text = f"waits for room in the Ray cluster: it needs {self._need}; there is "
        text += _describe([node for node in nodes if node["Alive"]])
        _log.warning("replica %d of %s %s", member.task.index, self.serve.name, text)
        if self._progress:
            self._progress(member.task.index, text)

    async def _follow(self, member: _RayMember) -> str:
        """Handle the events of the actor; return why the server did not start."""
        seen = 0
        while True:
            events = await member.actor.events_after.remote(seen)
            seen += len(events)
            for kind, text in events:
                if kind == "failed":
                    return str(text)
                if kind == "warning":
                    _log.warning("%s", text)
                elif kind == "note":
                    if self._progress:
                        self._progress(member.task.index, text)
                else:
                    self._set_state(member, text, up=kind == "up")

    def _set_state(self, member: _RayMember, url: str, *, up: bool) -> None:
        old, member.url, member.up = member.url, url, up
        if old not in ("", url) and self.on_move:
            self.on_move(old, url)
        if self.on_change:
            self.on_change(url, up)
        if up and not member.first.done():
            member.first.set_result(None)

    async def _end(self, member: _RayMember) -> None:
        await self._stop(member)
        if member.actor is not None:
            import_ray().kill(member.actor, no_restart=True)

    async def _stop(self, member: _RayMember) -> None:
        ray = import_ray()
        try:
            if member.actor is not None and member.node:
                async with asyncio.timeout(_STOP):
                    await member.actor.stop.remote()
        except (TimeoutError, ray.exceptions.RayActorError):  # its node is gone or silent
            pass


def _describe(nodes: list[dict[str, Any]]) -> str:
    has = ((node["NodeManagerAddress"], node["Resources"]) for node in nodes)
    return ", ".join(f"{at} ({of.get('CPU', 0):g} CPU, {of.get('GPU', 0):g} GPU)" for at, of in has) or "no node"
