"""Starting a process so that its start can be cancelled.

`asyncio.create_subprocess_exec` that is cancelled kills the process and waits for its pipes to be closed, without end
where a grandchild holds one of them. Here a start always completes; a caller that was cancelled ends the process then.
"""

from __future__ import annotations

import asyncio
from asyncio.subprocess import Process
from collections.abc import Awaitable, Callable
from typing import Any


async def start_process(*command: str, end: Callable[[Process], Awaitable[None]], **options: Any) -> Process:
    """Start a process; `options` are those of `asyncio.create_subprocess_exec`.

    Where this is cancelled meanwhile, `end` sees to the end of what was started. Raises OSError if there can be none.
    """
    starting = asyncio.ensure_future(asyncio.create_subprocess_exec(*command, **options))
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        await asyncio.wait({starting})
        if starting.exception() is None:
            await end(starting.result())
        raise
