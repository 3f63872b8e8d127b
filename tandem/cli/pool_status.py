"""How busy the pools are: a snapshot of every replica, two of them as a report, a report as a table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tandem.cli.output import plain_table, warn
from tandem.words import counted

if TYPE_CHECKING:
    from rich.table import Table

    from tandem.models.vllm.metrics import ReplicaMetrics
    from tandem.models.vllm.state import PoolState
    from tandem.spec import SpeedProfile

Snapshot = list[tuple["PoolState", list["ReplicaMetrics | None"]]]


def take_snapshot() -> Snapshot:
    import asyncio

    import httpx

    from tandem.models.vllm import metrics, state

    found, errors = state.load_all()
    warn(errors)

    async def read_all() -> list[ReplicaMetrics | None]:
        async with httpx.AsyncClient(trust_env=False, verify=False, timeout=5.0) as client:
            urls = [replica.url for running in found for replica in running.replicas]
            return await asyncio.gather(*(metrics.read(client, url) for url in urls))

    seen = iter(asyncio.run(read_all()))
    return [(running, [next(seen) for _ in running.replicas]) for running in found]


def report(before: Snapshot, now: Snapshot) -> dict[str, Any]:
    from dataclasses import asdict

    from tandem.models.vllm.metrics import tokens_per_second

    earlier = {
        (running.name, replica.url): metrics
        for running, read in before
        for replica, metrics in zip(running.replicas, read, strict=True)
    }
    pools = []
    for running, read in now:
        replicas = []
        for replica, metrics in zip(running.replicas, read, strict=True):
            figures = asdict(metrics) if metrics else {}
            figures.pop("time", None)
            figures["hit_rate"] = metrics.hit_rate if metrics else None
            figures["tokens_per_second"] = tokens_per_second(earlier.get((running.name, replica.url)), metrics)
            replicas.append(replica.model_dump(include={"url", "place", "up", "note", "restarts", "log"}) | figures)
        kept = [its.model_dump(mode="json") for its in speed_profiles(running.model)]
        own = running.model_dump(include={"name", "model", "kind", "pid", "since"})
        pools.append(own | {"replicas": replicas, "profiles": kept})
    return {"pools": pools}


def speed_profiles(model: str) -> list[SpeedProfile]:
    """Return the profiles of a model on vLLM replicas of this user, which a run on a pool of it goes by."""
    from tandem.models.profiles import VLLM, kept_profiles

    return [kept.profile for kept in kept_profiles(model) if kept.profile.endpoint == VLLM]


def speed_lines(report: dict[str, Any]) -> Iterator[str]:
    """Yield each pool's speed profiles, a line each, or how to measure one."""
    from tandem.spec import SpeedProfile

    for running in report["pools"]:
        for fields in running["profiles"]:
            yield f"{running['name']}: {speed_line(SpeedProfile(**fields))}"
        if not running["profiles"]:
            yield f"{running['name']}: its speed was not measured (tandem profile {running['name']})"


def speed_line(its: SpeedProfile) -> str:
    rates = ", ".join(f"{1000 * getattr(its, kind):.3g} {kind}" for kind in ("uncached", "cached", "written"))
    return f"device-ms a token: {rates} ({its.load}; {its.device}, {its.date})"


def table(report: dict[str, Any]) -> Table:
    """A row has requests that run and wait, the prefix cache's hit rate, tokens a second, the KV cache's use."""
    figures = ("runs", "waits", "hits", "tok/s", "KV")  # in 80 columns these stay whole
    rows = (_cells(running["name"], replica) for running in report["pools"] for replica in running["replicas"])
    made = plain_table(("pool", "port", "on", *figures, "state"), rows, left=3, whole=("port", "on", *figures))
    made.columns[-1].justify = "left"
    return made


def _cells(name: str, replica: dict[str, Any]) -> Iterator[str]:
    yield from (name, replica["url"].removesuffix("/v1").rpartition(":")[2], replica["place"])
    for key in ("running", "waiting", "hit_rate", "tokens_per_second", "kv_use"):
        value = replica.get(key)
        yield "" if value is None else f"{value:.0%}" if key in ("hit_rate", "kv_use") else f"{value:.0f}"
    yield replica["note"] + (f", {counted(replica['restarts'], 'restart')}" if replica["restarts"] else "")
