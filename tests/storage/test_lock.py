"""Locks between processes: one holder, who may be waited for, and who lets go however it dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tandem.errors import TandemError, UsageError
from tandem.storage.lock import FileLock, FolderLock, locked

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="flock")
HOLD = "import sys, time; from pathlib import Path; from tandem.storage.lock import FileLock; " + (
    "lock = FileLock(Path(sys.argv[1])); print(lock.take(), flush=True); time.sleep(60)"
)


def test_another_process_has_it_until_it_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout and holder.stdout.readline() == "True\n"
    mine = FileLock(path)
    assert not mine.take()
    waiting = threading.Thread(target=mine.wait)
    waiting.start()
    waiting.join(0.2)
    assert waiting.is_alive()
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    waiting.join(10)
    assert not waiting.is_alive() and not FileLock(path).take()
    mine.release()
    assert FileLock(path).take()


def test_a_folder_names_its_holder(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path)
    assert locked(tmp_path)
    with pytest.raises(UsageError, match=rf"is being written by another process \({os.getpid()} on "):
        FolderLock(tmp_path)
    lock.release()
    assert not locked(tmp_path)


def test_a_lock_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(TandemError, match=r"cannot write .*/lock: No such file"):
        FileLock(tmp_path / "missing" / "lock")
