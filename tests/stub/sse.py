"""The bytes of an answer: whole, or as server-sent events with one token each."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from stub.reply import Reply


@dataclass(frozen=True)
class Ids:
    """The token ids of a prompt and of its answer's tokens, the thinking first."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]


def frame(text: str) -> bytes:
    """Return one HTTP chunk."""
    data = text.encode()
    return b"%x\r\n%b\r\n" % (len(data), data)


def completion(reply: Reply) -> int:
    """Return the completion tokens of a whole streamed answer, hidden reasoning included."""
    return (len(reply.thinking) + len(reply.tokens)) * reply.weight + reply.call_tokens + reply.reasoning_tokens


def _logprobs(reply: Reply, index: int, wanted: int) -> dict[str, Any]:
    top = reply.top[index] if reply.top else tuple(-0.1 - 1.3 * rank for rank in range(20))
    token = reply.tokens[index]
    tops = [
        {"token": token if r == 0 else f"other{r}", "logprob": v, "bytes": None} for r, v in enumerate(top[:wanted])
    ]
    return {"content": [{"token": token, "logprob": top[0], "bytes": None, "top_logprobs": tops}]}


def _named_by_id(entry: dict[str, Any], token: int) -> dict[str, Any]:
    """Return a token's log-probabilities as a completion has them: by name, and the drawn one beside the likeliest."""
    tops = {f"token_id:{rank}": top["logprob"] for rank, top in enumerate(entry["top_logprobs"], start=100_000)}
    return {
        "tokens": [f"token_id:{token}"],
        "token_logprobs": [entry["logprob"]],
        "top_logprobs": [tops | {f"token_id:{token}": min(entry["logprob"], *tops.values())}],
    }


def _usage(reply: Reply, written: int, *, last: bool) -> dict[str, Any]:
    usage: dict[str, Any] = {
        "prompt_tokens": reply.prompt_tokens,
        "completion_tokens": written,
        "total_tokens": reply.prompt_tokens + written,
    }
    if last:
        usage["prompt_tokens_details"] = {"cached_tokens": reply.cached_tokens}
        usage["completion_tokens_details"] = {"reasoning_tokens": reply.reasoning_tokens}
        usage |= json.loads(reply.usage_fields)
    return usage


def whole_text(reply: Reply, ids: Ids) -> dict[str, Any]:
    """Return a completion that is not streamed."""
    choice = {"index": 0, "text": "".join(reply.tokens), "finish_reason": reply.finish, "token_ids": list(ids.answer)}
    return {"object": "text_completion", "choices": [choice], "usage": _usage(reply, len(reply.tokens), last=True)}


def whole(reply: Reply, model: str, wanted: int | None) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": "".join(reply.tokens), "refusal": reply.refusal or None}
    if reply.thinking:
        message[reply.thinking_field] = "".join(reply.thinking)
    entries = [_logprobs(reply, i, wanted)["content"][0] for i in range(len(reply.tokens))] if wanted else []
    logprobs = {"content": entries} if wanted else None
    choice = {"index": 0, "message": message, "finish_reason": reply.finish, "logprobs": logprobs}
    usage = _usage(reply, len(reply.tokens) + reply.reasoning_tokens, last=True)
    return {
        "id": "stub",
        "object": "chat.completion",
        "created": 0,
        "model": model,
        "choices": [choice],
        "usage": usage,
    }


@lru_cache(maxsize=256)
def frames(
    reply: Reply,
    model: str,
    wanted: int | None,
    usage: str,
    ids: Ids | None = None,
    *,
    chat: bool = True,
    calls: tuple[str, ...] = (),
) -> tuple[tuple[bytes, ...], bytes]:
    """Return the HTTP chunks of a stream, one per token, and what ends it; built once for equal requests."""

    def event(
        delta: dict[str, Any], count: int, finish: str | None = None, logprobs: Any = None, at: int | None = None
    ) -> str:
        choice: dict[str, Any] = {"index": 0, "logprobs": logprobs, "finish_reason": finish}
        choice |= {"delta": delta} if chat else {"text": delta.get("content", "")}
        chunk = {"id": "stub", "object": "chat.completion.chunk", "created": 0, "model": model, "choices": [choice]}
        if ids and at is not None:
            choice["token_ids"] = [ids.answer[at]]
        if ids and "role" in delta:
            (chunk if chat else choice)["prompt_token_ids"] = list(ids.prompt)
        if usage == "all":
            chunk["usage"] = _usage(reply, count, last=False)
        return f"data: {json.dumps(chunk)}\n\n"

    events = [
        event(
            {reply.thinking_field: text},
            (i + 1) * reply.weight,
            logprobs=_logprobs(replace(reply, tokens=reply.thinking), i, wanted)
            if wanted and reply.thinking_logprobs
            else None,
            at=i,
        )
        for i, text in enumerate(reply.thinking)
    ]
    for index, text in enumerate(reply.tokens):
        logprobs = _logprobs(reply, index, wanted) if wanted else None
        if logprobs and ids and not chat:
            logprobs = _named_by_id(logprobs["content"][0], ids.answer[index])
        at = len(reply.thinking) + index
        events.append(event({"content": text}, (at + 1) * reply.weight, logprobs=logprobs, at=at))
    role = event({"role": "assistant", "content": ""}, 0)
    frames = [frame(e) for e in events]
    total = completion(reply)
    last = "".join(event({"tool_calls": json.loads(call)}, total) for call in calls)
    if reply.refusal:
        last += event({"refusal": reply.refusal}, total)
    if reply.finish:
        last += event({}, total, finish=reply.finish)
    if usage:
        report = {
            "id": "stub",
            "object": "chat.completion.chunk",
            "choices": [],
            "usage": _usage(reply, total, last=True),
        }
        last += f"data: {json.dumps(report)}\n\n"
    if reply.done:
        last += "data: [DONE]\n\n"
    if frames:
        frames[0] = frame(role) + frames[0]
    else:
        last = role + last if reply.finish else last
    return tuple(frames), (frame(last) if last else b"") + b"0\r\n\r\n"
