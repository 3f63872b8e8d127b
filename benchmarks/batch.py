"""What batching brings: tokens per second of 16 concurrent calls to one in-process model, over those of one call.

python benchmarks/batch.py [--model FOLDER_OR_HUB_ID] [--tokens 64] [--calls 16]
"""

from __future__ import annotations

import argparse
import asyncio
import time

from tandem.models.base import Request
from tandem.models.transformers import TransformersModel
from tandem.spec import ModelSpec
from tandem.types import Message

_PROMPT = "Problem {number}. Write a Python function that sorts {number} numbers, then explain every line of it."


def request(number: int, tokens: int) -> Request:
    message = Message(role="user", content=_PROMPT.format(number=number))
    return Request(messages=(message,), purpose="answer", max_tokens=tokens, top_logprobs=20)


async def rate(model: TransformersModel, calls: int, tokens: int) -> float:
    """Return tokens per second, prompts included, of `calls` requests at once."""
    started = time.perf_counter()
    answers = await asyncio.gather(*(model.complete(request(n, tokens)) for n in range(2, calls + 2)))
    return sum(a.tokens for a in answers) / (time.perf_counter() - started)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="Qwen/Qwen2.5-Coder-0.5B-Instruct", help="folder or hub id")
    parser.add_argument("--tokens", type=int, default=64, help="tokens per call")
    parser.add_argument("--calls", type=int, default=16, help="concurrent calls")
    parser.add_argument("--device", default=None)
    parser.add_argument("--dtype", default="auto")
    given = parser.parse_args()
    model = TransformersModel(
        ModelSpec(name=given.model), given.model, device=given.device, dtype=given.dtype, max_batch=given.calls
    )
    await model.complete(request(1, 4))  # loads, and warms up
    one = await rate(model, 1, given.tokens)
    many = await rate(model, given.calls, given.tokens)
    await model.aclose()
    print(f"1 call: {one:.1f} tokens/s; {given.calls} calls: {many:.1f} tokens/s; ratio {many / one:.1f}")


asyncio.run(main())
