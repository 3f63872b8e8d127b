"""/v1/chat/completions: a strategy's events as OpenAI messages, whole or streamed in chunks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from tandem.server.answers import AnswerFormat, Piece, finish
from tandem.server.schema import ChatRequest, CompletionRequest
from tandem.types import AnswerDelta, Decision, Event, InsightDelta, Solution


def _choice(index: int, solution: Solution) -> dict[str, Any]:
    return {
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


def _pieces(request: ChatRequest | CompletionRequest) -> Piece:
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

    return piece


_FIELDS = {InsightDelta: "reasoning_content", AnswerDelta: "content"}


def _for_our_clients(event: Event) -> dict[str, Any] | None:
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


FORMAT = AnswerFormat("chat.completion", "chat.completion.chunk", "chatcmpl", _choice, _pieces)
