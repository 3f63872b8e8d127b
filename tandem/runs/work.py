"""The loop of all long work: many items concurrently, within limits, catching the failures of single items."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from tandem.errors import LimitReached, TandemError
from tandem.words import counted

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Limits:
    """When work stops, to be resumed later. None: no limit."""

    usd: float | None = None  # worst case, over all parts of the work
    seconds: float | None = None  # of this part of the work

    @classmethod
    def of(cls, max_usd: float | None, max_minutes: float | None) -> Limits:
        return cls(max_usd, None if max_minutes is None else max_minutes * 60)


async def all_must_succeed(_: object, result: object) -> None:
    """Settle items without handling failures: the first one ends the work."""
    if isinstance(result, TandemError):
        raise result


async def work_through(
    items: Iterable[_Item],
    one: Callable[[_Item], Awaitable[_Result]],
    settle: Callable[[_Item, _Result | TandemError], Awaitable[None]] = all_must_succeed,
    *,
    concurrency: int,
    seconds: float | None = None,
    give_up: int | None = None,
    cut: bool = True,
) -> str | None:
    """Do `one` for each item, at most `concurrency` at a time; return why it stopped early, or None.

    `settle` gets the result of `one` or its error, and does not block further items; an exception in it ends the work.
    After a LimitReached in `one`, or `give_up` failures in a row, no further item starts and those in flight finish.
    After `seconds`, items in flight are cancelled, or finished if `cut` is false. Cancelling cancels all items; nothing
    is left running after any exception.
    """
    stopped: str | None = None
    failed, broken = 0, False  # in a row; settling failed
    waiting = iter(items)
    loop = asyncio.get_running_loop()
    deadline = None if seconds is None else loop.time() + seconds
    over = time_is_over(seconds or 0.0)

    async def work() -> None:
        nonlocal stopped, failed
        for item in waiting:
            if deadline is not None and loop.time() >= deadline:
                stopped = over
            if stopped:
                return
            result: _Result | TandemError
            try:
                result = await one(item)
            except LimitReached as limit:
                stopped = str(limit)  # calls in flight may still fit
                return
            except TandemError as error:
                result = error
            except Exception as fault:  # a bug in one item must not end a long run
                result = TandemError(f"unexpected {type(fault).__name__}: {fault}")
                result.__cause__ = fault
            failed = failed + 1 if isinstance(result, TandemError) else 0
            if give_up and failed >= give_up and not stopped:
                stopped = f"{counted(failed, 'problem')} in a row failed, the last one with: {result}"
            if not broken:
                settling.create_task(settled(item, result))

    async def settled(item: _Item, result: _Result | TandemError) -> None:
        nonlocal broken
        try:
            await settle(item, result)
        except BaseException:
            broken = True  # the group takes no more
            raise

    try:
        async with asyncio.TaskGroup() as settling:
            try:
                async with asyncio.timeout_at(deadline if cut else None), asyncio.TaskGroup() as working:
                    for _ in range(concurrency):
                        working.create_task(work())
            except TimeoutError:
                stopped = over
    except BaseExceptionGroup as several:  # of concurrent errors the first is enough
        raise _first(several) from None
    return stopped


def time_is_over(seconds: float) -> str:
    return f"--max-minutes {seconds / 60:g} are over"


def _first(several: BaseExceptionGroup) -> BaseException:
    error = several.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
