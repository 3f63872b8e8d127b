"""The requests of the soak test, good and bad, and what its clients saw of them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from wire import Answer

HOLD = "without end"  # what a question says that no model answers to its end
REFUSED = "which is refused"  # and one that the mentor begins to answer, and refuses
INTERN = tuple(f" word{number}" for number in range(8))
MENTOR = tuple(f" note{number}" for number in range(8))
GOOD = {  # weights; models, and what is asked in another way
    **{"intern": 28, "mentor": 12, "tandem": 14, "tandem:low": 8, "tandem:none": 8, "fixed:low": 8},
    **{"eager": 4, "two": 4, "text": 8},
}
BAD = {"no such model": 2, "no question": 1, "no key": 1, "poor": 1, "refused": 1}


@dataclass(frozen=True)
class Asked:
    """One request; its client goes away after `leave` seconds, if it does."""

    kind: str
    number: int
    path: str
    body: dict[str, Any]
    leave: float | None

    @property
    def due(self) -> str:
        """The answer."""
        words = MENTOR if self.body["model"] == "mentor" else INTERN
        return "".join(words[: self.body.get("max_tokens")])


def mix(requests: int) -> Iterator[Asked]:
    """Yield the requests, the same ones each time."""
    draw = random.Random(0)
    kinds, weights = zip(*(GOOD | BAD).items(), strict=True)
    for number in range(requests):
        kind = draw.choices(kinds, weights)[0]
        leave = draw.uniform(0.1, 0.8) if kind in GOOD and draw.random() < 0.1 else None
        text = f"case {number}: how many are {'x' * draw.randint(1, 40)} and 7{HOLD if leave else ''}"
        body: dict[str, Any] = {"model": kind if kind in GOOD else "intern", "stream": draw.random() < 0.5}
        path = "/v1/chat/completions"
        if kind == "text":
            path, body = "/v1/completions", body | {"model": draw.choice(["intern", "tandem"]), "prompt": text}
        elif kind != "no question":
            body["messages"] = [{"role": "user", "content": text}]
        if kind == "eager":
            body |= {"model": "tandem", "tandem": {"pace": "eager", "events": True}}
        elif kind == "two":
            body |= {"model": "intern", "n": 2, "temperature": 0.5, "seed": number}
        elif kind == "no such model":
            body["model"] = "nobody"
        elif kind == "refused":
            body |= {"model": "mentor", "messages": [{"role": "user", "content": f"{text}, {REFUSED}"}]}
        if body["stream"]:
            body["stream_options"] = {"include_usage": True}
        if most := draw.choice([None, 3, 16]):
            body["max_tokens"] = most
        yield Asked(kind, number, path, body, leave)


@dataclass
class Told:
    """What clients saw: ends by status, usage by request, and what was wrong with any of it."""

    ends: Counter[str] = field(default_factory=Counter)
    usage: dict[int, dict[str, Any]] = field(default_factory=dict)
    eager: set[int] = field(default_factory=set)  # those whose insight may be broken off in its midst
    wrong: list[str] = field(default_factory=list)

    def note(self, asked: Asked, answer: Answer) -> None:
        """Take up how a request ended, and look at what it says."""
        if answer.status != 200:
            self.ends[str(answer.status)] += 1
            if answer.status != 499:
                self._error(asked, answer.json)
            return
        chunks = answer.events if asked.body["stream"] else [answer.json]
        if "error" in chunks[-1]:
            self.ends["in a stream"] += 1
            self._error(asked, chunks[-1])
            return
        self.ends["200"] += 1
        ended = chunks.pop() if asked.body["stream"] else "[DONE]"
        self.usage[asked.number] = chunks[-1]["usage"]
        if asked.kind == "eager":
            self.eager.add(asked.number)
        said, ends = Counter[int](), dict.fromkeys(range(asked.body.get("n", 1)), "")
        for choice in (choice for chunk in chunks for choice in chunk["choices"]):
            part = choice.get("delta") or choice.get("message") or choice
            ends[choice["index"]] += part.get("content") or part.get("text") or ""
            said[choice["index"]] += choice["finish_reason"] is not None
        if ended != "[DONE]" or set(ends.values()) != {asked.due} or set(said.values()) != {1}:
            self.wrong.append(f"{asked}: {ends}")

    def _error(self, asked: Asked, body: Any) -> None:
        if set(body) != {"error"} or set(body["error"]) != {"message", "type", "param", "code"}:
            self.wrong.append(f"{asked}: {body}")
