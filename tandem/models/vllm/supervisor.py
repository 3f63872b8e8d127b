"""When a replica that went down is started again, and when it is given up: one rule, on one machine and on Ray."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tandem.models.vllm.replica import READY_SECONDS

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """How replicas are watched and restarted; all times in seconds.

    The defaults are judgements, not measurements: a server that answers nothing for two minutes has outlasted the
    longest step of a large batch, and one that crashed six times in half an hour has a reason that stays.
    """

    ready: float = READY_SECONDS  # for a start
    interval: float = 5.0  # between two checks of a server's health
    patience: float = 120.0  # without a healthy answer, then it is restarted
    first_pause: float = 1.0  # before a restart; doubled at each further crash
    longest_pause: float = 60.0
    crashes: int = 5  # more of them within `within`, and the replica is given up
    within: float = 1800.0


async def supervise(
    name: str, live: Callable[[], Awaitable[str]], policy: RestartPolicy, note: Callable[[str], None]
) -> str:
    """Let a replica live one life after another; return why it is given up.

    `live` starts it, unless it runs, and returns why it went down; `note` is called with what happens between two
    lives.
    """
    crashes: deque[float] = deque()
    while True:
        why = await live()
        crashes.append(time.monotonic())
        while crashes[-1] - crashes[0] > policy.within:
            crashes.popleft()
        if len(crashes) > policy.crashes:
            why = f"given up after {len(crashes)} crashes: {why}"
            _log.error("%s is %s", name, why)
            note(why)
            return why
        pause = min(policy.longest_pause, policy.first_pause * 2.0 ** (len(crashes) - 1))
        _log.warning("%s went down and is restarted in %g s: %s", name, pause, why)
        note(f"restarting in {pause:g} s: {why}")
        await asyncio.sleep(pause)
