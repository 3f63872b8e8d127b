"""One replica on a node of a Ray cluster: a pool of one, inside an actor, that reports what becomes of it."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from tandem.errors import TandemError, UsageError
from tandem.models.vllm.command import Serve
from tandem.models.vllm.machine import GIB, Machine, find_machine
from tandem.models.vllm.placement import SHARE, Place
from tandem.models.vllm.pool import Pool, log_folder, pool_name
from tandem.models.vllm.size import size_of, suited
from tandem.models.vllm.supervisor import RestartPolicy

# A stage of the start; a URL that is up or down; a warning of the pool; why the replica did not start.
Kind = Literal["note", "up", "down", "warning", "failed"]
Event = tuple[Kind, str]
_COPIES = 3  # for which a node should have memory: Ray does not say how many it puts there


@dataclass(frozen=True, slots=True)
class ReplicaTask:
    """What a node is to run: `cores` for a replica without GPUs, `here` if the model is a folder or file.

    `env` is added to the environment of the server.
    """

    serve: Serve
    index: int
    cores: int | None
    here: bool
    env: Mapping[str, str]
    policy: RestartPolicy


class ReplicaActor:
    """The actor. The server's guard ends it with the actor's process, however that ends."""

    def __init__(self, task: ReplicaTask) -> None:
        self._task = task
        self._events: list[Event] = []
        self._new = asyncio.Event()
        self._pool: Pool | None = None
        self._start: asyncio.Task[None] | None = None

    async def where(self) -> tuple[str, str]:
        import ray

        return ray.util.get_node_ip_address(), ray.get_runtime_context().get_node_id()

    async def events_after(self, seen: int) -> list[Event]:
        """Return what happened after the first `seen` events; waits for it. The first call starts the server."""
        if self._start is None:
            self._start = asyncio.create_task(self._started())
        while len(self._events) <= seen:
            self._new.clear()
            await self._new.wait()
        return self._events[seen:]

    async def stop(self) -> None:
        if self._start:
            self._start.cancel()
            await asyncio.gather(self._start, return_exceptions=True)
        if self._pool:
            await self._pool.aclose()

    async def _started(self) -> None:
        handler = _LogLines(self._report)
        logging.getLogger("tandem").addHandler(handler)
        try:
            self._pool = pool = await self._made()
            await pool.start(lambda _, what: self._report("note", what))
        except TandemError as error:
            self._report("failed", str(error))
        except OSError as error:
            self._report("failed", f"{error.filename}: {error.strerror}")

    async def _made(self) -> Pool:
        task = self._task
        address, _ = await self.where()
        serve = replace(task.serve, host=address)
        if task.here and serve.path is None:
            raise UsageError(f"there is no {serve.model}; put the model there, or on storage that all nodes share")
        os.environ.update(task.env)
        if task.cores:  # Ray counts cores and does not say which, so the threads are not bound to any
            serve = on_cpu(serve, await asyncio.to_thread(find_machine))
            os.environ.update(VLLM_CPU_OMP_THREADS_BIND="nobind", OMP_NUM_THREADS=str(task.cores))
            place = Place(task.index)
        else:
            place = Place(task.index, gpus=_gpus(), memory=SHARE)
        folder = log_folder(f"{pool_name(serve.name)}-ray-{os.getpid()}")
        return Pool(serve, [place], folder, policy=task.policy, on_change=self._turned)

    def _turned(self, url: str, up: bool) -> None:
        self._report("up" if up else "down", url)

    def _report(self, kind: Kind, text: str) -> None:
        self._events.append((kind, text))
        self._new.set()


def on_cpu(serve: Serve, machine: Machine) -> Serve:
    """Return how a node without GPUs serves: in what suits its CPU, with a cache for one context of that."""
    (serve,) = suited([(serve, None, _COPIES)], machine)
    return replace(serve, kv_cache_gib=size_of(serve, cpu=True).cache / GIB)


class _LogLines(logging.Handler):
    """Reports the pool's warnings, which would end in a file of the node."""

    def __init__(self, report: Callable[[Kind, str], None]) -> None:
        super().__init__(logging.WARNING)
        self._report = report

    def emit(self, record: logging.LogRecord) -> None:
        self._report("warning", record.getMessage())


def _gpus() -> tuple[int, ...]:
    import ray

    ids = [str(gpu) for gpu in ray.get_gpu_ids()]
    if not all(gpu.isdigit() for gpu in ids):
        raise UsageError("Ray knows the GPUs by names; start it there with numbers in CUDA_VISIBLE_DEVICES, or without")
    return tuple(map(int, ids))
