"""Logs stay small and few: large ones are begun anew, those of old runs are removed, never those of live ones."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_vllm import Fake, until

from tandem.models.vllm import state
from tandem.models.vllm.log import shorten
from tandem.models.vllm.placement import Place
from tandem.models.vllm.pool import Pool, log_folder
from tandem.models.vllm.supervisor import RestartPolicy

MakeFake = Callable[..., Fake]
DAY = 24 * 3600.0


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANDEM_HOME", str(tmp_path / "home"))


@pytest.fixture
def ended() -> int:
    """Return the id of a process that is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def run_of(name: str, pid: int, *, days: float) -> Path:
    """Leave the logs of a run that wrote its last line so long ago."""
    folder = state.pools_dir() / "logs" / f"{name}-{pid}"
    folder.mkdir(parents=True)
    log = folder / "replica-0.log"
    log.write_text("INFO\n")
    for path in (log, folder):
        os.utime(path, (time.time() - days * DAY,) * 2)
    return folder


def test_logs_of_old_runs_and_beyond_a_number_are_removed(ended: int) -> None:
    old = [run_of(f"old{n}", ended, days=15 + n) for n in range(3)]
    new = [run_of(f"new{n}", ended, days=n / 10) for n in range(40)]
    alive = run_of("alive", os.getpid(), days=100)
    stranger = run_of("other", ended, days=0.5)
    (stranger / "note.txt").write_text("a file of the user's in the folder of logs")
    (state.pools_dir() / "logs" / "README").write_text("no folder")
    mine = log_folder("m-1")
    left = set(mine.parent.iterdir())
    assert mine in left and alive in left and not left & set(old)
    assert [folder in left for folder in new] == [n < 28 for n in range(40)] and stranger in left  # with `mine`, 30
    assert log_folder("m-1") == mine  # again, for the other role


async def test_logs_of_a_pool_that_runs_are_kept_whatever_their_age(fake: MakeFake, ended: int) -> None:
    folder = run_of("m", ended, days=100)  # its name does not say who it is of
    pool = Pool(fake().serve, [Place(0)], folder, policy=RestartPolicy(interval=0.1))
    await pool.start()
    for path in (*folder.iterdir(), folder):
        os.utime(path, (time.time() - 100 * DAY,) * 2)
    log_folder("other-1")
    assert folder.is_dir()
    await pool.aclose()
    log_folder("other-1")
    assert not folder.exists()


@pytest.mark.slow
async def test_a_large_log_is_begun_anew_and_a_crash_after_that_is_explained(
    fake: MakeFake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tandem.models.vllm.log._LARGEST", 1000)
    served, log = fake(), tmp_path / "logs" / "replica-0.log"
    log.parent.mkdir()
    log.write_text("WARNING of an earlier life\n" * 100)
    pool = Pool(served.serve, [Place(0)], log.parent, policy=RestartPolicy(interval=0.1, crashes=1, first_pause=0.1))
    ends: list[str] = []
    pool.on_lost = lambda _, why: ends.append(why)
    await pool.start()
    async with asyncio.timeout(20):
        while log.stat().st_size > 1000:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert "earlier life" in (tmp_path / "logs" / "replica-0.log.old").read_text()
    served.behave(fail="RuntimeError: the card fell off the bus")
    assert pool.replicas[0].pid
    os.kill(pool.replicas[0].pid, signal.SIGKILL)
    async with asyncio.timeout(20):
        while not ends:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert "given up after 2 crashes" in ends[0] and f"fell off the bus; its log: {log}" in ends[0]
    await pool.aclose()


@pytest.mark.slow
def test_a_writer_that_appends_goes_on_in_the_shortened_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tandem.models.vllm.log._LARGEST", 100)
    log = tmp_path / "log"
    code = "import sys, time\nfor n in range(200): print(n, flush=True); time.sleep(0.005)"
    with log.open("ab") as file, subprocess.Popen([sys.executable, "-c", code], stdout=file) as writer:
        until(lambda: shorten(log))
        writer.wait()
    assert log.read_bytes()[:1].isdigit() and log.read_text().endswith("199\n")
    assert (tmp_path / "log.old").stat().st_mode & 0o077 == 0
    assert not shorten(tmp_path / "none")
