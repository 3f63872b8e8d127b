"""A subprocess that does one killable job at a time: JSON lines in, JSON lines out, killed at the deadline.

The other end is `tandem.grading.worker_loop`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time

from tandem.errors import TandemError

# The process ends itself by computing time, which a busy machine gives it a tenth of; this is for one that sleeps.
PATIENCE = 1 if sys.platform == "win32" else 10
START_SECONDS = 120.0  # a cold start on a busy machine takes far longer than any deadline
_KEPT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "TMPDIR", "TEMP", "LANG", "LC_ALL")
_Json = dict[str, object]


class WorkerProcess:
    """One process, started when first needed and again after each end. For one job at a time, from any thread."""

    def __init__(self, module: str, name: str, needs: str) -> None:
        """`module` is run; `name` and what it `needs` are for the error if it does not start."""
        self._module, self._name, self._needs = module, name, needs
        self._process: subprocess.Popen[bytes] | None = None
        self.warm = False  # it has answered before

    def ask(self, job: _Json, deadline: float) -> _Json | None:
        """Return the reply to a job; None if the process hung until the deadline, crashed, or was killed twice.

        Raises TandemError if it cannot start.
        """
        for _ in range(2):
            process = self._running()
            started = time.monotonic()
            reply = self._send(process, job | {"deadline": deadline}, deadline)
            if reply is not None:
                return reply
            if process.returncode != -9 or time.monotonic() - started >= deadline * PATIENCE:
                break  # any other kill -9 came from outside: the job gets a second attempt
        self._launch()  # so that the next job finds it warm
        return None

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def _launch(self) -> subprocess.Popen[bytes]:
        self.stop()
        self.warm = False
        # The caller's import path, none of its secrets, and the same set order on every run.
        environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
        environment["PYTHONPATH"] = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)
        environment["PYTHONHASHSEED"] = "0"
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", self._module],
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
        if not self.warm:
            reply = self._read(process, START_SECONDS)
            if reply is None or "error" in reply:
                self.stop()
                reason = reply["error"] if reply else "it died or did not respond"
                raise TandemError(f"{self._name}'s process did not start ({reason}); is {self._needs} installed?")
            self.warm = True
        return process

    def _send(self, process: subprocess.Popen[bytes], job: _Json, seconds: float) -> _Json | None:
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(job).encode() + b"\n")
            process.stdin.flush()
        except OSError:  # it died meanwhile
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
