"""The list of pools: what is in it is true, whoever died, rebooted or came after; and metrics of several versions."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_vllm import alive, until

from tandem import __version__
from tandem.errors import UsageError
from tandem.models.vllm import state
from tandem.models.vllm.metrics import ReplicaMetrics, parse, tokens_per_second
from tandem.models.vllm.state import PoolState, ReplicaState

SLEEP = [sys.executable, "-c", "import time; time.sleep(100)"]


@pytest.fixture(autouse=True)
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANDEM_HOME", str(tmp_path))


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """Somebody's process, the leader of a session."""
    running = subprocess.Popen(SLEEP, start_new_session=True)
    yield running
    running.kill()
    running.wait()


def pool_of(pid: int, **changes: object) -> PoolState:
    fields = {
        "name": "p",
        "model": "m",
        "kind": "standing",
        "uid": os.getuid(),
        "host": state.host(),
        "pid": pid,
        "started": state.identity(pid),
        "since": 1.0,
        "replicas": [],
    }
    return PoolState.model_validate(fields | changes)


def test_a_pool_is_there_while_its_daemon_lives(process: subprocess.Popen[bytes], tmp_path: Path) -> None:
    saved = pool_of(process.pid)
    state.save(saved)
    assert state.load("p") == saved and state.load_all() == ([saved], [])
    assert state.load("another") is None
    (file,) = (tmp_path / "pools").iterdir()
    assert file.stat().st_mode & 0o077 == 0
    process.kill()
    process.wait()
    assert state.load("p") is None and not file.exists()


def test_a_process_that_got_the_same_number_is_not_taken_for_the_daemon(process: subprocess.Popen[bytes]) -> None:
    one = ReplicaState(url="u", place="", log="", pid=process.pid, session=process.pid, started="an-earlier-boot/17")
    state.save(pool_of(process.pid, started="an-earlier-boot/17", replicas=[one]))
    assert state.load("p") is None
    assert alive([process.pid])


def test_what_a_killed_daemon_and_a_killed_guard_left_is_ended(process: subprocess.Popen[bytes]) -> None:
    leader = "import subprocess, sys; print(subprocess.Popen(sys.argv[1:]).pid, flush=True); input()"
    guard = subprocess.Popen(
        [sys.executable, "-c", leader, *SLEEP], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    assert guard.stdout and guard.stdin
    left = int(guard.stdout.readline())
    one = ReplicaState(url="u", place="", log="", pid=left, session=guard.pid, started=state.identity(guard.pid))
    state.save(pool_of(process.pid, replicas=[one]))
    for dead in (process, guard):
        dead.kill()
        dead.wait()
    assert alive([left])
    assert state.load("p") is None
    until(lambda: not alive([left]))
    guard.stdin.close()
    guard.stdout.close()


def test_pools_of_others_are_left_alone(process: subprocess.Popen[bytes], tmp_path: Path) -> None:
    state.save(pool_of(process.pid, host="elsewhere", started="x"))
    with pytest.raises(UsageError, match="the pool 'p' runs on elsewhere"):
        state.load("p")
    state.save(pool_of(process.pid, uid=os.getuid() + 1))
    with pytest.raises(UsageError, match="the pool 'p' belongs to user"):
        state.load("p")
    (tmp_path / "pools" / "q.json").write_text('{"name": "q"')
    found, said = state.load_all()
    assert found == [] and len(said) == 2
    assert said[1].endswith(
        "q.json is damaged: it is not JSON; it was written by an unknown version of Tandem: restore it "
        "from a copy, or delete it"
    )
    assert {path.name for path in (tmp_path / "pools").iterdir()} == {"p.json", "q.json"}


def test_a_pool_of_a_later_version_is_named_and_left_alone(process: subprocess.Popen[bytes], tmp_path: Path) -> None:
    state.save(pool_of(process.pid))
    path = tmp_path / "pools" / "p.json"
    content = json.loads(path.read_text())
    assert content["format"] == 1 and content["version"] == __version__
    path.write_text(json.dumps(content | {"format": 2, "version": "9.1"}))
    with pytest.raises(UsageError, match=r"p\.json has format 2 and .* by Tandem 9\.1: upgrade .*, or delete it"):
        state.load("p")
    assert alive([process.pid]) and path.exists()
    path.write_text(json.dumps({key: value for key, value in content.items() if key not in ("format", "version")}))
    assert state.load("p") == pool_of(process.pid)  # as older versions wrote it


@pytest.mark.parametrize("name", ["", "../p", "a/b", ".p", "a b", "x" * 101])
def test_a_name_that_is_none(name: str) -> None:
    with pytest.raises(UsageError, match="cannot name a pool"):
        state.load(name)


def test_the_pool_of_a_run_is_not_ended(process: subprocess.Popen[bytes]) -> None:
    with pytest.raises(UsageError, match=f"belongs to a run .process {process.pid}. and ends with it"):
        state.end(pool_of(process.pid, kind="run"))
    assert alive([process.pid])


def test_a_daemon_ends_when_it_is_told(process: subprocess.Popen[bytes]) -> None:
    saved = pool_of(process.pid)
    state.save(saved)
    state.end(saved)
    assert process.wait() == -signal.SIGTERM and state.load("p") is None


def test_metrics_are_read_under_the_names_of_several_versions() -> None:
    new = parse(
        'vllm:num_requests_running{engine="0"} 3.0\nvllm:num_requests_running{engine="1"} 2.0\n'
        'vllm:num_requests_waiting{engine="0"} 1.0\nvllm:num_requests_waiting_by_reason{reason="x"} 9.0\n'
        'vllm:kv_cache_usage_perc{engine="0"} 0.25\nvllm:kv_cache_usage_perc{engine="1"} 0.5\n'
        "vllm:prefix_cache_queries_total 400.0\nvllm:prefix_cache_hits_total 300.0\n"
        "vllm:generation_tokens_total 1e+03\nvllm:generation_tokens_created 1.79e+09\n",
        now=10.0,
    )
    assert (new.running, new.waiting, new.kv_use, new.hit_rate, new.generated) == (5.0, 1.0, 0.5, 0.75, 1000.0)
    old = parse("vllm:gpu_prefix_cache_queries_total 8\nvllm:gpu_prefix_cache_hits_total 2\n"
                "vllm:gpu_cache_usage_perc 0.1\n", now=0.0)  # fmt: skip
    assert (old.hit_rate, old.kv_use, old.running) == (0.25, 0.1, None)
    assert parse("", now=0.0) == ReplicaMetrics(time=0.0) and ReplicaMetrics(time=0.0).hit_rate is None
    assert parse("vllm:prefix_cache_queries_total 0\nvllm:prefix_cache_hits_total 0\n", now=0.0).hit_rate is None


def test_a_rate_needs_two_looks_at_the_same_server() -> None:
    first, second = ReplicaMetrics(time=1.0, generated=100.0), ReplicaMetrics(time=3.0, generated=150.0)
    assert tokens_per_second(first, second) == 25.0
    assert tokens_per_second(ReplicaMetrics(time=1.0, generated=900.0), second) is None  # it was restarted
    assert tokens_per_second(None, second) is None and tokens_per_second(first, ReplicaMetrics(time=3.0)) is None
