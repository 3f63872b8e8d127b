"""/v1/chat/completions: a strategy's events as OpenAI messages, whole or streamed in chunks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from tandem.server.answers import finish, head_of, solve_all, stream_all
from tandem.server.requests import SolveRequest
from tandem.server.schema import ChatRequest
from tandem.server.service import Bill, Service
from tandem.server.usage import usage
from tandem.types import AnswerDelta, Decision, Event, InsightDelta, Solution


async def answer(service: Service, request: ChatRequest, asked: Sequence[SolveRequest], bill: Bill) -> dict[str, Any]:
    """Solve every choice and return the whole answer. Raises ApiError."""
    solutions = await solve_all(service, asked, bill)
    choices = [
        {
            "index": index,
            "message": {
                "role": "assistant",
                "content": solution.text,
                "reasoning_content": solution.insight or None,
                "refusal": None,
            },
            "finish_reason": finish(solution),
            "logprobs": None,
        }
        for index, solution in enumerate(solutions)
    ]
    head = head_of(request.model, "chat.completion", "chatcmpl")
    return head | {"choices": choices, "usage": usage(solutions, asked, service.engine)}


def stream(
    service: Service, request: ChatRequest, asked: Sequence[SolveRequest], bill: Bill
) -> AsyncGenerator[bytes, None]:
    """Yield the answer as server-sent events, choice by choice; an error midway is the last of them."""
    with_events = bool(request.tandem and request.tandem.events)
    section: str | None = None

    def piece(index: int, event: Event | None) -> Mapping[str, Any] | None:
        nonlocal section
        if event is None:
            section = None
            return _chunk(index, {"role": "assistant", "content": ""})
        extra = {"tandem": own} if with_events and (own := _for_our_clients(event)) else {}
        if isinstance(event, Solution):
            return _chunk(index, {}, finish(event)) | extra
        if isinstance(event, InsightDelta) and not with_events:  # without sections these look like headings
            heading = f"{event.section.capitalize()}: " if event.section not in (None, section) else ""
            section = event.section
            return _chunk(index, {"reasoning_content": heading + event.text})
        if isinstance(event, Decision):
            return _chunk(index, {}) | extra if with_events else None
        return _chunk(index, {_FIELDS[type(event)]: event.text}) | extra

    return stream_all(service, request, asked, bill, head_of(request.model, "chat.completion.chunk", "chatcmpl"), piece)


_FIELDS = {InsightDelta: "reasoning_content", AnswerDelta: "content"}


def _for_our_clients(event: Event) -> dict[str, Any] | None:
    """Return the fields for Tandem's own clients."""
    match event:
        case InsightDelta():
            return {"type": "insight", "section": event.section, "level": event.level}
        case Decision():
            fields = asdict(event)
            del fields["signals"]
            return {"type": "decision", **fields}
        case Solution():
            names = ("level", "answered_by", "answer", "strategy", "truncated", "synthetic", "classifier")
            return {"type": "solution", **{n: getattr(event, n) for n in names}, "seconds": round(event.seconds, 3)}
        case _:
            return None


def _chunk(index: int, delta: Mapping[str, Any], end: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": delta, "finish_reason": end, "logprobs": None}]}
