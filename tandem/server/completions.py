"""/v1/completions: each prompt is asked as one message; the answer is the text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tandem.server.answers import AnswerFormat, finish
from tandem.types import AnswerDelta, Event, Solution


def _choice(index: int, text: str, end: str | None) -> Mapping[str, Any]:
    return {"index": index, "text": text, "finish_reason": end, "logprobs": None}


def _piece(index: int, event: Event | None) -> Mapping[str, Any] | None:
    if isinstance(event, AnswerDelta):
        return {"choices": [_choice(index, event.text, None)]}
    return {"choices": [_choice(index, "", finish(event))]} if isinstance(event, Solution) else None


FORMAT = AnswerFormat(
    whole="text_completion",
    chunk="text_completion",
    prefix="cmpl",
    choice=lambda index, solution: _choice(index, solution.text, finish(solution)),
    pieces=lambda request: _piece,
)
