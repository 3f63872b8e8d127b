"""A few worker processes that compare formulas; one that hangs ends at its deadline, the others continue.

Works from any thread and any event loop: each job holds one thread of the pool's own while its process computes.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import queue
import threading
from concurrent.futures import ThreadPoolExecutor

from tandem.grading.worker_process import WorkerProcess

WORKERS = 2


class _Pool:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owner = 0
        self._threads: ThreadPoolExecutor | None = None
        self._workers: list[WorkerProcess] = []
        self._idle: queue.PriorityQueue[tuple[bool, int]] = queue.PriorityQueue()

    async def equal(self, reference: str, answer: str, deadline: float) -> bool:
        """Whether two formulas are equal by algebra, in at most `deadline` seconds of computing.

        Raises TandemError if no worker process can be started.
        """
        with self._lock:
            if self._threads is None or self._owner != os.getpid():  # after a fork the processes are the parent's
                self._start()
            assert self._threads is not None
            future = self._threads.submit(self._work, reference, answer, deadline)
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """End the worker processes after their current jobs, a deadline at most. Further grading starts new ones."""
        with self._lock:
            threads, self._threads = self._threads, None
            if threads is not None and self._owner == os.getpid():
                threads.shutdown(cancel_futures=True)
                for worker in self._workers:
                    worker.stop()

    def _start(self) -> None:
        self._owner = os.getpid()
        self._threads = ThreadPoolExecutor(WORKERS, thread_name_prefix="tandem-grading")
        self._workers = [
            WorkerProcess("tandem.grading.math_worker", "the math grader", "math-verify") for _ in range(WORKERS)
        ]
        # Warm ones first: no job waits for a starting process while another one is idle.
        self._idle = queue.PriorityQueue()
        for number in range(WORKERS):
            self._idle.put((True, number))

    def _work(self, reference: str, answer: str, deadline: float) -> bool:
        idle, workers = self._idle, self._workers
        _, number = idle.get()
        try:
            reply = workers[number].ask({"reference": reference, "answer": answer}, deadline)
            return bool(reply and reply["equal"])
        finally:
            idle.put((not workers[number].warm, number))


_pool = _Pool()
formulas_equal = _pool.equal
close_graders = _pool.close
atexit.register(close_graders)
