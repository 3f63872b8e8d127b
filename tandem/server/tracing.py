"""OpenTelemetry spans, if its SDK is installed and an exporter is configured; otherwise no-ops.

With the extra `trace`, ``OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4318 tandem serve ...`` is enough. A span is one
choice of one request; its events are the decisions.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

_log = logging.getLogger(__name__)
_WISHES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
Value = str | int | float | bool


def set_up() -> bool:
    """Send spans to the exporter in the environment; return whether there is one and the packages are installed."""
    if not any(os.environ.get(name) for name in _WISHES):
        return False
    try:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        _log.warning("tracing needs an extra: pip install 'tandem-reasoning[trace]'")
        return False
    provider = TracerProvider(resource=Resource.create({"service.name": os.environ.get("OTEL_SERVICE_NAME", "tandem")}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return True


class Trace:
    def __init__(self, span: Any = None) -> None:
        self._span = span

    def set(self, name: str, value: Value) -> None:
        if self._span is not None:
            self._span.set_attribute(f"tandem.{name}", value)

    def event(self, name: str, attributes: Mapping[str, Value | None]) -> None:
        """Add an event; attributes that are None are left out."""
        if self._span is not None:
            self._span.add_event(name, {f"tandem.{key}": v for key, v in attributes.items() if v is not None})


@contextmanager
def span(name: str, **attributes: str) -> Iterator[Trace]:
    """Open a span of the process's tracer. An error within is recorded, but no text of a user or a model."""
    try:
        from opentelemetry import trace
    except ImportError:
        yield Trace()
        return
    own = {f"tandem.{key}": value for key, value in attributes.items()}
    # Not as the current span: a generator runs in its reader's context, which may close it in another task.
    opened = trace.get_tracer("tandem").start_span(name, attributes=own)
    try:
        yield Trace(opened)
    except BaseException as error:
        opened.set_status(trace.StatusCode.ERROR, type(error).__name__)
        raise
    finally:
        opened.end()
