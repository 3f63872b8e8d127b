"""A strategy's events as OpenAI's objects, whole or streamed: chat messages, and the texts of /v1/completions."""

from __future__ import annotations

import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

from tandem.server.errors import ApiError
from tandem.server.logprobs import chat_logprobs, text_logprobs
from tandem.server.schema import ChatRequest, CompletionRequest
from tandem.thinking import OPENS
from tandem.types import AnswerDelta, CallDelta, Decision, Event, InsightDelta, ScoredToken, Solution, ThinkingDelta

Body = ChatRequest | CompletionRequest
Piece = Callable[[int, Event | None], Mapping[str, Any] | None]


class AnswerFormat(Protocol):
    """How an endpoint sends answers: a whole one, or a stream's messages."""

    def whole(self, request: Body, solutions: Sequence[Solution], used: Mapping[str, Any]) -> Mapping[str, Any]: ...

    def stream(self, request: Body) -> StreamFormat: ...


class StreamFormat(Protocol):
    """The messages of one stream, each an object; `DONE` is sent as it is."""

    def piece(self, index: int, event: Event | None) -> Iterable[Mapping[str, Any]]:
        """Return what to send for an event of this choice; None: its start."""

    def end(self, used: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]: ...

    def failed(self, error: ApiError) -> Iterable[Mapping[str, Any]]: ...


DONE: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class ChoicesFormat:
    """The format of an endpoint with choices: its objects' names and id prefix, a whole choice, and the pieces of one.

    A piece holds the fields to send for an event of this choice (None: its start), or is None.
    """

    name: str
    chunk: str
    prefix: str
    choice: Callable[[int, Solution], Mapping[str, Any]]
    pieces: Callable[[Body], Piece]

    def head(self, model: str, kind: str) -> dict[str, Any]:
        return {"id": f"{self.prefix}-{uuid.uuid4().hex}", "object": kind, "created": int(time.time()), "model": model}

    def whole(self, request: Body, solutions: Sequence[Solution], used: Mapping[str, Any]) -> Mapping[str, Any]:
        choices = [self.choice(index, solution) for index, solution in enumerate(solutions)]
        return self.head(request.model, self.name) | {"choices": choices, "usage": used}

    def stream(self, request: Body) -> StreamFormat:
        return _Chunks(request, self.head(request.model, self.chunk), self.pieces(request))


@dataclass(frozen=True, slots=True)
class _Chunks:
    """A stream of chunks, each with the same head."""

    request: Body
    head: Mapping[str, Any]
    fields: Piece

    def piece(self, index: int, event: Event | None) -> Iterable[Mapping[str, Any]]:
        found = self.fields(index, event)
        return [{**self.head, **found}] if found else []

    def end(self, used: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
        if self.request.stream_options and self.request.stream_options.include_usage:
            yield {**self.head, "choices": [], "usage": used}
        yield DONE

    def failed(self, error: ApiError) -> Iterable[Mapping[str, Any]]:
        return [error.body]


def _chat_choice(index: int, solution: Solution) -> dict[str, Any]:
    message: dict[str, Any] = {
        "role": "assistant",
        "content": solution.content,
        "reasoning_content": "\n\n".join(filter(None, insight_and_thought(solution))) or None,
        "refusal": None,
    }
    if calls := solution.tool_calls:
        message["content"] = solution.content or None
        message["tool_calls"] = [_call(call.arguments, call.id, call.name) for call in calls]
    return {
        "index": index,
        "message": message,
        "finish_reason": _finish(solution),
        "logprobs": chat_logprobs(solution.tokens),
    }


def insight_and_thought(solution: Solution) -> tuple[str, str]:
    """Return the insight and what the model that answered thought; an insight that its text goes on from is in that."""
    insight, thinking = solution.insight, solution.thinking
    if thinking and solution.text.removeprefix(OPENS).startswith(insight.removeprefix(OPENS)):
        return "", thinking
    return insight, thinking


def _chat_pieces(request: Body) -> Piece:
    with_events = bool(request.tandem and request.tandem.events)
    sections: dict[int, str | None] = {}  # that each choice's insight is in

    def piece(index: int, event: Event | None) -> Mapping[str, Any] | None:
        section = sections.get(index)
        if event is None:
            return _chunk(index, {"role": "assistant", "content": ""})
        extra = {"tandem": own} if with_events and (own := own_fields(event)) else {}
        if isinstance(event, Solution):
            return _chunk(index, {}, _finish(event)) | extra
        if isinstance(event, InsightDelta) and not with_events:  # without sections these look like headings
            sections[index] = event.section
            return _chunk(index, {"reasoning_content": headed(event, section)})
        if isinstance(event, ThinkingDelta) and section and not with_events:  # behind an insight of sections
            sections[index] = None
            return _chunk(index, {"reasoning_content": f"\n\n{event.text}"})
        if isinstance(event, Decision):
            return _chunk(index, {}) | extra if with_events else None
        chunk = _chunk(index, _delta(event)) | extra
        if isinstance(event, AnswerDelta) and event.tokens:
            chunk["choices"][0]["logprobs"] = chat_logprobs(event.tokens)
        return chunk

    return piece


def headed(event: InsightDelta, section: str | None) -> str:
    """Return the text of an insight's piece, under its heading where it begins another section than that before."""
    return f"{event.section.capitalize()}: {event.text}" if event.section not in (None, section) else event.text


_FIELDS = {InsightDelta: "reasoning_content", ThinkingDelta: "reasoning_content", AnswerDelta: "content"}


def _delta(event: InsightDelta | ThinkingDelta | AnswerDelta | CallDelta) -> dict[str, Any]:
    if isinstance(event, CallDelta):
        return {"tool_calls": [{"index": event.index, **_call(event.arguments, event.id, event.name)}]}
    return {_FIELDS[type(event)]: event.text}


def _call(arguments: str, id: str = "", name: str = "") -> dict[str, Any]:
    """Return a call, or with the arguments alone a further piece of a streamed one."""
    if not name:
        return {"function": {"arguments": arguments}}
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def own_fields(event: Event) -> dict[str, Any] | None:
    """Return what an event says beyond OpenAI's API."""
    match event:
        case InsightDelta():
            return {"type": "insight", "section": event.section, "level": event.level}
        case ThinkingDelta():
            return {"type": "thinking"}
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


def _text_choice(
    index: int, text: str, end: str | None, tokens: Sequence[ScoredToken] | None, at: int = 0
) -> Mapping[str, Any]:
    return {"index": index, "text": text, "finish_reason": end, "logprobs": text_logprobs(tokens, at)}


def _text_pieces(request: Body) -> Piece:
    at: dict[int, int] = defaultdict(int)  # characters of a choice's tokens that were sent

    def piece(index: int, event: Event | None) -> Mapping[str, Any] | None:
        if isinstance(event, AnswerDelta):
            choice = _text_choice(index, event.text, None, event.tokens or None, at[index])
            at[index] += sum(len(token.text) for token in event.tokens)
            return {"choices": [choice]}
        return {"choices": [_text_choice(index, "", _finish(event), None)]} if isinstance(event, Solution) else None

    return piece


def _finish(solution: Solution) -> str:
    return "length" if solution.truncated else "tool_calls" if solution.tool_calls else "stop"


CHAT = ChoicesFormat("chat.completion", "chat.completion.chunk", "chatcmpl", _chat_choice, _chat_pieces)
TEXT = ChoicesFormat(
    "text_completion",
    "text_completion",
    "cmpl",
    lambda index, solution: _text_choice(index, solution.content, _finish(solution), solution.tokens),
    _text_pieces,
)
RAW = replace(  # a prompt that was read as it stands: what looks like a thought is text
    TEXT, choice=lambda index, solution: _text_choice(index, solution.text, _finish(solution), solution.tokens)
)
