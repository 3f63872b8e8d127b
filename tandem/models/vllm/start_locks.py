"""Starts on one GPU go one after the other: vLLM measures its free memory while it starts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager


class StartLocks:
    """A lock for each GPU. Pools that place replicas on the same GPUs share one of these."""

    def __init__(self) -> None:
        self._locks: dict[int, asyncio.Lock] = {}

    @asynccontextmanager
    async def hold(self, gpus: Iterable[int]) -> AsyncIterator[None]:
        """Hold the locks of all `gpus`; without any, nothing is waited for."""
        async with AsyncExitStack() as held:
            for gpu in sorted(set(gpus)):  # in one order everywhere, so that no two wait for each other
                await held.enter_async_context(self._locks.setdefault(gpu, asyncio.Lock()))
            yield
