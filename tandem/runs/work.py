"""The loop of everything long: many items side by side, within limits, with the failures of single items caught."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from tandem.errors import LimitReached, TandemError

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Limits:
    """Where work stops by itself, to be taken up again later. None: nowhere."""

    usd: float | None = None  # in the worst case, over all parts of the work
    seconds: float | None = None  # of this part of the work


async def all_must_succeed(_: object, result: object) -> None:
    """Settle what has no place for failures: the first one ends the work."""
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
    """Do `one` for each item, at most `concurrency` at once; return what stopped it before the end, or None.

    `settle` takes what `one` gave, or why it failed, and holds up no further item: what it raises ends the work. A
    LimitReached of `one` begins no further item and lets those in flight end; `give_up` failures in a row do the same.
    When `seconds` are over, those in flight are cancelled, or with `cut` false read to their end. Cancelling cancels
    all; whatever is raised, nothing is left running.
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
                stopped = str(limit)  # what is in flight may still fit
                return
            except TandemError as error:
                result = error
            except Exception as fault:  # a fault of ours in one item must not end a night's work
                result = TandemError(f"unexpected {type(fault).__name__}: {fault}")
                result.__cause__ = fault
            failed = failed + 1 if isinstance(result, TandemError) else 0
            if give_up and failed >= give_up and not stopped:
                stopped = f"{failed} problems in a row failed, the last one with: {result}"
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
    except BaseExceptionGroup as several:  # of things side by side: the first says enough
        raise _first(several) from None
    return stopped


def time_is_over(seconds: float) -> str:
    """Return why work that may take so long was stopped."""
    return f"--max-minutes {seconds / 60:g} are over"


def _first(several: BaseExceptionGroup) -> BaseException:
    error = several.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
