"""A server that fails a share of all requests in every way there is."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from stub.reply import Reply, busy

FAULTS: dict[str, Callable[[random.Random, Reply], Reply]] = {
    "429": lambda _, __: busy(),
    "429 with a time": lambda draw, _: busy(0.005, draw.choice(("seconds", "ms"))),
    "429 with a date": lambda _, __: busy(0.0, "date"),
    "500": lambda _, __: busy(status=500),
    "502": lambda _, __: busy(status=502),
    "503": lambda _, __: busy(0.005, "ms", status=503),
    "reset at once": lambda draw, r: replace(r, fault="reset", unsent=_unsent(draw, r, 0)),
    "stall at once": lambda draw, r: replace(r, fault="stall", unsent=_unsent(draw, r, 0)),
    "empty": lambda _, r: replace(r, tokens=(), finish=None),
    "reset": lambda draw, r: _strike(draw, r, fault="reset"),
    "cut": lambda draw, r: _strike(draw, r, fault="cut"),
    "stall": lambda draw, r: _strike(draw, r, fault="stall"),
    "half JSON": lambda draw, r: _strike(draw, r, fault="half-json"),
    "error event": lambda draw, r: _strike(draw, r, fault="error-event"),
    "comments": lambda draw, r: _strike(draw, r, fault="comments"),
    "refusal": lambda _, r: replace(r, finish="content_filter"),
    "overflow": lambda _, __: Reply(status=400, error="This model's maximum context length is 2048 tokens"),
}
LASTING = {"refusal", "overflow"}  # no other try is of use


class Chaos:
    """A `respond` for `Stub`. A question has one answer, and its n-th request one fate, drawn by `seed`: the same in
    every run, whatever comes first. `continued` is what the server does with a partial answer: go on with it.
    """

    def __init__(self, share: float = 0.3, *, seed: int = 0, continuous: bool = True) -> None:
        self.share = share
        self.seed = seed
        self.continuous = continuous
        self.fates: dict[str, list[str]] = {}

    @property
    def struck(self) -> Counter[str]:
        """How often each fault struck."""
        return Counter(fate for fates in self.fates.values() for fate in fates if fate)

    def answer(self, question: str) -> tuple[str, ...]:
        """Return the tokens of a question's answer."""
        draw = random.Random(f"{self.seed} {question}")
        return tuple(f" {draw.choice('abcdefgh')}{i}" for i in range(draw.randint(8, 40)))

    def __call__(self, body: dict[str, Any]) -> Reply:
        """Answer one request."""
        messages = body["messages"]
        question = messages[0]["content"]
        fates = self.fates.setdefault(question, [])
        draw = random.Random(f"{self.seed} {question} {len(fates)}")
        tokens = self.answer(question)
        if body.get("continue_final_message"):
            begun = len(messages[-1]["content"])
            sizes = [len("".join(tokens[:i])) for i in range(len(tokens) + 1)]
            tokens = tokens[sizes.index(begun) :]
        reply = Reply(
            tokens=tokens,
            prompt_tokens=len(json.dumps(messages)) // 3,
            cached_tokens=draw.randint(0, 5),
            continuous=self.continuous,
        )
        fates.append(draw.choice(list(FAULTS)) if draw.random() < self.share else "")
        return FAULTS[fates[-1]](draw, reply) if fates[-1] else reply


def _strike(draw: random.Random, reply: Reply, **fault: Any) -> Reply:
    after = draw.randint(0, max(len(reply.tokens) - 1, 0))
    return replace(reply, fault_after=after, unsent=_unsent(draw, reply, after), **fault)


def _unsent(draw: random.Random, reply: Reply, sent: int) -> int:
    return draw.randint(0, len(reply.tokens) - sent)
