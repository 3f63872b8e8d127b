"""Starting a subprocess with a start that can be cancelled safely.

A cancelled `asyncio.create_subprocess_exec` kills the process and then waits for its pipes to close, forever if a
grandchild holds one of them. Here the start always completes, and if the caller was cancelled the process is ended
afterwards.
"""

from __future__ import annotations

import asyncio
from asyncio.subprocess import Process
from collections.abc import Awaitable, Callable
from typing import Any


async def start_process(*command: str, end: Callable[[Process], Awaitable[None]], **options: Any) -> Process:
    """Start a process; `options` are those of `asyncio.create_subprocess_exec`.

    If the call is cancelled, `end` is called on the started process. Raises OSError if the process cannot be started.
    """
    starting = asyncio.ensure_future(asyncio.create_subprocess_exec(*command, **options))
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        await asyncio.wait({starting})
        if starting.exception() is None:
            await end(starting.result())
        raise
