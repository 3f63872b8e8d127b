"""A mentor behind a priced API and an intern on a server of one's own, whose every word follows from the request.

The mentor gives no log-probabilities; the intern thinks aloud in `<think>` and gives them. Both report usage as the
vendors do, and each keeps its bill.
"""

from __future__ import annotations

import csv
import hashlib
import math
import random
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripted_pair import PROBE
from stub import Reply, Seen, Stub

MENTOR, INTERN = "gpt-4o", "deepseek-7b"
SERVED = "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B"
PRICES = {"input": 2.5, "cached": 1.25, "output": 10.0}  # US$ per million tokens, as the catalog has them
LADDER = "none,low=12,medium=24,high=36,answer"
_SUM = re.compile(r"Work out (\d+) \+ (\d+) \* (\d+)")
_REFUSED = ("continue_final_message", "add_generation_prompt", "return_token_ids")
_SECTIONS = ("Goal:", "Planning:", "Retrieval:", "Action:")


@dataclass
class World:
    """How good the two are: the intern's share of easy problems, and what a hint of the mentor adds on the others.

    `sure`: how much surer the intern is where it is right. With `delay` seconds a token.
    """

    easy: float = 0.6
    helped: float = 0.3
    mentor: float = 0.97
    sure: float = 0.4
    mentor_tokens: int = 120
    delay: float = 0.0
    bills: dict[int, int] = field(default_factory=dict)

    def respond(self, body: dict[str, Any]) -> Reply:
        """Answer one request of either model."""
        messages = body["messages"]
        text = " ".join(m["content"] for m in messages)
        if PROBE in text:
            alone = body["model"] == MENTOR
            return Reply(
                tokens=(" 1, 2" if alone else ", 10",),
                prompt_tokens=20,
                logprobs=not alone,
                refuses=_REFUSED if alone else (),
            )
        found = _SUM.search(text)
        assert found is not None, text
        draw, (a, b, c) = random.Random(found[0]), map(int, found.groups())
        right = a + b * c
        easy, helped, able = (draw.random() for _ in range(3))
        prompt = sum(len(m["content"].split()) for m in messages) + 8
        if body["model"] == MENTOR:
            notes = any(section in text for section in _SECTIONS) or "Goal" in text
            tokens = self._notes(draw) if notes else self._answer(draw, right if able < self.mentor else -1)
            return Reply(
                tokens=tuple(tokens),
                logprobs=False,
                prompt_tokens=prompt,
                cached_tokens=cached_in(body),
                token_delay=self.delay,
                refuses=_REFUSED,
            )
        hints = text.count("note")
        solved = easy < self.easy or (hints > 0 and helped < self.helped)
        tokens = ["<think>\n", *[f" step{draw.randrange(100)}" for _ in range(draw.randint(5, 15))], "\n</think>\n\n"]
        tokens += [" \\boxed{", str(right if solved else -1), "}"]
        p = 0.5 + self.sure * solved + draw.uniform(0, 0.09)
        rest = math.log((1 - p) / 19)
        top = ((math.log(p), *[rest] * 19),) * len(tokens)
        return Reply(tokens=tuple(tokens), top=top, prompt_tokens=prompt, token_delay=self.delay)

    def _notes(self, draw: random.Random) -> list[str]:
        words = [f" note{draw.randrange(100)}" for _ in range(40)]
        for place, section in zip((0, 10, 20, 30), _SECTIONS, strict=True):
            words[place] = section if place == 0 else f"\n{section}"
        return words

    def _answer(self, draw: random.Random, number: int) -> list[str]:
        words = [f" because{draw.randrange(100)}" for _ in range(self.mentor_tokens)]
        return [*words, " \\boxed{", str(number), "}"]


def cached_in(body: dict[str, Any]) -> int:
    """Return how many of a prompt's tokens the mentor's vendor had in its cache."""
    return hashlib.sha256(str(body["messages"]).encode()).digest()[0] % 5


def bill(seen: Iterable[Seen]) -> float:
    """Return what the mentor's vendor bills for requests, in US$."""
    total = 0.0
    for one in seen:
        cached = cached_in(one.body) if one.billed_prompt else 0
        if PROBE in str(one.body["messages"]):
            cached = 0
        total += (one.billed_prompt - cached) * PRICES["input"] + cached * PRICES["cached"]
        total += one.billed_completion * PRICES["output"]
    return total / 1e6


def vendors(serve: Callable[[Stub], Stub], world: World) -> tuple[Stub, Stub]:
    """Start both endpoints."""
    mentor = Stub(respond=world.respond, models=[{"id": MENTOR, "object": "model"}])
    return serve(mentor), serve(Stub(respond=world.respond, models=[{"id": SERVED, "object": "model"}]))


def write_csv(path: Path, n: int, *, answers: bool = True) -> Path:
    """Write `n` sums, with their results unless they are not wanted."""
    draw = random.Random(11)
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["problem", "answer"] if answers else ["problem"])
        for _ in range(n):
            a, b, c = (draw.randint(2, 9999) for _ in range(3))
            rows.writerow([f"Work out {a} + {b} * {c}.", *([a + b * c] if answers else [])])
    return path
