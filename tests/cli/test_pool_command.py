"""`tandem pool`: a standing pool outlives its starter, says how busy it is, and goes when it is told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import Cli
from fake_vllm import PATH, Fake, alive, until

from tandem.models.vllm import state

pytestmark = pytest.mark.slow  # processes that start, die and come back


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fake]:
    """A folder that the stand-in for vLLM serves; standing pools are ended at the test's end."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([PATH, os.environ.get("PYTHONPATH", "")]))
    served = Fake(tmp_path / "m", children=[{"own": True}], slow=0.6)
    yield served
    for pool in state.load_all()[0]:
        state.end(pool)
    until(lambda: not alive(served.processes()))


def status(cli: Cli) -> list[dict[str, Any]]:
    outcome = cli("pool", "status", "--json")
    assert outcome.code == 0
    pools: list[dict[str, Any]] = json.loads(outcome.out)["pools"]
    return pools


def test_a_pool_is_brought_up_looked_at_and_brought_down(cli: Cli, model: Fake) -> None:
    model.behave(children=[{"own": True}], slow=4.0)  # long enough to be seen at it
    up = cli("pool", "up", str(model.folder), "--name", "mine", "--replicas", "2")
    urls = up.out.split()
    assert up.code == 0 and len(urls) == 2
    assert f"tandem run --intern m --intern-endpoint {','.join(urls)}" in up.err
    assert "loading weights" in up.err and "cores" in up.err
    (pool,) = status(cli)
    assert (pool["name"], pool["model"], pool["kind"]) == ("mine", "m", "standing")
    assert [replica["url"] for replica in pool["replicas"]] == urls
    for replica in pool["replicas"]:
        assert (replica["running"], replica["waiting"], replica["kv_use"], replica["hit_rate"]) == (3, 1, 0.25, 0.75)
        assert replica["tokens_per_second"] > 0
    shown = cli("pool", "status").out
    assert "75%" in shown and "25%" in shown and "ready" in shown and "mine" in shown
    assert pool["profiles"] == [] and "mine: its speed was not measured (tandem profile mine)" in shown
    again = cli("pool", "up", str(model.folder), "--name", "mine")
    assert again.code == 2 and "the pool 'mine' is up already" in again.err
    assert len(alive(model.processes())) == 4
    down = cli("pool", "down")
    assert down.code == 0 and "mine is down" in down.err
    assert alive(model.processes()) == [] and status(cli) == []
    assert "No pool is up" in cli("pool", "status").out


def test_a_standing_pool_outlives_its_starter_and_restarts_what_crashes(cli: Cli, model: Fake) -> None:
    argv = [sys.executable, "-m", "tandem", "pool", "up", str(model.folder)]
    # In a session of its own, all of which is killed the moment the pool is up.
    starter = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert starter.stdout and starter.stderr
    url = starter.stdout.readline().strip()
    starter.kill()
    starter.wait()
    starter.stdout.close()
    starter.stderr.close()
    time.sleep(1.5)  # a guard that watched the starter would have noticed by now
    (server, _), *_ = model.servers()
    assert alive([server])
    os.kill(server, signal.SIGKILL)
    until(lambda: len(model.servers()) == 2)

    def back() -> bool:
        (pool,) = status(cli)
        (replica,) = pool["replicas"]
        return bool(replica["url"] == url and replica["up"] and replica["restarts"] == 1)

    until(back)


def test_a_killed_daemon_leaves_neither_processes_nor_a_state(cli: Cli, model: Fake) -> None:
    assert cli("pool", "up", str(model.folder)).code == 0
    (pool,) = status(cli)
    os.kill(pool["pid"], signal.SIGKILL)
    until(lambda: not alive(model.processes()))
    assert status(cli) == []


def test_a_model_that_does_not_start_says_why(cli: Cli, model: Fake, tmp_path: Path) -> None:
    model.behave(fail="ValueError: Model architectures ['Odd'] are not supported for now.")
    up = cli("pool", "up", str(model.folder))
    log = tmp_path / "home" / "pools" / "m" / "replica-0.log"
    assert up.code == 1 and up.out == ""
    assert up.err.splitlines()[-1] == (
        "tandem: replica 0 of m did not start: "
        f"ValueError: Model architectures ['Odd'] are not supported for now.; its log: {log}"
    )
    assert log.is_file() and status(cli) == []


@pytest.mark.usefixtures("heard")
def test_ctrl_c_while_it_starts_leaves_nothing(model: Fake) -> None:
    model.behave(hang=True, children=[{"own": True}])
    argv = [sys.executable, "-m", "tandem", "pool", "up", str(model.folder)]
    starter = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True)
    until(model.children)
    starter.send_signal(signal.SIGINT)
    _, err = starter.communicate(timeout=60)
    assert starter.returncode == 130 and err.splitlines()[-1] == "tandem: interrupted"
    assert alive(model.processes()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("up", "nowhere/at/all"), "there is no model at 'nowhere/at/all'"),
        (("up", "gpt-4o"), "it is an API"),
        (("up", "smollm2-135"), "Did you mean smollm2-135m"),
        (("up", "{m}", "--gpus", "0,x"), "is not a list of numbers"),
        (("up", "{m}", "--gpus", "99"), "no GPU 99"),
        (("up", "{m}", "--cores", "9999"), "may not use core 9999"),
        (("up", "{m}", "--name", "../x"), "cannot name a pool"),
        (("up", "{m}", "--", "--port", "8000"), "Tandem sets --port itself"),
        (("down",), "there is no standing pool"),
        (("down", "x"), "there is no pool"),
    ],
)
def test_bad_usage_is_one_line(
    cli: Cli, model: Fake, arguments: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = cli("pool", *(argument.format(m=model.folder) for argument in arguments))
    assert outcome.code == 2 and said in outcome.err and len(outcome.err.splitlines()) == 1


def test_the_pool_of_a_run_is_shown_and_not_brought_down(cli: Cli, tmp_path: Path) -> None:
    me = os.getpid()
    replica = state.ReplicaState(url="http://127.0.0.1:9/v1", place="GPU 0", log="x", note="loading weights")
    state.save(
        state.PoolState(
            name="m-1",
            model="m",
            kind="run",
            uid=os.getuid(),
            host=state.host(),
            pid=me,
            started=state.identity(me),
            since=1.0,
            replicas=[replica],
        )
    )
    (pool,) = status(cli)
    assert pool["kind"] == "run" and pool["replicas"][0]["tokens_per_second"] is None
    assert "loading weights" in cli("pool", "status").out
    down = cli("pool", "down", "m-1")
    assert down.code == 2 and f"belongs to a run (process {me})" in down.err
