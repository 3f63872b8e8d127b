"""Calling async code from sync code: one event loop per process, in a daemon thread, so that engines can share models.

Not anyio's blocking portal: one still open at interpreter exit waits for a thread that is gone.
"""

from __future__ import annotations

import asyncio
import functools
import sys
import threading
from collections.abc import AsyncGenerator, Coroutine, Iterator
from typing import Any, TypeVar

T = TypeVar("T")
_END: Any = object()


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="tandem", daemon=True).start()
    return loop


def wait(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the loop and return its result; an interrupted wait cancels it."""
    future = asyncio.run_coroutine_threadsafe(work, _loop())
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


def drain(source: AsyncGenerator[T, None]) -> Iterator[T]:
    """Iterate an async generator on the loop, and close it however the iteration ends."""

    async def step() -> T:
        return await anext(source, _END)

    try:
        while (item := wait(step())) is not _END:
            yield item
    finally:
        if not sys.is_finalizing():  # the loop's thread is gone by then
            wait(source.aclose())
