"""An answer as a Response object with its items, and the typed events of a streamed one."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any, NamedTuple

from pydantic import BaseModel

from tandem.server.errors import ApiError
from tandem.server.formats import Body, StreamFormat, headed, insight_and_thought, own_fields
from tandem.server.logprobs import chat_logprobs
from tandem.server.responses.body import ResponsesRequest
from tandem.types import (
    AnswerDelta,
    CallDelta,
    Decision,
    Event,
    InsightDelta,
    ScoredToken,
    Solution,
    ThinkingDelta,
)

_Events = Iterator[dict[str, Any]]
_PREFIXES = {"reasoning": "rs", "message": "msg", "function_call": "fc"}
_EMPTY: dict[str, dict[str, Any]] = {
    "reasoning": {"summary": []},
    "message": {"role": "assistant", "content": []},
    "function_call": {},
}
_CALL = "response.function_call_arguments"
_FAILURES = {429: "rate_limit_exceeded", 400: "invalid_prompt"}


class _PartKind(NamedTuple):
    """A kind of part: the item that it belongs to, the list there, and the names of its events and its index."""

    item: str
    field: str
    text: str
    part: str
    counter: str


_KINDS = {
    "summary_text": _PartKind(
        "reasoning", "summary", "response.reasoning_summary_text", "response.reasoning_summary_part", "summary_index"
    ),
    "reasoning_text": _PartKind(
        "reasoning", "content", "response.reasoning_text", "response.content_part", "content_index"
    ),
    "output_text": _PartKind("message", "content", "response.output_text", "response.content_part", "content_index"),
}


class ResponsesFormat:
    """The format of one request to /v1/responses: what it asked for stands in its answer."""

    def __init__(self, body: ResponsesRequest) -> None:
        self._body = body

    def whole(self, request: Body, solutions: Sequence[Solution], used: Mapping[str, Any]) -> Mapping[str, Any]:
        (solution,) = solutions
        insight, thought = insight_and_thought(solution)
        items = []
        if insight or thought:
            items.append(_item("reasoning"))
            items[-1]["summary"] = [_part("summary_text", insight)] if insight else []
            items[-1] |= {"content": [_part("reasoning_text", thought)]} if thought else {}
        if solution.content or not (solution.tool_calls or solution.truncated):
            items.append(_item("message"))
            items[-1]["content"] = [_part("output_text", solution.content, _logprobs(solution.tokens))]
        items += [_call(call.id, call.name, call.arguments) for call in solution.tool_calls or ()]
        for item in items:
            item["status"] = "completed"
        if items:
            items[-1]["status"] = _status(solution)
        return _response(self._body) | _ended(items, _status(solution), used)

    def stream(self, request: Body) -> StreamFormat:
        return ResponseEvents(self._body)


class ResponseEvents:
    """The events of a streamed Response: what arrives opens an item and its part, and closes those before it."""

    def __init__(self, body: ResponsesRequest) -> None:
        self._head = _response(body)
        self._told = bool(body.tandem and body.tandem.events)
        self._sent = 0
        self._items: list[dict[str, Any]] = []
        self._open: dict[str, Any] | None = None  # the last item, until it is complete
        self._part: dict[str, Any] | None = None  # its last part, until it is
        self._number: int | None = None  # the open item's number, if it is a call
        self._section: str | None = None  # of the insight
        self._status = "completed"

    def piece(self, index: int, event: Event | None) -> _Events:
        own = own_fields(event) if event and self._told else None
        extra = {"tandem": own} if own else {}
        match event:
            case None:
                yield self._event("response.created", response=self._head)
                yield self._event("response.in_progress", response=self._head)
            case InsightDelta():
                text, self._section = headed(event, self._section), event.section
                yield from self._add("summary_text", text, extra)
            case ThinkingDelta():
                yield from self._add("reasoning_text", event.text, extra)
            case AnswerDelta():
                yield from self._add("output_text", event.text, extra, _logprobs(event.tokens))
            case CallDelta():
                yield from self._add_call(event, extra)
            case Decision() if extra:
                yield self._event("tandem.decision", **extra)
            case Solution():
                self._status = _status(event)
                if not (event.content or event.tool_calls or event.truncated):  # an empty answer is one, too
                    yield from self._begin("output_text")
                yield from self._close(self._status)
                if extra:
                    yield self._event("tandem.solution", **extra)

    def end(self, used: Mapping[str, Any]) -> _Events:
        ended = self._head | _ended(self._items, self._status, used)
        yield self._event(f"response.{self._status}", response=ended)

    def failed(self, error: ApiError) -> _Events:
        if not self._sent:  # it failed in the queue, and clients look for a beginning
            yield from self.piece(0, None)
        yield from self._close("incomplete")
        told = {"message": error.message, "param": error.param}
        yield self._event("error", code=error.code, **told)
        failure = {"code": _FAILURES.get(error.status, "server_error"), "type": error.kind, **told}
        yield self._event("response.failed", response=self._head | _ended(self._items, "failed") | {"error": failure})

    def _add(self, name: str, text: str, extra: Mapping[str, Any], logprobs: Sequence[Any] = ()) -> _Events:
        if not text and not logprobs:
            return
        yield from self._begin(name)
        assert self._part is not None
        self._part["text"] += text
        more: dict[str, Any] = {}
        if name == "output_text":
            self._part["logprobs"] += logprobs
            more["logprobs"] = list(logprobs)
        yield self._event(f"{_KINDS[name].text}.delta", **self._place(), delta=text, **more, **extra)

    def _add_call(self, event: CallDelta, extra: Mapping[str, Any]) -> _Events:
        if event.name:
            yield from self._close("completed")
            yield from self._begin_item(_call(event.id, event.name))
            self._number = event.index
        if not event.arguments or self._number != event.index:
            return  # one that was complete has its arguments
        assert self._open is not None
        self._open["arguments"] += event.arguments
        yield self._event(f"{_CALL}.delta", **self._of_item(), delta=event.arguments, **extra)

    def _begin_item(self, item: dict[str, Any]) -> _Events:
        self._open = item
        self._items.append(item)
        yield self._event("response.output_item.added", output_index=len(self._items) - 1, item=item)

    def _begin(self, name: str) -> _Events:
        """Open a part of this kind, and an item for it, if that is not where the last text went."""
        if self._part is not None and self._part["type"] == name:
            return
        kind = _KINDS[name]
        if self._open is None or self._open["type"] != kind.item:
            yield from self._close("completed")
            yield from self._begin_item(_item(kind.item))
        assert self._open is not None
        yield from self._end_part()
        self._part = _part(name, "")
        self._open.setdefault(kind.field, []).append(self._part)
        yield self._event(f"{kind.part}.added", **self._place(), part=self._part)

    def _end_part(self) -> _Events:
        if self._part is not None:
            kind, text = _KINDS[self._part["type"]], self._part["text"]
            more = {"logprobs": self._part["logprobs"]} if kind.item == "message" else {}
            yield self._event(f"{kind.text}.done", **self._place(), text=text, **more)
            yield self._event(f"{kind.part}.done", **self._place(), part=self._part)
        self._part = None

    def _close(self, status: str) -> _Events:
        """Complete the open item, if there is one."""
        yield from self._end_part()
        if self._open is not None:
            if self._open["type"] == "function_call":
                if self._number is not None and not self._open["arguments"] and status == "completed":
                    yield from self._add_call(CallDelta(self._number, "{}"), {})
                self._number = None
                yield self._event(f"{_CALL}.done", **self._of_item(), arguments=self._open["arguments"])
            self._open["status"] = status
            yield self._event("response.output_item.done", output_index=len(self._items) - 1, item=self._open)
        self._open = None

    def _place(self) -> dict[str, Any]:
        assert self._open is not None and self._part is not None
        kind = _KINDS[self._part["type"]]
        index = {kind.counter: len(self._open[kind.field]) - 1}
        return {**self._of_item(), **index}

    def _of_item(self) -> dict[str, Any]:
        assert self._open is not None
        return {"item_id": self._open["id"], "output_index": len(self._items) - 1}

    def _event(self, name: str, **fields: Any) -> dict[str, Any]:
        self._sent += 1
        return {"type": name, "sequence_number": self._sent - 1, **deepcopy(fields)}


def _response(body: ResponsesRequest) -> dict[str, Any]:
    """Return the Response before there is an answer, with what was asked for."""
    reasoning, text, choice = body.reasoning, body.text, body.tool_choice
    form = text.format.model_dump(by_alias=True, exclude_none=True) if text and text.format else {"type": "text"}
    return {
        "id": _identity("resp"),
        "object": "response",
        "created_at": int(time.time()),
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "max_tool_calls": body.max_tool_calls,
        "metadata": body.metadata or {},
        "model": body.model,
        "output": [],
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "previous_response_id": None,
        "prompt_cache_key": body.prompt_cache_key,
        "reasoning": {"effort": reasoning and reasoning.effort, "summary": reasoning and reasoning.summary},
        "safety_identifier": body.safety_identifier,
        "service_tier": "default",
        "store": False,
        "temperature": body.temperature,
        "text": {"format": form, "verbosity": (text and text.verbosity) or "medium"},
        "tool_choice": choice.model_dump() if isinstance(choice, BaseModel) else choice or "auto",
        "tools": [tool.model_dump() for tool in body.tools or ()],
        "top_logprobs": body.top_logprobs or 0,
        "top_p": body.top_p,
        "truncation": "disabled",
        "usage": None,
        "user": body.user,
    }


def _ended(items: Sequence[Mapping[str, Any]], status: str, used: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the fields of a Response that its end changes; `used` is the usage of a chat."""
    return {
        "status": status,
        "output": items,
        "completed_at": int(time.time()) if status == "completed" else None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "usage": used
        and {
            "input_tokens": used["prompt_tokens"],
            "input_tokens_details": used["prompt_tokens_details"],
            "output_tokens": used["completion_tokens"],
            "output_tokens_details": used["completion_tokens_details"],
            "total_tokens": used["total_tokens"],
            "tandem": used["tandem"],
        },
    }


def _status(solution: Solution) -> str:
    return "incomplete" if solution.truncated else "completed"


def _item(kind: str) -> dict[str, Any]:
    return {"id": _identity(_PREFIXES[kind]), "type": kind, "status": "in_progress", **deepcopy(_EMPTY[kind])}


def _call(call: str, name: str, arguments: str = "") -> dict[str, Any]:
    return {**_item("function_call"), "call_id": call, "name": name, "arguments": arguments}


def _part(name: str, text: str, logprobs: Sequence[Any] = ()) -> dict[str, Any]:
    more = {"annotations": [], "logprobs": list(logprobs)} if name == "output_text" else {}
    return {"type": name, "text": text, **more}


def _logprobs(tokens: Sequence[ScoredToken] | None) -> list[Any]:
    found = chat_logprobs(tokens or None)
    return found["content"] if found else []


def _identity(prefix: str) -> str:
    return f"{prefix}_{uuid.uuid4().hex}"
