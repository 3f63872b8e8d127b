"""A server's life under its guard: ready or failed with a reason, ended with all its children however its run ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_vllm import Fake, alive, until

from tandem.errors import EndpointError
from tandem.models.vllm.command import command, environment
from tandem.models.vllm.placement import Place
from tandem.models.vllm.replica import Replica, ReplicaError

pytestmark = pytest.mark.slow  # processes that start, die and come back

MakeFake = Callable[..., Fake]
FAMILY = [{"own": False}, {"own": True}]  # a child in the server's session, one that left it


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def replica(fake: Fake, tmp_path: Path, port: int | None = None) -> Replica:
    port, place = port or free_port(), Place(0)
    return Replica(command(fake.serve, place, port), environment(fake.serve, place), port, tmp_path / "log")


async def test_a_server_is_ready_tells_its_stages_and_is_ended_with_its_children(
    fake: MakeFake, tmp_path: Path
) -> None:
    served, said = fake(children=FAMILY, slow=0.8), []
    server = replica(served, tmp_path)
    await server.start()
    await server.wait_ready(20, said.append, "m")
    assert said[0] == "starting" and "loading weights, 50 %" in said
    assert server.alive and [server.pid] == [pid for pid, _ in served.servers()]
    assert len(alive(served.processes())) == 3
    await server.stop()
    assert not server.alive and alive(served.processes()) == []


async def test_a_server_and_children_that_ignore_sigterm_are_killed(fake: MakeFake, tmp_path: Path) -> None:
    served = fake(children=FAMILY, stubborn=True)
    server = replica(served, tmp_path)
    await server.start()
    await server.wait_ready(20)
    await server.stop()
    assert alive(served.processes()) == []


@pytest.mark.parametrize(
    ("printed", "said"),
    [
        (
            "(EngineCore pid=38) ERROR 11-22 21:52:46 [core.py:710] ValueError: No available memory for the cache.\n"
            "(APIServer pid=37) RuntimeError: Engine core initialization failed. See root cause above.",
            "ValueError: No available memory for the cache.",
        ),
        (
            "Traceback (most recent call last):\npydantic_core._pydantic_core.ValidationError: 1 validation error for "
            "ModelConfig\n  Value error, The model type `x` is not known. [type=value_error]\n    More: web",
            "The model type `x` is not known.",
        ),
        ("usage: api_server.py [-h]\napi_server.py: error: unrecognized arguments: --foo", "error: unrecognized"),
        ("torch.OutOfMemoryError: CUDA out of memory. " + 400 * "x", "torch.OutOfMemoryError: CUDA out of memory."),
        ("something went wrong", "something went wrong"),
        ("", "ended with status 1"),
    ],
)
async def test_a_failed_start_gives_the_servers_own_reason_in_one_line(
    fake: MakeFake, tmp_path: Path, printed: str, said: str
) -> None:
    log = tmp_path / "log"
    log.write_text("ValueError: what went wrong the last time\n")
    server = replica(fake(fail=printed, children=FAMILY), tmp_path)
    await server.start()
    with pytest.raises(EndpointError) as error:
        await server.wait_ready(20)
    await server.stop()
    assert said in str(error.value) and str(log) in str(error.value)
    assert "\n" not in str(error.value) and len(str(error.value)) < 400 + len(str(log))
    assert "last time" not in str(error.value)


async def test_a_command_that_is_not_there(tmp_path: Path) -> None:
    server = Replica(["/nowhere/vllm", "serve"], {}, free_port(), tmp_path / "log")
    await server.start()
    with pytest.raises(EndpointError, match="/nowhere/vllm cannot be started: No such file"):
        await server.wait_ready(20)
    await server.stop()


async def test_a_start_that_takes_too_long(fake: MakeFake, tmp_path: Path) -> None:
    server = replica(fake(hang=True), tmp_path)
    await server.start()
    until(lambda: b"Starting to load" in (tmp_path / "log").read_bytes(), 60)
    with pytest.raises(EndpointError, match=r"not ready after 1 s \(last seen: loading weights\); its log: .*log"):
        await server.wait_ready(1)
    await server.stop()


async def test_a_port_that_another_server_has_is_not_taken_for_ours(fake: MakeFake, tmp_path: Path) -> None:
    port = free_port()
    first, second = replica(fake(), tmp_path, port), replica(fake(slow=0.5), tmp_path / "second", port)
    await first.start()
    await first.wait_ready(20)
    await second.start()
    with pytest.raises(ReplicaError) as error:
        await second.wait_ready(20, name="another model")
    assert error.value.port_taken
    await second.stop()
    assert first.alive
    await first.stop()


async def test_a_killed_server_says_so_and_takes_its_children_along(fake: MakeFake, tmp_path: Path) -> None:
    served = fake(children=FAMILY)
    server = replica(served, tmp_path)
    await server.start()
    await server.wait_ready(20)
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    assert "killed by SIGKILL" in await server.ended()
    assert alive(served.processes()) == []
    await server.stop()


async def test_a_killed_guard_leaves_nothing_once_the_replica_is_stopped(fake: MakeFake, tmp_path: Path) -> None:
    served = fake(children=[{"own": False}], stubborn=True)
    server = replica(served, tmp_path)
    await server.start()
    await server.wait_ready(20)
    assert server.session is not None
    os.kill(server.session, signal.SIGKILL)
    await server.ended()
    await server.stop()
    assert alive(served.processes()) == []


RUN = textwrap.dedent(
    """
    import asyncio, os, sys, time
    from pathlib import Path
    from tandem.models.vllm.command import Serve, command, environment
    from tandem.models.vllm.placement import Place
    from tandem.models.vllm.replica import Replica

    async def main(folder, port, log, fork):
        serve = Serve(model=folder, name="m")
        argv, env = command(serve, Place(0), int(port)), environment(serve, Place(0))
        replica = Replica(argv, env, int(port), Path(log))
        await replica.start()
        await replica.wait_ready(400)
        if fork == "fork" and not os.fork():
            time.sleep(60)  # a worker that outlives the run and has all its pipes
            os._exit(0)
        print("ready", flush=True)
        await asyncio.sleep(600)

    asyncio.run(main(*sys.argv[1:]))
    """
)


def run(model: Path, log: Path, fork: str = "") -> subprocess.Popen[str]:
    """Start a run with a replica of its own in a session of its own; return when that is ready."""
    argv = [sys.executable, "-c", RUN, str(model), str(free_port()), str(log), fork]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("fork", ["", "fork"])
def test_a_run_that_is_killed_leaves_no_process(fake: MakeFake, tmp_path: Path, fork: str) -> None:
    served = fake(children=FAMILY)
    process = run(served.folder, tmp_path / "log", fork)
    try:
        assert len(alive(served.processes())) == 3
        process.kill()
        process.wait()
        until(lambda: not alive(served.processes()))
    finally:
        if fork:
            os.killpg(process.pid, signal.SIGKILL)


def test_keys_are_kept_from_the_server(fake: MakeFake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-verysecret")
    process = run(fake().folder, tmp_path / "log")
    environments = [Path(f"/proc/{pid}/environ").read_bytes() for pid in of_parent(process.pid)]
    process.kill()
    process.wait()
    assert environments and not any(b"verysecret" in environment for environment in environments)


def of_parent(pid: int) -> list[int]:
    from tandem.models.vllm.guard import family

    return sorted(child for child in family(pid))


@pytest.mark.vllm
def test_real_vllm_dies_with_its_run(smollm2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "0")
    log = tmp_path / "log"
    process = run(smollm2, log)
    ours = of_parent(process.pid)
    assert len(ours) >= 3  # the guard, the server, its engine
    process.kill()
    process.wait()
    until(lambda: not alive(ours))
