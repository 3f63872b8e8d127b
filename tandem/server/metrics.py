"""Metrics for Prometheus: requests, levels, sufficiency, tokens by role, US$, latencies, and the replicas' state."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from tandem.ledger import Ledger, Role
from tandem.models.base import Model
from tandem.server.gate import Gate
from tandem.types import Decision, Solution

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_SHARES = tuple(n / 20 for n in range(1, 21))


class Metrics:
    def __init__(self, gate: Gate, models: Mapping[Role, Model]) -> None:
        self._gate, self._models = gate, models
        self._registry = CollectorRegistry()
        counter = partial(Counter, namespace="tandem", registry=self._registry)
        gauge = partial(Gauge, namespace="tandem", registry=self._registry)
        histogram = partial(Histogram, namespace="tandem", registry=self._registry)
        self._requests = counter("requests", "Requests that ended, by model and status.", ("model", "status"))
        self._levels = counter("levels", "Answers by the level at which they were given.", ("level",))
        self._decisions = counter("decisions", "Decisions by level and action.", ("level", "action"))
        self._sufficiency = histogram("sufficiency", "Sufficiency by level.", ("level",), buckets=_SHARES)
        self._tokens = counter("tokens", "Tokens written.", ("role", "purpose"))
        self._prompts = counter("prompt_tokens", "Prompt tokens, including cached ones.", ("role",))
        self._cached = counter("cached_tokens", "Prompt tokens served from a cache.", ("role",))
        self._usd = counter("usd", "US$ by catalog or user prices.", ("role",))
        self._charged = counter("key_usd", "US$ charged to a key, bounds where the usage is unknown.", ("key",))
        # A gauge: a request may cost more than the mentor alone would have.
        self._saved = gauge("key_usd_saved", "US$ of the mentor alone, estimated, less the cost, by key.", ("key",))
        self._latency = {
            name: histogram(f"{name}_seconds", f"Seconds to the {name.replace('_', ' ')}.", buckets=_SECONDS)
            for name in ("first_insight", "first_token", "end")
        }
        self._running = gauge("requests_running", "Requests being solved.")
        self._waiting = gauge("requests_waiting", "Requests waiting for a slot.")
        self._open = gauge("replica_requests", "Open requests at a replica.", ("role", "replica"))
        self._up = gauge("replica_up", "Whether a replica is up (1) or down (0).", ("role", "replica"))

    def ended(self, model: str, status: int) -> None:
        """Count how a request ended; 499 is a client that disconnected."""
        self._requests.labels(model, str(status)).inc()

    def latency(self, what: str, seconds: float) -> None:
        """Record a latency: `first_insight`, `first_token` or `end`."""
        self._latency[what].observe(seconds)

    def decided(self, decision: Decision) -> None:
        self._decisions.labels(decision.level, decision.action).inc()
        if decision.sufficiency is not None:
            self._sufficiency.labels(decision.level).observe(decision.sufficiency)

    def solved(self, solution: Solution) -> None:
        self._levels.labels(solution.level or "none").inc()

    def spent(self, ledger: Ledger) -> None:
        """Count tokens and US$, including failed calls."""
        for entry in ledger:
            self._tokens.labels(entry.role, entry.purpose).inc(entry.usage.completion)
            self._prompts.labels(entry.role).inc(entry.usage.prompt)
            self._cached.labels(entry.role).inc(entry.usage.cached)
            if entry.usd is not None:
                self._usd.labels(entry.role).inc(entry.usd)

    def charged(self, key: str, usd: float) -> None:
        self._charged.labels(key).inc(usd)

    def saved(self, key: str, told: Mapping[str, Any]) -> None:
        """Count what a request has saved, by the `tandem` part of its usage; nothing where a price is unknown."""
        alone, usd = told["mentor_alone"]["usd"], told["usd"]
        if alone is not None and usd is not None:
            self._saved.labels(key).inc(alone - usd)

    def text(self) -> bytes:
        self._running.set(self._gate.running)
        self._waiting.set(self._gate.waiting)
        for role, model in self._models.items():
            states: dict[str, tuple[bool, int]] = getattr(model, "states", {})  # by URL; a model may have no replicas
            for url, (up, load) in states.items():
                self._up.labels(role, url).set(up)
                self._open.labels(role, url).set(load)
        return generate_latest(self._registry)
