"""What reading the intern's uncertainty costs: intern tokens computed over a clairvoyant, and over the published way.

python benchmarks/probe.py --mentor-endpoint URL --intern-endpoint URL [--mentor NAME] [--intern NAME]
    [--dataset gsm8k] [--limit 40] [--drafts 16,32,64,128,all] [--effort LADDER] [--concurrency 16] [--json]

Strategy `tandem` solves real problems with the pair's shipped classifier, once for each draft length, on vLLM servers
that run already (--enable-prompt-tokens-details). Computed are the prompt tokens that were not in the prefix cache, and
the tokens written. At the same stops:

- `clairvoyant`: knows the level beforehand: one prefill of the last prompt, of which only what it shares with other
  problems is cached, and the answer;
- `published`: one `prompt_logprobs` pass over question and insight at each level visited, which vLLM computes in full,
  then the answer afresh, whose prompt finds the last pass's whole blocks in the cache. Both are tried once here.

Cached tokens are the server's report. A stream that is cut ends before its report, so those of a discarded draft are
counted: whole blocks of what was asked before; `agrees` says for how many whole answers the count is the report.
`blocks` gives the ratio to the clairvoyant as counted with cache blocks of other sizes. The mentor's texts are kept for
the next draft length (or in --cache): the intern reads the same ones each time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from salted import Salted

from tandem.config import SolveOptions
from tandem.datasets import load_dataset
from tandem.engine import Tandem
from tandem.ledger import Entry
from tandem.models.base import Model, Request
from tandem.models.cache import ResponseCache
from tandem.models.recorded import Recorded
from tandem.models.vllm.command import CPU_BLOCK
from tandem.types import Problem, Solution

Tokens = tuple[int, ...]


class Insights(ResponseCache):
    """Keeps what the mentor writes, and nothing else."""

    def find(self, model: Model, request: Request, occurrence: int) -> Recorded | None:
        return super().find(model, request, occurrence) if request.purpose == "insight" else None

    def close(
        self, number: str | None, model: Model, request: Request, occurrence: int, entry: Entry, given: Recorded | None
    ) -> None:
        if request.purpose == "insight":
            super().close(number, model, request, occurrence, entry, given)


@dataclass(frozen=True, slots=True)
class Visit:
    """The intern at one level: its prompt, the cached tokens as reported (None: cut before), and what it wrote."""

    prompt: Tokens
    reported: int | None
    written: int
    discarded: bool


class Server:
    """What is asked of the intern's server beside the solutions."""

    def __init__(self, client: httpx.AsyncClient, url: str, name: str) -> None:
        self._client, self._url, self._name = client, url.removesuffix("/v1"), name
        self._known: dict[Request, Tokens] = {}

    async def tokens(self, request: Request) -> Tokens:
        """Return the prompt that a request becomes."""
        if request not in self._known:
            found = await self._post("/tokenize", messages=_messages(request), add_generation_prompt=True)
            self._known[request] = tuple(found["tokens"])
        return self._known[request]

    async def published(self, request: Request, salt: str) -> tuple[int, int, int]:
        """Return cached tokens: of a pass over a request's prompt, of a second one, and of an answer to it."""
        ask = {"messages": _messages(request), "max_tokens": 1, "temperature": 0.0, "cache_salt": salt}
        found = [await self._post("/v1/chat/completions", **ask, **more) for more in (_PASS, _PASS, {})]
        first, again, answer = ((f["usage"].get("prompt_tokens_details") or {}).get("cached_tokens") for f in found)
        return first or 0, again or 0, answer or 0

    async def _post(self, path: str, **body: Any) -> dict[str, Any]:
        answer = await self._client.post(self._url + path, json={"model": self._name, **body})
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found


_PASS = {"prompt_logprobs": 20}


def _messages(request: Request) -> list[dict[str, str]]:
    return [{"role": m.role, "content": m.content} for m in request.messages]


class Blocks:
    """The prefix cache as vLLM keeps it: whole blocks, found again behind the same beginning."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._seen: set[Tokens] = set()

    def cached(self, prompt: Tokens) -> int:
        """Return how much of a prompt is found; at least its last token is computed. Then it is known."""
        ends = range(self._size, len(prompt) + 1, self._size)
        found = max((n for n in ends if n < len(prompt) and prompt[:n] in self._seen), default=0)
        self._seen.update(prompt[:n] for n in ends)
        return found


@dataclass(slots=True)
class Sums:
    """Intern tokens of several problems."""

    problems: int = 0
    prompts: int = 0  # computed, of all levels visited
    discarded: int = 0
    answers: int = 0
    ideal_prompts: int = 0  # computed by the clairvoyant
    published: int = 0
    unreported: int = 0  # cached, but the ledger does not know it

    def add(self, visits: Sequence[Visit], computed: int, ideal: int, block: int, unreported: int) -> None:
        last = visits[-1]
        whole = sum(len(v.prompt) for v in visits)
        self.unreported += unreported
        self.problems += 1
        self.prompts += computed
        self.discarded += sum(v.written for v in visits if v.discarded)
        self.answers += last.written
        self.ideal_prompts += ideal
        self.published += whole + len(last.prompt) - (len(last.prompt) - 1) // block * block + last.written

    def figures(self) -> dict[str, Any]:
        """Return ratios to the clairvoyant, with its parts, and to the published way."""
        ideal, ours = self.ideal_prompts + self.answers, self.prompts + self.discarded + self.answers
        return {
            "problems": self.problems,
            "tokens_per_problem": round(ours / self.problems, 1),
            "over_clairvoyant": round(ours / ideal, 3),
            "of_it_discarded_drafts": round(self.discarded / ideal, 3),
            "of_it_prompts_read_again": round((self.prompts - self.ideal_prompts) / ideal, 3),
            "over_published": round(ours / self.published, 3),
            "discarded_share": round(self.discarded / ours, 3),
            "cached_but_unreported_share": round(self.unreported / ours, 3),
        }


async def visits_of(solution: Solution, asked: list[Request], server: Server) -> list[Visit]:
    """Return the levels that were visited, by the ledger and what was sent."""
    entries: list[Entry] = solution.ledger.select("intern")
    assert len(entries) == len(asked) and not any(entry.error for entry in entries)
    visits = []
    for entry, request in zip(entries, asked, strict=True):
        prompt, usage = await server.tokens(request), entry.usage
        assert len(prompt) == usage.prompt  # as the server counted it
        reported = usage.cached if usage.source == "reported" else None
        visits.append(Visit(prompt, reported, usage.completion, entry.purpose == "probe"))
    return visits


def summed(all_visits: Iterable[list[Visit]], size: int, *, trust: bool) -> tuple[Sums, dict[int, Sums], Counter[bool]]:
    """Add up with cache blocks of `size`: in all, by levels visited, and how often the count is the report.

    With `trust` the report is taken where there is one.
    """
    total, by_levels, agrees = Sums(), defaultdict[int, Sums](Sums), Counter[bool]()
    cache, clairvoyants = Blocks(size), Blocks(size)
    for visits in all_visits:
        computed = unreported = 0
        for visit in visits:
            cached = cache.cached(visit.prompt)
            if visit.reported is None:
                unreported += cached
            else:
                agrees[cached == visit.reported] += 1
                cached = visit.reported if trust else cached
            computed += len(visit.prompt) - cached
        last = visits[-1].prompt
        ideal = len(last) - clairvoyants.cached(last)
        for sums in (total, by_levels[len(visits)]):
            sums.add(visits, computed, ideal, size, unreported)
    return total, by_levels, agrees


async def solve(
    tandem: Tandem, intern: Salted, problems: list[Problem], options: SolveOptions, args: argparse.Namespace
) -> list[Solution]:
    """Solve all problems from a cold cache."""
    intern.forget()
    found: list[Solution] = []
    insights, room = Insights(Path(args.cache)), asyncio.Semaphore(args.concurrency)

    async def one(problem: Problem) -> None:
        async with room:
            found.append(await tandem.asolve(problem, options=options, recorder=insights))

    await tandem.prepare(options)
    async with asyncio.TaskGroup() as group:
        for problem in problems:
            group.create_task(one(problem))
    return found


async def measure(args: argparse.Namespace) -> dict[str, Any]:
    problems = load_dataset(args.dataset, limit=args.limit, seed=0)
    found: dict[str, Any] = {"dataset": args.dataset, "problems": len(problems), "drafts": {}}
    async with httpx.AsyncClient(timeout=3600) as client:
        for draft in args.drafts.split(","):
            intern = Salted(args.intern, args.intern_endpoint, "intern")
            mentor = Salted(args.mentor, args.mentor_endpoint, "mentor")
            server = Server(client, args.intern_endpoint, args.intern)
            limits = {"intern_max_tokens": args.tokens, "mentor_max_tokens": args.tokens}
            tandem = Tandem(mentor, intern, effort=args.effort, pace="eager", **limits)
            found["default_draft"] = tandem.plan().draft_tokens
            options = SolveOptions(draft_tokens=args.tokens if draft == "all" else int(draft))
            async with tandem:
                solutions = await solve(tandem, intern, problems, options, args)
                asked = [intern.asked[s.problem_id] for s in solutions]
                if "published_cached" not in found:
                    tried = await server.published(max(asked, key=len)[-1], intern.salt + "p")
                    found["published_cached"] = dict(zip(("pass", "second_pass", "answer"), tried, strict=True))
                visits = [await visits_of(s, a, server) for s, a in zip(solutions, asked, strict=True)]
            total, by_levels, agrees = summed(visits, args.block, trust=True)
            sizes = sorted({16, 32, 64, 128, args.block})
            found["ladder"] = tandem.plan().describe()["ladder"]
            found["drafts"][draft] = {
                **total.figures(),
                "classifier": (tandem.plan(options).classifier_match or {})["match"],
                "stops": dict(Counter(str(s.level) for s in solutions)),
                "agrees": f"{agrees[True]} of {agrees.total()}",
                "by_levels_visited": {n: by_levels[n].figures() for n in sorted(by_levels)},
                "blocks": {n: summed(visits, n, trust=False)[0].figures()["over_clairvoyant"] for n in sizes},
            }
            if args.progress:
                print(json.dumps({draft: found["drafts"][draft]}), flush=True)
    return found


def show(found: dict[str, Any]) -> None:
    print(f"{found['problems']} problems of {found['dataset']}, ladder {found['ladder']}; aim over clairvoyant: 1.25")
    print(f"cached tokens at a prompt_logprobs pass, a second one, an answer: {found['published_cached']}")
    head = ("draft", "levels", "problems", "tokens", "clairvoyant", "discarded", "read again", "published", "share")
    print(("{:>12}" * len(head)).format(*head))
    for draft, row in found["drafts"].items():
        name = f"{draft} *" if draft == str(found["default_draft"]) else draft
        for levels, one in [("all", row), *row["by_levels_visited"].items()]:
            cells = [one[key] for key in ("problems", "tokens_per_problem", "over_clairvoyant")]
            cells += [one["of_it_discarded_drafts"], one["of_it_prompts_read_again"]]
            cells += [one["over_published"], one["discarded_share"]]
            print(("{:>12}" * len(head)).format(name, levels, *cells))
    print("* the classifier's own draft length. Over the clairvoyant, as counted, by size of the cache's blocks:")
    for draft, row in found["drafts"].items():
        ratios = "  ".join(f"{size}: {ratio}" for size, ratio in row["blocks"].items())
        print(f"{draft:>12}  {ratios}   stops {row['stops']}; the count is the report for {row['agrees']}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mentor", default="qwen2.5-coder-1.5b")
    parser.add_argument("--intern", default="qwen2.5-coder-0.5b")
    parser.add_argument("--mentor-endpoint", required=True)
    parser.add_argument("--intern-endpoint", required=True)
    parser.add_argument("--dataset", default="gsm8k")
    parser.add_argument("--limit", type=int, default=40)
    parser.add_argument("--drafts", default="16,32,64,128,all", help="draft lengths in tokens; all: the whole answer")
    parser.add_argument("--effort", help="the ladder, if not the classifier's own")
    parser.add_argument("--tokens", type=int, default=512, help="cap on each answer")
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--block", type=int, default=CPU_BLOCK, help="tokens in a block of the intern's prefix cache")
    parser.add_argument("--cache", help="a folder for the mentor's texts (default: one for this run only)")
    parser.add_argument("--progress", action="store_true", help="print each draft length's figures as they are there")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        args.cache = args.cache or folder
        found = asyncio.run(measure(args))
    if args.json:
        print(json.dumps(found))
        return
    show(found)


if __name__ == "__main__":
    main()
