"""OpenTelemetry spans, where its SDK is installed and set up; else nothing, at no cost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Trace:
    """A span, or nothing."""

    def __init__(self, span: Any = None) -> None:
        self._span = span

    def set(self, name: str, value: str | int | float) -> None:
        """Set an attribute."""
        if self._span is not None:
            self._span.set_attribute(f"tandem.{name}", value)


@contextmanager
def span(name: str, **attributes: str) -> Iterator[Trace]:
    """Open a span of the tracer that the process was set up with."""
    try:
        from opentelemetry import trace
    except ImportError:
        yield Trace()
        return
    own = {f"tandem.{key}": value for key, value in attributes.items()}
    # Not as the current span: a generator's context is its reader's, which may leave it in another task.
    opened = trace.get_tracer("tandem").start_span(name, attributes=own)
    try:
        yield Trace(opened)
    except BaseException as error:
        opened.record_exception(error)
        raise
    finally:
        opened.end()
