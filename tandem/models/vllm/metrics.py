"""The load of a replica, read from its Prometheus page. Names differ between vLLM versions: any is taken."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

import httpx

_SAMPLE = re.compile(r"^vllm:(\w+)(?:\{[^}]*\})?\s+(\S+)")
_SUMMED = {
    "running": ("num_requests_running",),
    "waiting": ("num_requests_waiting",),
    "generated": ("generation_tokens_total", "generation_tokens"),
    "prompt": ("prompt_tokens_total", "prompt_tokens"),
    "queries": ("prefix_cache_queries_total", "gpu_prefix_cache_queries_total", "prefix_cache_queries"),
    "hits": ("prefix_cache_hits_total", "gpu_prefix_cache_hits_total", "prefix_cache_hits"),
}
_KV_USE = ("kv_cache_usage_perc", "gpu_cache_usage_perc")


@dataclass(frozen=True, slots=True)
class ReplicaMetrics:
    """The metrics of a replica at one time; None is what it does not report. Tokens are counted since its start."""

    time: float  # seconds of the monotonic clock
    running: float | None = None  # requests
    waiting: float | None = None
    generated: float | None = None  # tokens
    prompt: float | None = None
    queries: float | None = None  # prompt tokens looked up in the prefix cache
    hits: float | None = None  # and found there
    kv_use: float | None = None  # share of the KV cache in use, 0 to 1

    @property
    def hit_rate(self) -> float | None:
        return self.hits / self.queries if self.queries and self.hits is not None else None


def parse(text: str, now: float) -> ReplicaMetrics:
    """Read a metrics page; samples of several engines are added up, but of the cache's use the largest is taken."""
    found: dict[str, list[float]] = {}
    for line in text.splitlines():
        if match := _SAMPLE.match(line):
            found.setdefault(match[1], []).append(float(match[2]))

    def of(names: tuple[str, ...]) -> list[float]:
        return next((found[name] for name in names if name in found), [])

    sums = {field: sum(values) for field, names in _SUMMED.items() if (values := of(names))}
    return ReplicaMetrics(now, kv_use=max(of(_KV_USE), default=None), **sums)


async def read(client: httpx.AsyncClient, url: str) -> ReplicaMetrics | None:
    """Read the metrics of the replica with base URL `url` (with `/v1`); None if it does not answer."""
    try:
        answer = await client.get(url.removesuffix("/v1") + "/metrics")
    except httpx.HTTPError:
        return None
    return parse(answer.text, time.monotonic()) if answer.status_code == httpx.codes.OK else None


def tokens_per_second(before: ReplicaMetrics | None, after: ReplicaMetrics | None) -> float | None:
    """Return a replica's tokens between two readings; None if it was restarted or reported none."""
    if before is None or after is None or before.generated is None or after.generated is None:
        return None
    seconds, tokens = after.time - before.time, after.generated - before.generated
    return tokens / seconds if seconds > 0 and tokens >= 0 else None
