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

from tandem.errors import UsageError

T = TypeVar("T")
_END: Any = object()
_THREAD = "tandem"


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name=_THREAD, daemon=True).start()
    return loop


def wait(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the loop and return its result; an interrupted wait cancels it.

    Raises UsageError on the loop's own thread, which would wait for itself.
    """
    if threading.current_thread().name == _THREAD and asyncio._get_running_loop() is _loop():
        work.close()
        raise UsageError(
            "this is called by code that Tandem itself runs: await the async method there (asolve, astream)"
        )
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
