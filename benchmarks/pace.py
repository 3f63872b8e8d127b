"""What the eager pace saves and wastes: seconds to the answer over the thrifty pace, and mentor tokens nobody read.

python benchmarks/pace.py --mentor-endpoint URL --intern-endpoint URL [--mentor NAME] [--intern NAME]
    [--dataset gsm8k] [--concurrency 1,16] [--rounds 5,1] [--effort LADDER] [--json]

Strategy `tandem` solves real problems with the pair's classifier, at temperature 0, on vLLM servers that run already
and have nothing else to do (it waits until they are idle). A round is as many problems as the concurrency; they are
asked together, at one pace and then at the other, which take turns in being first, and neither finds anything of the
other's in a cache. `wasted` are the mentor's tokens beyond the level that was used, as received: what the server wrote
until the abort reached it comes on top. `same` counts decisions, insights and answers that both paces agree in.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from statistics import median
from typing import Any

import httpx
from salted import Salted

from tandem.config import Pace
from tandem.datasets import load_dataset
from tandem.engine import Tandem
from tandem.models.vllm import metrics
from tandem.types import Problem, Solution

PACES: tuple[Pace, ...] = ("eager", "thrifty")


async def idle(urls: list[str], patience: float) -> None:
    """Wait until no server has a request. Raises TimeoutError after `patience` seconds."""
    async with httpx.AsyncClient(timeout=60) as client, asyncio.timeout(patience):
        while True:
            looks = [await metrics.read(client, url) for url in urls]
            if all(look and not look.running and not look.waiting for look in looks):
                return
            await asyncio.sleep(1)


def wasted(solution: Solution) -> int:
    """Return the mentor's tokens beyond the level that was used."""
    return solution.ledger.tokens("mentor", "insight") - solution.trace[-1].insight_tokens


def path_of(solution: Solution) -> list[tuple[str, str]]:
    return [(decision.level, decision.action) for decision in solution.trace]


async def at_one_concurrency(tandems: dict[Pace, Tandem], batches: list[list[Problem]]) -> dict[str, Any]:
    """Solve each batch at both paces; return what they took and wasted."""
    found: dict[Pace, list[Solution]] = {pace: [] for pace in PACES}
    took = dict.fromkeys(PACES, 0.0)
    for number, batch in enumerate(batches):
        for pace in PACES if number % 2 == 0 else reversed(PACES):
            tandem = tandems[pace]
            for model in (tandem.mentor, tandem.intern):
                assert isinstance(model, Salted)
                model.forget()
            began = time.monotonic()
            found[pace] += await asyncio.gather(*map(tandem.asolve, batch))
            took[pace] += time.monotonic() - began
    pairs = list(zip(*(found[pace] for pace in PACES), strict=True))
    result: dict[str, Any] = {"problems": len(pairs)}
    for pace in PACES:
        solutions = found[pace]
        mentor = [entry.usage for s in solutions for entry in s.ledger.select("mentor")]
        written = sum(usage.completion for usage in mentor)
        result[pace] = {
            "median_seconds": round(median(s.seconds for s in solutions), 2),
            "problems_per_minute": round(60 * len(solutions) / took[pace], 2),
            "mentor_tokens_per_problem": round(written / len(solutions), 1),
            "wasted_per_problem": round(sum(map(wasted, solutions)) / len(solutions), 1),
            "wasted_share": round(sum(map(wasted, solutions)) / max(written, 1), 3),
            "mentor_prompt_computed": round(sum(u.prompt - u.cached for u in mentor) / len(solutions), 1),
        }
    seconds = [result[pace]["median_seconds"] for pace in PACES]
    result["eager_over_thrifty"] = round(seconds[0] / seconds[1], 3)
    result["median_of_ratios"] = round(median(eager.seconds / thrifty.seconds for eager, thrifty in pairs), 3)
    result["same_decisions"] = sum(path_of(a) == path_of(b) for a, b in pairs)
    result["same_insights"] = sum(a.insight == b.insight for a, b in pairs)
    result["same_answers"] = sum(a.answer == b.answer for a, b in pairs)
    result["stops"] = {pace: sorted(str(s.level) for s in found[pace]) for pace in PACES}
    result["stops"] = {pace: {at: names.count(at) for at in set(names)} for pace, names in result["stops"].items()}
    return result


async def measure(args: argparse.Namespace) -> dict[str, Any]:
    shape = [(int(c), int(r)) for c, r in zip(args.concurrency.split(","), args.rounds.split(","), strict=True)]
    problems = iter(load_dataset(args.dataset, limit=args.skip + sum(c * r for c, r in shape), seed=0)[args.skip :])
    tandems = {
        pace: Tandem(
            Salted(args.mentor, args.mentor_endpoint, "mentor"),
            Salted(args.intern, args.intern_endpoint, "intern"),
            effort=args.effort,
            pace=pace,
            intern_max_tokens=args.tokens,
            mentor_max_tokens=args.tokens,
        )
        for pace in PACES
    }
    found: dict[str, Any] = {"ladder": tandems["eager"].plan().describe()["ladder"]}
    try:
        await asyncio.gather(*(tandem.prepare() for tandem in tandems.values()))
        await idle([args.mentor_endpoint, args.intern_endpoint], args.patience)
        for concurrency, rounds in shape:
            batches = [[next(problems) for _ in range(concurrency)] for _ in range(rounds)]
            found[str(concurrency)] = await at_one_concurrency(tandems, batches)
            if args.progress:
                print(json.dumps({concurrency: found[str(concurrency)]}), flush=True)
    finally:
        await asyncio.gather(*(tandem.aclose() for tandem in tandems.values()))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mentor", default="qwen2.5-coder-1.5b")
    parser.add_argument("--intern", default="qwen2.5-coder-0.5b")
    parser.add_argument("--mentor-endpoint", required=True)
    parser.add_argument("--intern-endpoint", required=True)
    parser.add_argument("--dataset", default="gsm8k")
    parser.add_argument("--skip", type=int, default=0, help="problems to leave out at the beginning")
    parser.add_argument("--concurrency", default="1,16")
    parser.add_argument("--rounds", default="5,1", help="for each concurrency")
    parser.add_argument("--effort", help="the ladder, if not the classifier's own")
    parser.add_argument("--tokens", type=int, default=512, help="cap on each answer")
    parser.add_argument("--patience", type=float, default=900, help="seconds to wait for idle servers")
    parser.add_argument("--progress", action="store_true", help="print each concurrency's figures as they are there")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    found = asyncio.run(measure(args))
    if args.json:
        print(json.dumps(found))
        return
    print(f"ladder {found.pop('ladder')}")
    for concurrency, one in found.items():
        print(f"{one['problems']} problems, {concurrency} at once; stops {one['stops']}")
        for pace in PACES:
            print(f"{pace:>8}  " + "  ".join(f"{name.replace('_', ' ')} {value}" for name, value in one[pace].items()))
        same = ", ".join(f"{what} {one[f'same_{what}']}" for what in ("decisions", "insights", "answers"))
        print(f"eager takes {one['eager_over_thrifty']} of thrifty's median seconds; the same: {same}")


if __name__ == "__main__":
    main()
