"""Starts on one card go one after the other: vLLM measures a card's free memory while it starts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager


class StartLocks:
    """A lock for each card. Pools that place replicas on the same cards share one of these."""

    def __init__(self) -> None:
        self._cards: dict[int, asyncio.Lock] = {}

    @asynccontextmanager
    async def on(self, cards: Iterable[int]) -> AsyncIterator[None]:
        """Hold all of `cards`; without any, nothing is waited for."""
        async with AsyncExitStack() as held:
            for card in sorted(set(cards)):  # in one order everywhere, so that no two wait for each other
                await held.enter_async_context(self._cards.setdefault(card, asyncio.Lock()))
            yield
