"""Where a problem goes while it is solved: the files whose functions take it as an argument, in the order of the calls.

One problem is solved by `tandem` on the fake pair. Calls in a row within one file are one stay; a return is a stay in a
file that was left before. docs/architecture.md has the figures.
"""

from __future__ import annotations

import asyncio
import sys
from itertools import groupby
from pathlib import Path
from types import FrameType

import tandem
from tandem import Tandem
from tandem.types import Problem

PACKAGE = Path(tandem.__file__).parent


def problem_way(effort: str = "none,low,medium,high,answer") -> list[str]:
    """Return the file of each stay, from the engine's door to the solution."""
    calls: list[str] = []
    seen: set[FrameType] = set()  # a generator's frame is entered anew at each step

    def note(frame: FrameType, event: str, _: object) -> None:
        path, code = Path(frame.f_code.co_filename), frame.f_code
        if event != "call" or frame in seen or PACKAGE not in path.parents:
            return
        arguments = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        if any(isinstance(frame.f_locals.get(name), Problem) for name in arguments if name != "self"):
            seen.add(frame)
            calls.append(path.relative_to(PACKAGE).as_posix())

    async def solve() -> None:
        async with Tandem("fake", "fake", effort=effort) as engine:
            await engine.asolve("What is 2+2?")  # what is loaded once
            sys.setprofile(note)
            try:
                await engine.asolve(Problem.from_text("What is 17*23?", id="way"))
            finally:
                sys.setprofile(None)

    asyncio.run(solve())
    return [file for file, _ in groupby(calls)]


if __name__ == "__main__":
    way = problem_way()
    print(" > ".join(way))
    print(f"{len(way)} stays, {len(set(way))} files, {len(way) - len(set(way))} returns")
