"""How busy the pools are: a snapshot of every replica, two of them as a report, a report as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import click

if TYPE_CHECKING:
    from rich.table import Table

    from tandem.models.vllm.metrics import ReplicaMetrics
    from tandem.models.vllm.state import PoolState

Snapshot = list[tuple["PoolState", list["ReplicaMetrics | None"]]]


def take_snapshot() -> Snapshot:
    """Read the metrics of every replica of every pool at once."""
    import asyncio

    import httpx

    from tandem.models.vllm import metrics, state

    found, errors = state.load_all()
    for line in errors:
        click.echo(f"tandem: {line}", err=True)

    async def read_all() -> list[ReplicaMetrics | None]:
        async with httpx.AsyncClient(trust_env=False, verify=False, timeout=5.0) as client:
            urls = [replica.url for running in found for replica in running.replicas]
            return await asyncio.gather(*(metrics.read(client, url) for url in urls))

    seen = iter(asyncio.run(read_all()))
    return [(running, [next(seen) for _ in running.replicas]) for running in found]


def report(before: Snapshot, now: Snapshot) -> dict[str, Any]:
    """Return two snapshots as the JSON of `tandem pool status`."""
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
        pools.append(running.model_dump(include={"name", "model", "kind", "pid", "since"}) | {"replicas": replicas})
    return {"pools": pools}


def table(report: dict[str, Any]) -> Table:
    """Return a report as a table, a row for each replica.

    Requests that run and wait, the prefix cache's hit rate, tokens a second, the KV cache's use.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    numbers = ("runs", "waits", "hits", "tok/s", "KV")
    for heading in ("pool", "port", "on", *numbers, "state"):
        fold = heading in ("pool", "state")  # what may be long; in 80 columns the figures stay whole
        justify: Literal["left", "right"] = "right" if heading in numbers else "left"
        table.add_column(heading, no_wrap=not fold, overflow="fold", justify=justify)
    for running in report["pools"]:
        for replica in running["replicas"]:
            restarts = f", {replica['restarts']} restarts" if replica["restarts"] else ""
            cells = (
                running["name"],
                replica["url"].removesuffix("/v1").rpartition(":")[2],
                replica["place"],
                _figure(replica.get("running"), "{:.0f}"),
                _figure(replica.get("waiting"), "{:.0f}"),
                _figure(replica["hit_rate"], "{:.0%}"),
                _figure(replica["tokens_per_second"], "{:.0f}"),
                _figure(replica.get("kv_use"), "{:.0%}"),
                replica["note"] + restarts,
            )
            table.add_row(*map(Text, cells))
    return table


def _figure(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)
