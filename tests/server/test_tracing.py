"""Spans: one for each choice, decisions as events, and no text of anybody's; without a set-up nothing is said."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tandem import Tandem
from tandem.models.fake import FakeModel, Rule, Script
from tandem.server.errors import ApiError
from tandem.server.gate import Gate
from tandem.server.keys import KeyRing
from tandem.server.requests import ModelMenu
from tandem.server.schema import ChatRequest
from tandem.server.service import Bill, Service
from tandem.server.tracing import set_up


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    yield exporter
    provider.shutdown()


async def solved(intern: FakeModel) -> None:
    menu = ModelMenu(Tandem(FakeModel(), intern, effort="none,low=5,high=20"))
    service = Service(menu, KeyRing(), Gate(1, 1))
    await service.prepare()
    request = {"model": "tandem", "messages": [{"role": "user", "content": "What is 17*23, my secret?"}]}
    (asked,) = menu.ask(ChatRequest.model_validate(request))
    async for _ in service.solve(asked, Bill()):
        pass


async def test_a_choice_is_a_span_with_its_decisions_and_no_text(spans: InMemorySpanExporter) -> None:
    await solved(FakeModel())
    (span,) = spans.get_finished_spans()
    assert span.name == "tandem.solve" and span.attributes is not None
    assert span.attributes["tandem.strategy"] == "tandem" and span.attributes["tandem.level"]
    assert [event.name for event in span.events] == ["decision"] * len(span.events) and span.events
    assert "secret" not in span.to_json()


async def test_a_failure_is_an_error_without_its_text(spans: InMemorySpanExporter) -> None:
    with pytest.raises(ApiError):
        await solved(FakeModel(Script(rules=(Rule(text="x", fault="the secret broke"),))))
    (span,) = spans.get_finished_spans()
    assert span.status.status_code is trace.StatusCode.ERROR and "secret" not in span.to_json()


def test_nothing_is_set_up_where_no_collector_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", raising=False)
    assert not set_up()
