"""An R1-like intern behind a stub: it thinks aloud in every answer, and its server gives log-probabilities."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from stub import Reply, Stub

INTERN = "deepseek-7b"
SERVED = [{"id": INTERN, "object": "model", "max_model_len": 65536}]
WORKED = (" Well", ",", " the", " answer", " is", " \\boxed{", "999", "}", ",", " or", " not", ".", "\n")


def respond(body: dict[str, Any], *, apart: bool = False, closes: bool = True) -> Reply:
    """Return a thought that states a wrong answer, then the right one: the last number of the question.

    `apart`: the server has a reasoning parser. Without `closes` the answer ends within its thought.
    """
    question = next(m["content"] for m in body["messages"] if m["role"] == "user")
    if question.startswith("Count from 1 to 20"):
        return Reply(tokens=(", 10",))
    number = re.findall(r"\d+", question)[-1]
    answer = ("\n", "It", " is", " \\boxed{", number, "}") if closes else ()
    whole = Reply(prompt_tokens=len(question.split()))
    if apart:
        return replace(whole, thinking=WORKED, tokens=answer)
    return replace(whole, tokens=("<think>", *WORKED, *(("</think>", *answer) if closes else ())))


def intern(**how: bool) -> Stub:
    return Stub(respond=lambda body: respond(body, **how), models=SERVED)
