"""A local model on replicas of its own: placed and started when it is first needed, ended with the run."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

from tandem.config import Serving
from tandem.ledger import Role
from tandem.models.base import Delta, Model, Reading, Request
from tandem.models.tokens import TokenCounter
from tandem.models.vllm.command import Serve, need_vllm
from tandem.models.vllm.machine import GIB, find_machine
from tandem.models.vllm.model import PooledModel
from tandem.models.vllm.placement import Place, ResourceRequest, place, place_pair
from tandem.models.vllm.pool import Pool, StartLocks, log_folder, pool_name
from tandem.models.vllm.ray import RayPool
from tandem.models.vllm.size import size_of, suited
from tandem.spec import ModelSpec


class Placement:
    """The machine shared by the models of one engine: they are placed together, since they compete for memory."""

    def __init__(self) -> None:
        self.wanted: Collection[Role] | None = None  # the roles that are called; None: all that joined
        self._models: dict[Role, ServedModel] = {}
        self._placed: dict[Role, tuple[Serve, list[Place]]] | None = None
        self._placing = asyncio.Lock()
        self.locks = StartLocks()  # mentor and intern may have the same GPUs

    def join(self, model: ServedModel, role: Role) -> None:
        self._models[role] = model

    async def placed(self, role: Role) -> tuple[Serve, list[Place]]:
        async with self._placing:
            if self._placed is None:
                self._placed = await asyncio.to_thread(self._place)
        return self._placed[role]

    def _place(self) -> dict[Role, tuple[Serve, list[Place]]]:
        machine = find_machine()
        roles: list[Role] = [
            r for r in ("mentor", "intern") if r in self._models and r in (self.wanted or self._models)
        ]
        serves: dict[Role, Serve] = {}
        requests: list[ResourceRequest] = []
        models = [self._models[role] for role in roles]
        wanted = [(model.serve(), model.spec.parameters, model.serving.replicas or 1) for model in models]
        for role, model, serve in zip(roles, models, suited(wanted, machine), strict=True):
            serving = model.serving
            need_vllm(machine, serve.model)
            size = size_of(serve, cpu=not machine.gpus, parameters=model.spec.parameters)
            serves[role] = serve if machine.gpus else replace(serve, kv_cache_gib=size.cache / GIB)
            requests.append(ResourceRequest(role, serving.gpus, serving.tensor_parallel, serving.replicas, size))
        found = place_pair(requests[0], requests[1], machine) if len(requests) == 2 else [place(requests[0], machine)]
        return {role: (serves[role], places) for role, places in zip(roles, found, strict=True)}


class ServedModel(Model):
    """A model on vLLM replicas that are started at the first `probe` and end at `aclose`, or with this process.

    Calls raise what those of PooledModel do; a start may raise UsageError for a machine that is too small, and
    EndpointError with vLLM's own reason.
    """

    def __init__(
        self,
        spec: ModelSpec,
        path: str | Path | Callable[[], Path],
        *,
        role: Role = "intern",
        placement: Placement | None = None,
        serving: Serving | None = None,
        **options: Any,
    ) -> None:
        """Name the model.

        path: a folder with a Transformers model, its id on the model hub, or what fetches the folder when first needed.
        placement: shared with the other role's model; one of its own if None.
        serving: GPUs, replicas and further options of vLLM.
        options: for the OpenAIModel of each replica.
        """
        self.spec = spec
        self.serving = serving or Serving()
        self.address = f"vllm {spec.name if callable(path) else path} {' '.join(self.serving.vllm_args)}".strip()
        self._path = path
        self._role: Role = role
        self._placement = placement or Placement()
        self._placement.join(self, role)
        self._options = options
        self._pool: Pool | RayPool | None = None
        self._inner: PooledModel | None = None
        self._guard = asyncio.Lock()

    def serve(self) -> Serve:
        """Return how the model is served; fetches weights that are not here yet."""
        path = self._path() if callable(self._path) else self._path
        serving = self.serving
        return Serve(
            str(path),
            self.spec.name,
            tensor_parallel=serving.tensor_parallel,
            context=serving.context,
            revision=self.spec.revision if isinstance(self._path, str) else None,
            extra=serving.vllm_args,
        )

    @property
    def urls(self) -> list[str]:
        """Where the replicas serve, for other processes that share them; none before the first `probe`."""
        return self._pool.urls if self._pool else []

    @property
    def placed(self) -> list[tuple[int, int]]:
        """How many GPUs and how many cores each replica has; empty before the first `probe`."""
        return self._pool.placed if self._pool else []

    @property
    def states(self) -> dict[str, tuple[bool, int]]:
        return self._inner.states if self._inner else {}

    @property
    def api_key_env(self) -> str | None:
        """The environment variable with the replicas' key, if they ask for one."""
        return self._pool.api_key_env if isinstance(self._pool, RayPool) else None

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        async with aclosing((await self._started()).stream(request)) as deltas:
            async for delta in deltas:
                yield delta

    async def read(self, text: str | Sequence[int], **options: Any) -> Reading:
        """Read `text` without answering it, see `Reads`."""
        return await (await self._started()).read(text, **options)

    async def encode(self, text: str, *, special: bool) -> list[int]:
        """Return the ids of a text, see `Tokenizes`."""
        return await (await self._started()).encode(text, special=special)

    async def decode(self, ids: Sequence[int]) -> str:
        """Return the text of token ids, see `Tokenizes`."""
        return await (await self._started()).decode(ids)

    async def special_tokens(self) -> dict[str, str | None]:
        """Return what is known of its special tokens, see `Tokenizes`."""
        return await (await self._started()).special_tokens()

    def cut(self, text: str, tokens: int) -> str:
        return self._counter().cut(text, tokens)

    def count(self, text: str) -> int:
        return self._counter().count(text)

    async def probe(self) -> ModelSpec:
        """Start the replicas, wait until they serve, and return the completed specification."""
        self.spec = await (await self._started()).probe()
        return self.spec

    async def aclose(self) -> None:
        async with self._guard:
            inner, self._inner = self._inner, None
            pool, self._pool = self._pool, None
            if inner:
                await inner.aclose()
            if pool:
                await pool.aclose()

    def _counter(self) -> PooledModel | TokenCounter:
        return self._inner or TokenCounter(self.spec.name, _tokenizer(self._path))

    async def _started(self) -> PooledModel:
        async with self._guard:
            if self._inner is None:
                cluster = self.serving.ray
                self._inner = await (self._on_machine() if cluster is None else self._on_ray(cluster))
            return self._inner

    async def _on_machine(self) -> PooledModel:
        serve, places = await self._placement.placed(self._role)
        folder = log_folder(f"{pool_name(serve.name)}-{os.getpid()}")
        self._pool = pool = Pool(serve, places, folder, locks=self._placement.locks)
        await pool.start()
        inner = self._over(pool, serve)
        pool.on_change, pool.on_lost = inner.set_up, inner.give_up
        return inner

    async def _on_ray(self, cluster: str) -> PooledModel:
        serve, serving = await asyncio.to_thread(self.serve), self.serving
        self._pool = pool = RayPool(
            serve,
            serving.replicas,
            cores=serving.cores,
            address=None if cluster == "local" else cluster,
        )
        await pool.start()
        # No await from here to the last line: a change meanwhile would be missed.
        inner = self._over(pool, serve, api_key_env=pool.api_key_env)
        pool.on_change, pool.on_move, pool.on_lost = inner.set_up, inner.replace_url, inner.give_up
        return inner

    def _over(self, pool: Pool | RayPool, serve: Serve, **own: Any) -> PooledModel:
        return PooledModel(
            self.spec,
            pool.urls,
            address=self.address,
            served_name=serve.name,
            tokenizer_path=_tokenizer(serve.model),
            **(self._options | own),
        )


def _tokenizer(path: str | Path | Callable[[], Path]) -> Path | None:
    file = None if callable(path) else Path(path).expanduser() / "tokenizer.json"
    return file if file and file.is_file() else None
