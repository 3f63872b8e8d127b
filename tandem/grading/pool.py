"""A few worker processes that compare formulas; one that hangs ends at its deadline, the others go on.

Works from any thread and any event loop: each job holds one thread of the pool's own while its process computes.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import queue
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from tandem.errors import TandemError

WORKERS = 2
# The worker ends itself by computing time, which a busy machine gives it a tenth of; this is for one that sleeps.
PATIENCE = 1 if sys.platform == "win32" else 10
START_SECONDS = 120.0  # a cold start on a busy machine takes far longer than any deadline
_KEPT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "TMPDIR", "TEMP", "LANG", "LC_ALL")
_Json = dict[str, object]


class _Worker:
    """One process, started when first needed and again after each end."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._ready = False

    def equal(self, reference: str, answer: str, deadline: float) -> bool:
        """Return the process's verdict; False if it hung until the deadline, crashed, or was killed twice."""
        for _ in range(2):
            process = self._running()
            started = time.monotonic()
            reply = self._ask(process, {"reference": reference, "answer": answer, "deadline": deadline}, deadline)
            if reply is not None:
                return bool(reply["equal"])
            if process.returncode != -9 or time.monotonic() - started >= deadline * PATIENCE:
                break  # any other kill -9 is somebody else's doing: the job gets a second try
        self._launch()  # so that the next job finds it warm
        return False

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def _launch(self) -> subprocess.Popen[bytes]:
        self.stop()
        self._ready = False
        # The caller's import path, none of its secrets, and the same set order on every run.
        environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
        environment["PYTHONPATH"] = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)
        environment["PYTHONHASHSEED"] = "0"
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "tandem.grading.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        return self._process

    def _running(self) -> subprocess.Popen[bytes]:
        process = self._process
        if process is None or process.poll() is not None:
            process = self._launch()
        if not self._ready:
            reply = self._read(process, START_SECONDS)
            if reply is None or "error" in reply:
                self.stop()
                reason = reply["error"] if reply else "it died or gave no sign of life"
                raise TandemError(f"the math grader's process did not start ({reason}); is math-verify installed?")
            self._ready = True
        return process

    def _ask(self, process: subprocess.Popen[bytes], job: _Json, seconds: float) -> _Json | None:
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(job).encode() + b"\n")
            process.stdin.flush()
        except OSError:  # dead since we looked
            return None
        return self._read(process, seconds * PATIENCE)

    def _read(self, process: subprocess.Popen[bytes], seconds: float) -> _Json | None:
        """Return the next reply; if none comes in time, or the process dies, None, and the process is dead."""
        assert process.stdout is not None
        timer = threading.Timer(seconds, process.kill)
        timer.start()
        line = process.stdout.readline()
        timer.cancel()
        if line.endswith(b"\n"):
            return dict(json.loads(line))
        process.kill()
        process.wait()
        return None


class _Pool:
    """The workers with a thread each, made when first needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owner = 0
        self._threads: ThreadPoolExecutor | None = None
        self._workers: list[_Worker] = []
        self._idle: queue.LifoQueue[_Worker] = queue.LifoQueue()

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
        """End the worker processes; waits for what they compute, a deadline at most. Grading again starts new ones."""
        with self._lock:
            threads, self._threads = self._threads, None
            if threads is not None and self._owner == os.getpid():
                threads.shutdown(cancel_futures=True)
                for worker in self._workers:
                    worker.stop()

    def _start(self) -> None:
        self._owner = os.getpid()
        self._threads = ThreadPoolExecutor(WORKERS, thread_name_prefix="tandem-grading")
        self._workers = [_Worker() for _ in range(WORKERS)]
        self._idle = queue.LifoQueue()  # last in, first out: the second process starts only when two jobs meet
        for worker in self._workers:
            self._idle.put(worker)

    def _work(self, reference: str, answer: str, deadline: float) -> bool:
        worker = self._idle.get()
        try:
            return worker.equal(reference, answer, deadline)
        finally:
            self._idle.put(worker)


_pool = _Pool()
formulas_equal = _pool.equal
close_graders = _pool.close
atexit.register(close_graders)
