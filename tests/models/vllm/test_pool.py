"""Replicas in numbers: started together, restarted when they crash or hang, given up at last, ended together."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from fake_vllm import Fake, alive

from tandem.errors import EndpointError, UsageError
from tandem.models.vllm import state
from tandem.models.vllm.placement import Place
from tandem.models.vllm.pool import Pool, StartLocks
from tandem.models.vllm.supervisor import RestartPolicy

pytestmark = pytest.mark.slow  # processes that start, die and come back

MakeFake = Callable[..., Fake]
QUICK = RestartPolicy(interval=0.1, patience=0.6, first_pause=0.1, longest_pause=0.4, crashes=3, within=600.0)
PLACES = [Place(0), Place(1)]


class Changes:
    """What a pool said of its replicas, in order."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, bool]] = []

    def __call__(self, url: str, up: bool) -> None:
        self.seen.append((url, up))

    async def reach(self, count: int) -> None:
        async with asyncio.timeout(20):
            while len(self.seen) < count:  # noqa: ASYNC110
                await asyncio.sleep(0.05)


async def note_of(pool: Pool, index: int, words: str) -> str:
    """Wait until the list of pools says `words` of a replica."""
    async with asyncio.timeout(20):
        while True:
            listed = state.load(pool.name)
            if listed and words in listed.replicas[index].note:
                return listed.replicas[index].note
            await asyncio.sleep(0.05)


async def health(url: str) -> int:
    async with httpx.AsyncClient(trust_env=False) as client:
        return (await client.get(url.removesuffix("/v1") + "/health")).status_code


async def test_replicas_start_together_are_listed_and_end_together(fake: MakeFake, tmp_path: Path) -> None:
    served, changes, said = fake(children=[{"own": True}], slow=0.6), Changes(), []
    pool = Pool(served.serve, PLACES, tmp_path / "logs", policy=QUICK, on_change=changes)
    assert state.load_all() == ([], [])
    await pool.start(lambda index, what: said.append((index, what)))
    assert sorted(changes.seen) == sorted((url, True) for url in pool.urls)
    assert [await health(url) for url in pool.urls] == [200, 200]
    assert said.index((1, "starting")) < said.index((0, "ready"))
    listed = state.load(pool.name)
    assert listed and [(one.url, one.up, one.note) for one in listed.replicas] == [
        (u, True, "ready") for u in pool.urls
    ]
    assert {path.name for path in (tmp_path / "logs").iterdir()} == {"replica-0.log", "replica-1.log"}
    await pool.aclose()
    assert alive(served.processes()) == [] and state.load_all() == ([], [])


async def test_one_that_does_not_start_ends_all_with_its_reason(fake: MakeFake, tmp_path: Path) -> None:
    served = fake(fail="ValueError: The model does not fit", children=[{"own": True}])
    pool = Pool(served.serve, PLACES, tmp_path, policy=QUICK)
    with pytest.raises(EndpointError, match=r"replica \d of m did not start: ValueError: The model does not fit; its"):
        await pool.start()
    assert alive(served.processes()) == [] and state.load_all() == ([], [])


async def test_an_interrupted_start_leaves_nothing(fake: MakeFake, tmp_path: Path) -> None:
    served = fake(hang=True)
    pool = Pool(served.serve, PLACES, tmp_path, policy=QUICK)
    start = asyncio.create_task(pool.start())
    async with asyncio.timeout(20):
        while len(served.servers()) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    assert alive(served.processes()) == []


async def test_a_killed_replica_comes_back_at_its_url_and_the_other_stays(fake: MakeFake, tmp_path: Path) -> None:
    served, changes = fake(children=[{"own": True}]), Changes()
    pool = Pool(served.serve, PLACES, tmp_path, policy=QUICK, on_change=changes)
    await pool.start()
    killed, other = (one.pid for one in pool.replicas)
    assert killed and other
    os.kill(killed, signal.SIGKILL)
    await changes.reach(4)
    url = pool.urls[0]
    assert changes.seen[2:] == [(url, False), (url, True)]
    assert await health(url) == 200
    assert [one.pid for one in pool.replicas][1] == other and pool.replicas[0].pid != killed
    listed = state.load(pool.name)
    assert listed and [one.restarts for one in listed.replicas] == [1, 0]
    await pool.aclose()


async def test_a_server_that_is_not_well_is_restarted(fake: MakeFake, tmp_path: Path) -> None:
    served, changes = fake(), Changes()
    pool = Pool(served.serve, PLACES[:1], tmp_path, policy=QUICK, on_change=changes)
    await pool.start()
    served.behave(sick=pool.replicas[0].pid)
    await changes.reach(3)
    assert await health(pool.urls[0]) == 200
    await pool.aclose()


async def test_a_server_that_hangs_is_restarted(fake: MakeFake, tmp_path: Path) -> None:
    changes = Changes()
    pool = Pool(fake().serve, PLACES[:1], tmp_path, policy=QUICK, on_change=changes)
    await pool.start()
    assert pool.replicas[0].pid
    os.kill(pool.replicas[0].pid, signal.SIGSTOP)
    await changes.reach(2)
    assert "not healthy for 0.6 s" in await note_of(pool, 0, "not healthy")
    await pool.aclose()


async def test_one_that_crashes_again_and_again_is_given_up_and_the_other_goes_on(
    fake: MakeFake, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    served, changes = fake(), Changes()
    pool = Pool(served.serve, PLACES, tmp_path, policy=QUICK, on_change=changes)
    lost: list[tuple[str, str]] = []
    pool.on_lost = lambda url, why: lost.append((url, why))
    await pool.start()
    served.behave(fail="RuntimeError: the card fell off the bus")
    assert pool.replicas[0].pid
    os.kill(pool.replicas[0].pid, signal.SIGKILL)
    note = await note_of(pool, 0, "given up")
    assert "given up after 4 crashes" in note and "RuntimeError: the card fell off the bus; its log" in note
    assert "given up after 4 crashes" in caplog.text and lost == [(pool.urls[0], note)]
    assert len(served.servers()) == 2 + 3
    assert await health(pool.urls[1]) == 200
    assert changes.seen[2:] == [(pool.urls[0], False)]
    await pool.aclose()


async def test_on_one_card_replicas_of_two_pools_start_one_after_the_other_then_too(
    fake: MakeFake, tmp_path: Path
) -> None:
    served, locks, card = fake(slow=0.5), StartLocks(), Place(0, gpus=(0,), memory=0.45)
    starts: list[int] = []  # when one came up
    pools = [
        Pool(served.serve, [card], tmp_path / name, policy=QUICK, locks=locks, on_change=lambda _, up: up and come())
        for name in ("mentor", "intern")
    ]

    def come() -> None:
        starts.append(len(served.servers()))

    await asyncio.gather(*(pool.start() for pool in pools))
    assert starts == [1, 2]  # the second one began after the first one was up
    for pool in pools:
        assert pool.replicas[0].pid
        os.kill(pool.replicas[0].pid, signal.SIGKILL)
    async with asyncio.timeout(30):
        while len(starts) < 4:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert starts == [1, 2, 3, 4]
    await asyncio.gather(*(pool.aclose() for pool in pools))


async def test_nobody_waits_for_a_start_on_another_card(fake: MakeFake, tmp_path: Path) -> None:
    slow, quick, locks = fake(hang=True), fake(), StartLocks()
    hanging = Pool(slow.serve, [Place(0, gpus=(0, 1))], tmp_path / "slow", policy=QUICK, locks=locks)
    starting = asyncio.create_task(hanging.start())
    async with asyncio.timeout(20):
        while not slow.servers():  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    pools = [Pool(quick.serve, [Place(0, gpus=(card,))], tmp_path, policy=QUICK, locks=locks) for card in (2, 1)]
    await pools[0].start()
    waiting = asyncio.create_task(pools[1].start())
    await asyncio.sleep(0.3)
    assert len(quick.servers()) == 1  # card 1 is the hanging one's
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    await waiting
    await asyncio.gather(*(pool.aclose() for pool in pools))


async def test_a_free_port_that_somebody_took_is_changed_for_another(fake: MakeFake, tmp_path: Path) -> None:
    pool = Pool(fake().serve, PLACES[:1], tmp_path, policy=QUICK)
    before = pool.urls[0]
    with socket.create_server(("127.0.0.1", int(before.split(":")[2].removesuffix("/v1")))):
        await pool.start()
    assert pool.urls[0] != before and await health(pool.urls[0]) == 200
    await pool.aclose()


async def test_a_port_of_the_users_that_is_taken(fake: MakeFake, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        pool = Pool(fake().serve, PLACES[:1], tmp_path, ports=[port])
        with pytest.raises(UsageError, match=f"port {port} cannot be used"):
            await pool.start()
    with pytest.raises(UsageError, match="2 replicas need 2 ports"):
        Pool(fake().serve, PLACES, tmp_path, ports=[port])


async def test_a_pool_without_a_place_for_its_state_runs_all_the_same(
    fake: MakeFake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = fake()
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TANDEM_HOME", str(tmp_path / "file"))
    pool = Pool(replace(served.serve, name="org/m"), PLACES[:1], tmp_path, policy=QUICK)
    await pool.start()
    assert await health(pool.urls[0]) == 200
    await pool.aclose()
