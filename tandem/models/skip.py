"""Go on behind what is already known of a text, when the same request is made once more."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from tandem.errors import EndpointError
from tandem.models.base import Delta


async def skip(stream: AsyncGenerator[Delta, None], known: str) -> AsyncGenerator[Delta, None]:
    """Yield what `stream` gives behind the beginning `known`; closing it closes the stream.

    Raises EndpointError (retryable) where the stream begins otherwise: what is known was handed out already, so that
    only a fresh start of the whole problem can help.
    """
    async with aclosing(stream) as deltas:
        at = 0
        async for delta in deltas:
            if at >= len(known) or delta.failed is not None:
                yield delta
                continue
            head = delta.text[: len(known) - at]
            if not known.startswith(head, at):
                raise EndpointError("asked once more, the model wrote another text", retryable=True)
            at += len(head)
            rest = delta.text[len(head) :]
            if rest:  # its tokens count where its text goes on
                yield replace(delta, text=rest)
            elif delta.finish_reason is not None or delta.usage is not None:
                yield Delta(finish_reason=delta.finish_reason, usage=delta.usage)
