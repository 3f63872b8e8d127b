"""Replicas on a real Ray cluster of two nodes on this machine: nodes, workers and servers die under them."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from fake_vllm import PATH, Fake, alive, until

from tandem.errors import EndpointError, MissingPackageError, UsageError
from tandem.models.openai.probe import served_context
from tandem.models.vllm import guard
from tandem.models.vllm.model import PooledModel
from tandem.models.vllm.ray import RayPool
from tandem.models.vllm.supervisor import RestartPolicy
from tandem.spec import ModelSpec

MakeFake = Callable[..., Fake]
POLICY = RestartPolicy(ready=60.0, interval=0.2, patience=2.0, first_pause=0.2, longest_pause=1.0, crashes=3)
NODE = {"num_cpus": 1, "object_store_memory": 100 << 20, "include_dashboard": False}
QUICK = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 4}


class Said:
    """What a pool says of its replicas, handed to a model too."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, bool]] = []
        self.moves: list[tuple[str, str]] = []

    def change(self, url: str, up: bool) -> None:
        self.seen.append((url, up))

    def move(self, old: str, new: str) -> None:
        self.moves.append((old, new))

    async def reach(self, count: int, seconds: float = 90.0) -> None:
        async with asyncio.timeout(seconds):
            while len(self.seen) < count:  # noqa: ASYNC110
                await asyncio.sleep(0.05)


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Start two nodes with one CPU each; the second one can die."""
    import ray
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("TANDEM_HOME", str(tmp_path / "home"))
    made = Cluster(initialize_head=True, head_node_args={**NODE, "_system_config": QUICK})
    made.add_node(**NODE)
    yield made
    ray.shutdown()  # there is nothing to shut down unless a test failed
    made.shutdown()


def pool_of(served: Fake, cluster: Any, replicas: int, said: Said | None = None, **options: Any) -> RayPool:
    said = said or Said()
    env = {"PYTHONPATH": PATH}
    given: dict[str, Any] = {
        "cores": 1,
        "env": env,
        "policy": POLICY,
        "on_change": said.change,
        "on_move": said.move,
    } | options
    return RayPool(served.serve, replicas, address=cluster.address, **given)


async def status(pool: RayPool, url: str, key: str = "") -> int:
    async with httpx.AsyncClient(trust_env=False) as client:
        return (
            await client.get(f"{url}/models", headers={"Authorization": f"Bearer {key}"} if key else {})
        ).status_code


def worker_of(served: Fake, start: int) -> int:
    """Return the Ray worker above the guard of a server."""
    server = guard.look(served.servers()[start][0])
    assert server
    above = guard.look(server.parent)
    assert above
    return above.parent


@pytest.mark.slow
async def test_a_replica_on_each_node_with_a_key_and_nothing_is_left(fake: MakeFake, cluster: Any) -> None:
    served, said, notes = fake(children=[{"own": True}]), Said(), []
    pool = pool_of(served, cluster, 2, said)
    await pool.start(lambda index, what: notes.append((index, what)))
    key = os.environ[pool.api_key_env]
    assert len(set(pool.nodes)) == 2 and len(set(pool.urls)) == 2 and (1, "ready") in notes
    assert sorted(said.seen) == sorted((url, True) for url in pool.urls)
    for url in pool.urls:
        assert [await status(pool, url), await status(pool, url, key)] == [401, 200]
        assert "127.0.0.1" not in url
    assert key not in repr(pool.serve)
    spec = ModelSpec(name="m", vocabulary=10, local=True)
    model = PooledModel(spec, pool.urls, api_key_env=pool.api_key_env)
    await asyncio.gather(*(served_context(member.model.endpoint) for member in model._balancer.all))
    await model.aclose()
    await pool.aclose()
    assert alive(served.processes()) == [] and pool.api_key_env not in os.environ


@pytest.mark.slow
async def test_a_dead_node_and_room_that_comes_back(
    fake: MakeFake, cluster: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    served, said = fake(), Said()
    pool = pool_of(served, cluster, 2, said)
    await pool.start()
    monkeypatch.setattr("tandem.models.vllm.ray._REPORT", 1.0)
    caplog.clear()
    key, mortal = os.environ[pool.api_key_env], cluster.list_all_nodes()[1]
    lost = pool.nodes.index(mortal.node_id)
    gone, other = pool.urls[lost], pool.urls[1 - lost]
    with caplog.at_level(logging.WARNING, "tandem"):
        cluster.remove_node(mortal, allow_graceful=False)
        await said.reach(3)
        assert said.seen[2] == (gone, False) and await status(pool, other, key) == 200
        async with asyncio.timeout(30):
            while "waits for room" not in caplog.text:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    assert "it needs 1 CPU; there is" in caplog.text and caplog.text.count("waits for room") == 1
    until(lambda: len(alive(pid for pid, _ in served.servers())) == 1)
    new = cluster.add_node(**NODE)
    await said.reach(4)
    assert said.seen[3] == (pool.urls[lost], True) and pool.nodes[lost] == new.node_id
    assert said.moves == [(gone, pool.urls[lost])] and await status(pool, pool.urls[lost], key) == 200
    assert (other, False) not in said.seen
    await pool.aclose()
    assert alive(served.processes()) == []


@pytest.mark.slow
async def test_a_killed_worker_takes_its_server_along_and_a_killed_server_comes_back(
    fake: MakeFake, cluster: Any, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    served, said = fake(children=[{"own": True}]), Said()
    pool = pool_of(served, cluster, 1, said)
    await pool.start()
    first, url = served.processes(), pool.urls[0]
    os.kill(worker_of(served, 0), signal.SIGKILL)
    until(lambda: not alive(first))
    await said.reach(3)
    assert said.seen[:2] == [(url, True), (url, False)] and said.seen[2] == (pool.urls[0], True)
    assert said.moves in ([], [(url, pool.urls[0])])
    again = pool.urls[0]
    with caplog.at_level(logging.WARNING, "tandem"):
        os.kill(served.servers()[-1][0], signal.SIGKILL)
        await said.reach(5)
    assert said.seen[3:] == [(again, False), (again, True)] and "is restarted in 0.2 s" in caplog.text
    await pool.aclose()
    assert capfd.readouterr().out == ""  # what a command prints there may be JSON
    assert alive(served.processes()) == []


@pytest.mark.slow
async def test_one_that_starts_no_more_is_given_up(
    fake: MakeFake, cluster: Any, caplog: pytest.LogCaptureFixture
) -> None:
    served, said = fake(), Said()
    policy = replace(POLICY, crashes=1, first_pause=0.1)
    pool = pool_of(served, cluster, 1, said, policy=policy)
    await pool.start()
    served.behave(fail="ValueError: The weights are gone")
    with caplog.at_level(logging.WARNING, "tandem"):
        os.kill(worker_of(served, 0), signal.SIGKILL)
        async with asyncio.timeout(60):
            while "given up" not in caplog.text:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    print(caplog.text)
    assert "is given up after 2 crashes" in caplog.text and "ValueError: The weights are gone" in caplog.text
    assert said.seen == [(pool.urls[0], True), (pool.urls[0], False)]
    await pool.aclose()
    assert alive(served.processes()) == []


@pytest.mark.slow
async def test_what_the_cluster_has_not_and_what_does_not_start(fake: MakeFake, cluster: Any) -> None:
    served = fake(fail="ValueError: The model does not fit")
    with pytest.raises(UsageError, match=r"1 replica of m with 1 GPU each: it has .*\(1 CPU, 0 GPU\).*their cores"):
        await pool_of(served, cluster, 1, cores=None).start()
    with pytest.raises(UsageError, match=r"no room for 3 replicas of m with 1 CPU each: it has [^;]*\)$"):
        await pool_of(served, cluster, 3).start()
    with pytest.raises(EndpointError, match=r"replica \d of m did not start \(on .*: ValueError: The model does not"):
        await pool_of(served, cluster, 2).start()
    assert alive(served.processes()) == [] and not [name for name in os.environ if name.startswith("TANDEM_RAY")]
    served.behave(hang=True)
    count = len(served.servers())
    start = asyncio.create_task(pool_of(served, cluster, 1).start())
    await asyncio.to_thread(until, lambda: len(served.servers()) > count)
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    assert alive(served.processes()) == []
    with pytest.raises(UsageError, match="at least one"):
        RayPool(served.serve, 0)


@pytest.mark.slow
async def test_no_cluster_at_the_address(fake: MakeFake, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no Ray cluster at 'auto' can be joined"):
        await RayPool(fake().serve, 1, cores=1, address="auto").start()
    with socket.create_server(("127.0.0.1", 0)) as gone:
        dead = f"127.0.0.1:{gone.getsockname()[1]}"
    async with asyncio.timeout(60):  # Ray itself would try for a quarter of an hour
        with pytest.raises(UsageError, match=f"no Ray cluster at '{dead}' .* nothing answers at .*refused"):
            await RayPool(fake().serve, 1, cores=1, address=dead).start()


@pytest.mark.slow
async def test_a_cluster_whose_head_dies_is_left_and_its_replicas_are_given_up(
    fake: MakeFake, cluster: Any, caplog: pytest.LogCaptureFixture
) -> None:
    import ray

    served, said = fake(), Said()
    pool = pool_of(served, cluster, 2, said)
    lost: list[tuple[str, str]] = []
    pool.on_lost = lambda url, why: lost.append((url, why))
    await pool.start()
    os.kill(cluster.head_node.all_processes["gcs_server"][0].process.pid, signal.SIGKILL)
    async with asyncio.timeout(60):
        while ray.is_initialized():  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    assert sorted(url for url, _ in lost) == sorted(pool.urls)
    assert all("the head of the Ray cluster" in why and "no longer answers" in why for _, why in lost)
    assert caplog.text.count("no longer answers; all replicas of m are given up") == 1
    await pool.aclose()
    until(lambda: alive(served.processes()) == [])


@pytest.mark.slow
async def test_a_cluster_of_ones_own_ends_with_the_pool(fake: MakeFake, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    served = fake()
    pool = RayPool(served.serve, None, cores=1, env={"PYTHONPATH": PATH}, policy=POLICY)
    await pool.start()
    assert len(pool.urls) == 1 and ray.is_initialized()
    await pool.aclose()
    assert not ray.is_initialized() and alive(served.processes()) == []


async def test_without_ray_the_error_says_what_to_install(fake: MakeFake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(MissingPackageError, match=r"tandem-reasoning\[ray\]"):
        await RayPool(fake().serve, 1, cores=1).start()
