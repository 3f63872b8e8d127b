"""What one chat request is answered with."""

from __future__ import annotations

import time
from dataclasses import dataclass
from email.utils import formatdate
from typing import Literal

Fault = Literal["reset", "cut", "stall", "half-json", "error-event", "comments"]


@dataclass(frozen=True)
class Reply:
    """What one chat request is answered with; every field has a plain, successful default.

    `top` holds each token's top log-probabilities, the chosen token's first (None: the same plausible ones for all).
    `fault` strikes after `fault_after` tokens: "reset" (TCP reset), "cut" (end without a finish reason), "stall"
    (nothing more, connection open), "half-json", "error-event", "comments" (SSE comments for ever); by then `unsent`
    more tokens were written, which are billed and never arrive.
    `pieces` is what the tokens' ids read as, where that is not their text: ids run ahead of text that is held back.
    `calls` are the `tool_calls` (JSON) of the chunks that follow the tokens, for a request with tools.
    `refuses` names request fields (`stream_options.continuous_usage_stats`, …) or `field=value` answered with 400.
    """

    tokens: tuple[str, ...] = ("Hello", ",", " world", "!")
    thinking: tuple[str, ...] = ()
    thinking_field: str = "reasoning_content"
    thinking_logprobs: bool = False  # whether it has log-probabilities too, as vLLM's has
    pieces: tuple[str, ...] = ()
    top: tuple[tuple[float, ...], ...] | None = None
    logprobs: bool = True  # whether log-probabilities are given when asked for
    first_delay: float = 0.0
    token_delay: float = 0.0
    finish: str | None = "stop"
    weight: int = 1  # how many tokens a chunk counts for in usage reports
    prompt_tokens: int = 12
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    usage_fields: str = "{}"  # JSON: fields of the last usage report, in place of its own
    usage: bool = True  # whether usage is reported when asked for
    continuous: bool = True  # whether it is reported as it goes when asked for
    done: bool = True  # whether [DONE] is sent
    refusal: str = ""
    calls: tuple[str, ...] = ()
    call_tokens: int = 0  # of all calls, in usage reports
    continuation: tuple[str, ...] | None = None  # the tokens for a request that asks to continue
    refuses: tuple[str, ...] = ()
    fault: Fault | None = None
    fault_after: int = 0
    unsent: int = 0
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    error: str = "scripted error"


def busy(after: float | None = None, form: Literal["seconds", "ms", "date"] = "seconds", status: int = 429) -> Reply:
    """Return a refusal for load that asks to wait `after` seconds, in one of the forms that servers use."""
    if after is None:
        return Reply(status=status)
    headers = {
        "seconds": ("Retry-After", f"{after:g}"),
        "ms": ("Retry-After-Ms", f"{after * 1000:g}"),
        "date": ("Retry-After", formatdate(time.time() + after, usegmt=True)),
    }
    return Reply(status=status, headers=(headers[form],))
