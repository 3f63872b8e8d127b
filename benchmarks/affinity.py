"""What it is worth that the levels of one problem meet the same replica: cache hits and tokens/s over round-robin.

python benchmarks/affinity.py --endpoints URL,URL [--model NAME] [--problems 32] [--concurrency 8] [--rounds 2] [--json]

The endpoints are replicas that run already, with prefix caching and its report (vLLM: --enable-prompt-tokens-details).
A problem is asked four times, as a run that goes up the ladder asks: instructions, question, and an insight that grows
from nothing to about 600 tokens; drafts of 32 tokens with log-probabilities, then an answer of 96. The two ways take
turns, each with problems of its own, so that neither finds what the other left in a cache:

- `affinity`: the pool as it is;
- `round-robin`: each request to the next replica in turn.

`hits` is the share of prompt tokens that the servers took from their caches, by their own report.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import time
from collections.abc import Callable
from typing import Any

from tandem.ledger import Ledger
from tandem.models.base import Request
from tandem.models.call import Call
from tandem.models.vllm.model import PooledModel
from tandem.spec import ModelSpec
from tandem.types import Message

INSTRUCTIONS = (
    "Solve the problem step by step. Use the hints where they help. End with the answer on its own line. " * 6
)
WORDS = ("first", "count", "parts", "every", "machine", "makes", "then", "take", "away", "bad", "ones", "left", "total")
INSIGHTS = (0, 60, 240, 480)  # words
DRAFT, ANSWER = 32, 96  # tokens

Choose = Callable[[], PooledModel]


async def solve(choose: Choose, name: str, ledger: Ledger) -> None:
    """Ask for one problem at each level, one after another."""
    draw = random.Random(name)
    question = f"Problem {name}: a machine makes {draw.randint(100, 999)} parts an hour. How many in 8 hours?"
    insight = draw.choices(WORDS, k=INSIGHTS[-1])
    for level, words in enumerate(INSIGHTS):
        text = f"{INSTRUCTIONS}\n{question}\nHints: {' '.join(insight[:words])}"
        tokens = ANSWER if level == len(INSIGHTS) - 1 else DRAFT
        request = Request((Message(role="user", content=text),), "answer", tokens, top_logprobs=20, affinity=name)
        async with Call(choose(), request, "intern", ledger) as call:
            async for _ in call:
                pass


async def measure(choose: Choose, way: str, args: argparse.Namespace) -> tuple[Ledger, float]:
    """Solve all problems of one round in one way; return what it cost and the seconds."""
    ledger, turns = Ledger(), asyncio.Semaphore(args.concurrency)

    async def one(number: int) -> None:
        async with turns:
            await solve(choose, f"{way} {time.time_ns()} {number}", ledger)

    began = time.monotonic()
    await asyncio.gather(*map(one, range(args.problems)))
    return ledger, time.monotonic() - began


async def compare(args: argparse.Namespace) -> dict[str, Any]:
    """Measure both ways in turn."""
    urls = args.endpoints.split(",")
    spec = ModelSpec(name=args.model)
    pool = PooledModel(spec, urls)
    spec = await pool.probe()
    each = itertools.cycle([PooledModel(spec, [url]) for url in urls])
    ways: dict[str, Choose] = {"affinity": lambda: pool, "round-robin": lambda: next(each)}
    ledgers = {way: Ledger() for way in ways}
    seconds = dict.fromkeys(ways, 0.0)
    for _ in range(args.rounds):
        for way, choose in ways.items():
            ledger, took = await measure(choose, way, args)
            ledgers[way] += ledger
            seconds[way] += took
    for model in {pool, *(next(each) for _ in urls)}:
        await model.aclose()
    found: dict[str, Any] = {}
    for way, ledger in ledgers.items():
        prompt, cached = (sum(getattr(e.usage, name) for e in ledger) for name in ("prompt", "cached"))
        written = ledger.tokens()
        found[way] = {
            "requests": len(ledger.entries),
            "failed": sum(entry.error is not None for entry in ledger),
            "hits": round(cached / prompt, 3),
            "prompt_tokens_computed": prompt - cached,
            "tokens_per_second": round(written / seconds[way], 1),
        }
    found["speed_ratio"] = round(found["affinity"]["tokens_per_second"] / found["round-robin"]["tokens_per_second"], 3)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--endpoints", required=True, help="base URLs, with commas between them")
    parser.add_argument("--model", default="smollm2", help="the name that the endpoints serve it under")
    parser.add_argument("--problems", type=int, default=32)
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    found = asyncio.run(compare(args))
    if args.json:
        print(json.dumps(found))
        return
    for way in ("affinity", "round-robin"):
        print(f"{way:>12}  " + "  ".join(f"{name.replace('_', ' ')} {value}" for name, value in found[way].items()))
    print(f"affinity writes {found['speed_ratio']} times the tokens/s of round-robin")


if __name__ == "__main__":
    main()
