"""/v1/completions: each prompt is asked as one message; the answer is the text."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

from tandem.server.answers import finish, head_of, solve_all, stream_all
from tandem.server.requests import SolveRequest
from tandem.server.schema import CompletionRequest
from tandem.server.service import Bill, Service
from tandem.server.usage import usage
from tandem.types import AnswerDelta, Event, Solution


async def answer(
    service: Service, request: CompletionRequest, asked: Sequence[SolveRequest], bill: Bill
) -> dict[str, Any]:
    """Solve every prompt and choice, and return the whole answer. Raises ApiError."""
    solutions = await solve_all(service, asked, bill)
    choices = [_choice(index, solution.text, finish(solution)) for index, solution in enumerate(solutions)]
    found = usage(solutions, asked, service.engine)
    if len(request.prompt) > 1:  # each of the prompts is counted once, for any number of choices
        found["prompt_tokens"] = sum(service.engine.intern.count(prompt) for prompt in request.prompt)
        found["total_tokens"] = found["prompt_tokens"] + found["completion_tokens"]
    return _head(request) | {"choices": choices, "usage": found}


def stream(
    service: Service, request: CompletionRequest, asked: Sequence[SolveRequest], bill: Bill
) -> AsyncGenerator[bytes, None]:
    """Yield the answer as server-sent events; an error midway is the last of them."""

    def piece(index: int, event: Event | None) -> Mapping[str, Any] | None:
        if isinstance(event, AnswerDelta):
            return {"choices": [_choice(index, event.text, None)]}
        return {"choices": [_choice(index, "", finish(event))]} if isinstance(event, Solution) else None

    return stream_all(service, request, asked, bill, _head(request), piece)


def _choice(index: int, text: str, end: str | None) -> Mapping[str, Any]:
    return {"index": index, "text": text, "finish_reason": end, "logprobs": None}


def _head(request: CompletionRequest) -> dict[str, Any]:
    return head_of(request.model, "text_completion", "cmpl")
