"""/v1/completions: each prompt is asked as one message; the answer is the text."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from tandem.server.chat import DONE, finish, solution_of, sse, usage
from tandem.server.errors import ApiError
from tandem.server.requests import SolveRequest
from tandem.server.schema import CompletionRequest
from tandem.server.service import Bill, Service
from tandem.types import AnswerDelta, Solution


async def answer(
    service: Service, request: CompletionRequest, asked: Sequence[SolveRequest], bill: Bill
) -> dict[str, Any]:
    """Solve every prompt and choice, and return the whole answer. Raises ApiError."""
    solutions = [await solution_of(service, one, bill) for one in asked]
    choices = [_choice(index, solution.text, finish(solution)) for index, solution in enumerate(solutions)]
    found = usage(service, solutions, asked)
    if len(request.prompt) > 1:  # its prompts are several, each to be counted once, whatever its choices
        found["prompt_tokens"] = sum(service.engine.intern.count(prompt) for prompt in request.prompt)
        found["total_tokens"] = found["prompt_tokens"] + found["completion_tokens"]
    return _head(request.model) | {"choices": choices, "usage": found}


async def stream(
    service: Service, request: CompletionRequest, asked: Sequence[SolveRequest], bill: Bill
) -> AsyncGenerator[bytes, None]:
    """Yield the answer as server-sent events; an error in its midst is the last of them."""
    head, solutions = _head(request.model), list[Solution]()
    try:
        for index, one in enumerate(asked):
            async with aclosing(service.solve(one, bill)) as events:
                async for event in events:
                    if isinstance(event, AnswerDelta):
                        yield sse({**head, "choices": [_choice(index, event.text, None)]})
                    elif isinstance(event, Solution):
                        solutions.append(event)
            yield sse({**head, "choices": [_choice(index, "", finish(solutions[-1]))]})
    except ApiError as error:
        bill.failed = error.status
        yield sse(error.body)
        return
    if request.stream_options and request.stream_options.include_usage:
        yield sse({**head, "choices": [], "usage": usage(service, solutions, asked)})
    yield DONE


def _choice(index: int, text: str, end: str | None) -> Mapping[str, Any]:
    return {"index": index, "text": text, "finish_reason": end, "logprobs": None}


def _head(model: str) -> dict[str, Any]:
    return {
        "id": f"cmpl-{uuid.uuid4().hex}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": model,
    }
