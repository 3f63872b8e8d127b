"""How busy the pools are: one look at every replica, two looks as a report, a report as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import click

if TYPE_CHECKING:
    from rich.table import Table

    from tandem.models.vllm.metrics import Look
    from tandem.models.vllm.state import PoolState

Seen = list[tuple["PoolState", list["Look | None"]]]


def look() -> Seen:
    """Look at every replica of every pool at once."""
    import asyncio

    import httpx

    from tandem.models.vllm import metrics, state

    found, said = state.load_all()
    for line in said:
        click.echo(f"tandem: {line}", err=True)

    async def looks() -> list[Look | None]:
        async with httpx.AsyncClient(trust_env=False, verify=False, timeout=5.0) as client:
            urls = [replica.url for running in found for replica in running.replicas]
            return await asyncio.gather(*(metrics.read(client, url) for url in urls))

    seen = iter(asyncio.run(looks()))
    return [(running, [next(seen) for _ in running.replicas]) for running in found]


def report(before: Seen, now: Seen) -> dict[str, Any]:
    """Return what two looks tell, as JSON has it."""
    from dataclasses import asdict

    from tandem.models.vllm.metrics import tokens_per_second

    earlier = {
        (running.name, replica.url): look
        for running, looks in before
        for replica, look in zip(running.replicas, looks, strict=True)
    }
    pools = []
    for running, looks in now:
        replicas = []
        for replica, look in zip(running.replicas, looks, strict=True):
            figures = asdict(look) if look else {}
            figures.pop("time", None)
            figures["hit_rate"] = look.hit_rate if look else None
            figures["tokens_per_second"] = tokens_per_second(earlier.get((running.name, replica.url)), look)
            replicas.append(replica.model_dump(include={"url", "place", "up", "note", "restarts", "log"}) | figures)
        pools.append(running.model_dump(include={"name", "model", "kind", "pid", "since"}) | {"replicas": replicas})
    return {"pools": pools}


def table(report: dict[str, Any]) -> Table:
    """Return a report as a table, a row for each replica.

    Requests that run and wait, the prefix cache's hit rate, tokens a second between the two looks, the KV cache's use.
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
