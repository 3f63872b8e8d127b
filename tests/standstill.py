"""Machines of continuous integration are at times stopped for minutes; a test that failed over it is run once more.

Whatever waits at most a minute gives up at once when the machine goes on: neither test nor code is to blame. A failure
during which the clock did not jump counts at once.
"""

from __future__ import annotations

import threading
import time

import pytest

TICK = 0.5  # seconds
LONG = 20.0  # seconds without a tick: more than any load explains


class Ticks:
    """A thread that sees when the process did not get to run."""

    def __init__(self) -> None:
        self._longest = 0.0  # seconds between two ticks, since the test began
        self._last = time.monotonic()
        threading.Thread(target=self._run, daemon=True, name="standstill").start()

    def _run(self) -> None:
        while True:
            time.sleep(TICK)
            self.look()

    def begin(self) -> None:
        """Begin anew with a test."""
        self._longest, self._last = 0.0, time.monotonic()

    def look(self) -> float:
        """Return the longest time without a tick, in seconds, this moment's included."""
        now = time.monotonic()
        self._longest, self._last = max(self._longest, now - self._last), now
        return self._longest


_ticks = Ticks()


def stood_still() -> bool:
    """Whether the machine was stopped during this test."""
    return _ticks.look() > LONG


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let each test be run twice where the machine was stopped."""
    for item in items:
        item.add_marker(pytest.mark.flaky(reruns=1, condition=stood_still))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Begin anew with each test."""
    _ticks.begin()
