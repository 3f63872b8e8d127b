"""The sync face of an engine: the same as its async core, run on the process's own loop in a thread."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from typing import Self

from tandem.background import drain, wait
from tandem.errors import TandemError
from tandem.types import Event, Problem, Solution, TaskKind

Question = str | Problem


class SyncFace:
    """What `tandem.Tandem` offers to code that is not async."""

    _used_from_sync = False

    async def asolve(self, question: Question, *, task: TaskKind | None = None) -> Solution:
        """Solve one problem."""
        raise NotImplementedError

    def astream(self, question: Question, *, task: TaskKind | None = None) -> AsyncGenerator[Event, None]:
        """Yield the events of one problem."""
        raise NotImplementedError

    def asolve_many(
        self, questions: Iterable[Question], *, concurrency: int = 16, task: TaskKind | None = None
    ) -> AsyncGenerator[tuple[int, Solution | TandemError], None]:
        """Yield positions with solutions or errors."""
        raise NotImplementedError

    async def aclose(self) -> None:
        """Release what is held."""
        raise NotImplementedError

    def solve(self, question: Question, *, task: TaskKind | None = None) -> Solution:
        """Solve one problem; the sync face of `asolve`."""
        self._used_from_sync = True
        return wait(self.asolve(question, task=task))

    def stream(self, question: Question, *, task: TaskKind | None = None) -> Iterator[Event]:
        """Yield the events of one problem; the sync face of `astream`."""
        self._used_from_sync = True
        return drain(self.astream(question, task=task))

    def solve_many(
        self, questions: Sequence[Question], *, concurrency: int = 16, task: TaskKind | None = None
    ) -> list[Solution | TandemError]:
        """Solve many problems at once; return solutions, or the error of each that failed, in the given order."""
        self._used_from_sync = True
        pairs = list(drain(self.asolve_many(questions, concurrency=concurrency, task=task)))
        return [result for _, result in sorted(pairs, key=lambda pair: pair[0])]

    def close(self) -> None:
        """Release both models, if they were used from sync code."""
        if self._used_from_sync:
            wait(self.aclose())
            self._used_from_sync = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
