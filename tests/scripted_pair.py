"""A pair of models behind one stub server, whose every word follows from the request: two runs must be the same."""

from __future__ import annotations

import hashlib
import json
import math
import random
from pathlib import Path
from typing import Any

from stub import Reply

from tandem.paths import shipped

MENTOR, INTERN = "scripted-mentor", "scripted-intern"
MODELS = [{"id": MENTOR, "object": "model"}, {"id": INTERN, "object": "model"}]
PROBE = "Count from 1 to 20"  # how the question begins that finds out about continuation
_PARTS = ("Goal:", "Planning:", "Retrieval:", "Action:")


def respond(body: dict[str, Any], *, token_delay: float = 0.0) -> Reply:
    """Return the reply to a chat: an insight or an answer, by model and problem; a given beginning is continued."""
    messages = body["messages"]
    question = next(m["content"] for m in messages if m["role"] == "user")
    if question.startswith(PROBE):
        return Reply(tokens=(", 10",), prompt_tokens=20)
    tokens = _insight(question) if body["model"] == MENTOR else _answer(question)
    if messages[-1]["role"] == "assistant":
        tokens = _behind(messages[-1]["content"], tokens)
    prompt = sum(len(m["content"].split()) for m in messages) + 8
    return Reply(tokens=tuple(tokens), top=_tops(question, len(tokens)), prompt_tokens=prompt, token_delay=token_delay)


def write_classifier(folder: Path) -> Path:
    """Write the shipped classifier as this pair's own: its thresholds do not depend on the order of problems."""
    source = next(shipped("classifiers").iterdir())
    folder.mkdir()
    (folder / "classifier.skops").write_bytes((source / "classifier.skops").read_bytes())
    card = json.loads((source / "card.json").read_text()) | {
        "id": "scripted",
        "mentor": MENTOR,
        "intern": INTERN,
        "ladder": "none,low=10,medium=20,high=40",
        "collected_ladder": "none,low=10,medium=20,high=40,answer",
        "draft_tokens": 8,
        **{"models": {}, "points": {}},
    }
    thresholds = {"none": 0.45, "low": 0.4, "medium": 0.35, "high": 0.0}
    card["policy"] = {
        "thresholds": thresholds,
        "price": 0.0,
        "gains": {},
        "stop_shares": dict.fromkeys(thresholds, 0.25),
    }
    (folder / "card.json").write_text(json.dumps(card))
    return folder


def write_problems(path: Path, n: int) -> Path:
    """Write `n` problems."""
    rows = [{"id": f"q{i}", "problem": f"What is {i} plus nothing?", "answer": str(i)} for i in range(n)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def _draw(text: str) -> random.Random:
    return random.Random(hashlib.sha256(text.encode()).digest())


def _insight(question: str) -> list[str]:
    draw = _draw(question)
    words = [f" note{draw.randrange(100)}" for _ in range(draw.randint(20, 50))]
    for place, part in zip((0, 5, 10, 15), _PARTS, strict=True):
        words[place] = part if place == 0 else f"\n{part}"
    return words


def _answer(question: str) -> list[str]:
    draw = _draw(question)
    number = question.partition("What is ")[2].split()[0]
    words = [f" step{draw.randrange(100)}" for _ in range(draw.randint(5, 30))]
    return [*words, " \\boxed{", number if draw.random() < 0.8 else "-1", "}"]


def _behind(written: str, tokens: list[str]) -> list[str]:
    text = ""
    for index, token in enumerate(tokens):
        if len(text) >= len(written):
            return tokens[index:]
        text += token
    return []


def _tops(question: str, n: int) -> tuple[tuple[float, ...], ...]:
    draw = _draw("confidence of " + question)
    p = draw.uniform(0.3, 0.999)
    rest = math.log((1 - p) / 19)
    return ((math.log(p), *[rest] * 19),) * n
