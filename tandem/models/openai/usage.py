"""What a call used, by the reports of servers: each has its own names, and its own idea of what a prompt includes."""

from __future__ import annotations

import math
from typing import Any

from tandem.ledger import Usage

# Within `prompt_tokens_details` or beside it: OpenAI, OpenRouter, vLLM, SGLang, Google; DeepSeek; Anthropic; Moonshot.
_CACHED = ("cached_tokens", "prompt_cache_hit_tokens", "cache_read_input_tokens", "cache_read_tokens")
# OpenAI and OpenRouter; LiteLLM; Anthropic.
_WRITTEN = ("cache_write_tokens", "cache_creation_tokens", "cache_creation_input_tokens", "cache_write_input_tokens")


def reported_usage(usage: dict[str, Any]) -> Usage:
    """Return the ledger's usage of a server's report; what a server counts beside its prompt or answer is added to it.

    Reasoning apart from the completion shows in the total; cache reads and writes apart from the prompt, as Anthropic
    reports them, in the total or by the name `input_tokens`. A number may be a string; what is none counts as absent.
    """
    read, answered = _part(usage, "prompt_tokens_details"), _part(usage, "completion_tokens_details")
    read = read or _part(usage, "input_tokens_details")
    answered = answered or _part(usage, "output_tokens_details")
    prompt = token_count(usage, "prompt_tokens", "input_tokens")
    completion = token_count(usage, "completion_tokens", "output_tokens")
    reasoning = token_count(answered, "reasoning_tokens") or token_count(usage, "reasoning_tokens")
    total = token_count(usage, "total_tokens")
    cached = token_count(read, *_CACHED) or token_count(usage, *_CACHED)
    written = token_count(read, *_WRITTEN) or token_count(usage, *_WRITTEN)
    if not prompt and "prompt_cache_miss_tokens" in usage:
        prompt = cached + max(token_count(usage, "prompt_cache_miss_tokens"), written)
    elif cached + written > prompt or _apart(usage, read, prompt, completion, reasoning, cached + written):
        prompt += cached + written
    return Usage(
        prompt=prompt,
        cached=cached,
        cache_write=written,
        completion=max(completion, total - prompt),
        reasoning=reasoning,
        source="reported",
    )


def token_count(usage: dict[str, Any], *names: str) -> int:
    """Return the first of these numbers that is reported and not 0; 0 where there is none."""
    for name in names:
        value = usage.get(name)
        if isinstance(value, str):
            try:
                value = float(value)
            except ValueError:
                continue
        if isinstance(value, int | float) and not isinstance(value, bool) and 1 <= value < math.inf:
            return int(value)
    return 0


def _part(usage: dict[str, Any], name: str) -> dict[str, Any]:
    part = usage.get(name)
    return part if isinstance(part, dict) else {}


def _apart(
    usage: dict[str, Any], details: dict[str, Any], prompt: int, completion: int, reasoning: int, cache: int
) -> bool:
    """Whether the prompt is reported without what was read from the cache or written to it."""
    if not cache or token_count(details, *_CACHED, *_WRITTEN):
        return False  # details are parts of the prompt
    if "cache_read_input_tokens" not in usage and "cache_creation_input_tokens" not in usage:
        return False
    total = token_count(usage, "total_tokens")
    if total in (prompt + completion, prompt + completion + reasoning):
        return False
    return "prompt_tokens" not in usage or total >= prompt + completion + cache
