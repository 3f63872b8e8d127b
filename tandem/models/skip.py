"""Skip the known beginning of a text when the same request is repeated."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from tandem.errors import EndpointError
from tandem.models.base import Delta


async def skip(stream: AsyncGenerator[Delta, None], known: str) -> AsyncGenerator[Delta, None]:
    """Yield the part of `stream` after the beginning `known`; closing it closes the stream.

    Raises EndpointError (retryable) if the stream begins differently: the known part was already yielded, so that only
    restarting the whole problem can help.
    """
    async with aclosing(stream) as deltas:
        at = 0
        async for delta in deltas:
            if at >= len(known) or delta.failed is not None:
                yield delta
                continue
            head = delta.text[: len(known) - at]
            if not known.startswith(head, at):
                raise EndpointError("the model wrote a different text when the request was repeated", retryable=True)
            at += len(head)
            rest = delta.text[len(head) :]
            if rest:  # its tokens count with the text that follows
                yield replace(delta, text=rest)
            elif delta.finish_reason is not None or delta.usage is not None:
                yield Delta(finish_reason=delta.finish_reason, usage=delta.usage)
