"""The loop that run, collect, compare and blueprint build share: limits, failures, cancelling, nothing left running."""

from __future__ import annotations

import asyncio

import pytest

from tandem.errors import LimitReached, TandemError
from tandem.runs.work import work_through


class Work:
    """Items that take a moment; keeps what began, what was settled, and how many ran at once."""

    def __init__(self, fails: tuple[int, ...] = (), limit: int | None = None, seconds: float = 0.01) -> None:
        self.fails, self.limit, self.seconds = fails, limit, seconds
        self.begun: list[int] = []
        self.settled: dict[int, int | str] = {}
        self.running = self.most = 0

    async def one(self, item: int) -> int:
        self.begun.append(item)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(self.seconds)
            if item == self.limit:
                raise LimitReached("no money")
            if item in self.fails:
                raise TandemError("no luck") if item % 2 else ZeroDivisionError("oops")
            return -item
        finally:
            self.running -= 1

    async def settle(self, item: int, result: int | TandemError) -> None:
        self.settled[item] = str(result) if isinstance(result, TandemError) else result


async def test_every_item_is_done_once_and_so_many_at_once() -> None:
    work = Work(fails=(3, 4))
    assert await work_through(range(10), work.one, work.settle, concurrency=3) is None
    assert work.begun == list(range(10)) and work.most == 3
    failures = {3: "no luck", 4: "unexpected ZeroDivisionError: oops"}
    assert work.settled == {i: -i for i in range(10)} | failures


async def test_a_limit_begins_nothing_more_and_lets_what_is_in_flight_end() -> None:
    work = Work(limit=1)
    assert await work_through(range(10), work.one, work.settle, concurrency=3) == "no money"
    assert len(work.begun) < 6 and set(work.settled) == set(work.begun) - {1}


async def test_failures_in_a_row_give_up() -> None:
    work = Work(fails=(0, 2, 3, 4, 5, 6))
    stopped = await work_through(range(10), work.one, work.settle, concurrency=1, give_up=3)
    assert stopped == "3 problems in a row failed, the last one with: unexpected ZeroDivisionError: oops"
    assert list(work.settled) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("cut", [True, False])
async def test_when_the_time_is_over_what_is_in_flight_is_cut_or_read_to_its_end(cut: bool) -> None:
    work = Work(seconds=0.3)
    stopped = await work_through(range(10), work.one, work.settle, concurrency=2, seconds=0.1, cut=cut)
    assert stopped == "--max-minutes 0.00166667 are over" and work.running == 0
    assert work.settled == ({} if cut else {0: 0, 1: -1})


async def test_no_item_begins_after_the_time() -> None:
    work = Work()
    assert "are over" in str(await work_through(range(3), work.one, work.settle, concurrency=3, seconds=0))
    assert not work.begun


async def test_settling_holds_up_no_item_and_what_it_raises_ends_the_work() -> None:
    work, gate = Work(), asyncio.Event()

    async def settle(item: int, result: int | TandemError) -> None:
        if item < 5:
            await gate.wait()
        elif item == 9:
            raise TandemError("the disk is full")

    with pytest.raises(TandemError, match="the disk is full"):
        await work_through(range(12), work.one, settle, concurrency=2)
    assert len(work.begun) >= 10 and work.running == 0


async def test_cancelling_leaves_nothing_running() -> None:
    work = Work(seconds=60)
    task = asyncio.create_task(work_through(range(5), work.one, work.settle, concurrency=2))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert work.begun == [0, 1] and work.running == 0 and not work.settled
