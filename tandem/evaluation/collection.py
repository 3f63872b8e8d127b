"""Progressive collection: for each problem, the intern's signals and correctness at every level of one insight.

One mentor generation for the insight, cut at every level, and one for the mentor's own answer; one intern answer a
level. Rows go to ``rows.jsonl`` as they end, keyed by (problem, level); running the same command again goes on where
it stopped. `export` makes the table that is committed: ids, signals, labels and counts, no text of anybody's.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from tandem.errors import TandemError, UsageError
from tandem.evaluation.jsonl import JsonlWriter, read_lines
from tandem.grading import Sandbox, answer_of, grade
from tandem.insight import Insight, answer_messages, intern_view, mentor_messages, opening, trim
from tandem.ladder import Ladder, format_ladder
from tandem.ledger import Ledger, Purpose, Role
from tandem.models.base import Model, Request
from tandem.models.call import Call
from tandem.models.logprobs import ESTIMATOR
from tandem.sufficiency.signals import SIGNAL_VERSION, draft_signals
from tandem.types import Message, Problem, Sampling

DRAFT_LENGTHS = (16, 32, 64, 128)
WHOLE = "all"
Row = dict[str, Any]


class Collector:
    """Collects the rows of many problems with one pair of models."""

    def __init__(
        self,
        mentor: Model,
        intern: Model,
        ladder: Ladder,
        out: Path,
        *,
        max_tokens: int = 768,
        sampling: Sampling | None = None,
        top_logprobs: int = 20,
        sandbox: Sandbox | None = None,
    ) -> None:
        """`ladder` ends with `answer` if the mentor's own answers are wanted; `max_tokens` caps every answer.

        Code is judged in the `sandbox`; without one a problem with tests is an error.
        """
        self.sandbox = sandbox
        self.mentor, self.intern, self.ladder = mentor, intern, ladder
        self.sampling = sampling or Sampling()
        self.max_tokens = max_tokens
        self.top_logprobs = top_logprobs
        self.path = out / "rows.jsonl"
        out.mkdir(parents=True, exist_ok=True)
        self._open_manifest(out / "collection.json")
        self._writer = JsonlWriter(self.path)
        self.rows: list[Row] = list(read_lines(self.path))  # a damaged row is collected again

    def _open_manifest(self, path: Path) -> None:
        manifest = {
            "mentor": self.mentor.spec.name,
            "intern": self.intern.spec.name,
            "ladder": format_ladder(self.ladder),
            "max_tokens": self.max_tokens,
            "sampling": self.sampling.model_dump(mode="json"),
            "top_logprobs": self.top_logprobs,
            "signal_version": SIGNAL_VERSION,
            "estimator": ESTIMATOR,
            "logprobs_mode": self.intern.spec.logprobs_mode,
            "insight_mode": self.mentor.spec.insight_mode,
            "draft_lengths": list(DRAFT_LENGTHS),
        }
        if path.exists():
            before = json.loads(path.read_text())
            differing = [k for k in manifest if before.get(k) != manifest[k]]
            if differing:
                raise UsageError(f"{path.parent} was collected with another {', '.join(differing)}; take another --out")
        else:
            path.write_text(json.dumps(manifest, indent=2) + "\n")

    @property
    def done(self) -> set[tuple[str, str]]:
        """The (problem, level) pairs that have a row."""
        return {(row["problem"], row["level"]) for row in self.rows}

    async def collect(
        self,
        problems: Sequence[Problem],
        *,
        concurrency: int = 32,
        max_seconds: float | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> int:
        """Collect what is missing; return how many problems failed. No new problem starts after `max_seconds`."""
        started, failed, ended = time.monotonic(), 0, 0
        gate = asyncio.Semaphore(concurrency)
        done = self.done

        async def one(problem: Problem) -> None:
            nonlocal failed, ended
            async with gate:
                if max_seconds is None or time.monotonic() - started < max_seconds:
                    try:
                        await self._problem(problem, done)
                    except TandemError as error:
                        failed += 1
                        with JsonlWriter(self.path.with_name("errors.jsonl")) as errors:
                            errors.write({"problem": problem.id, "error": str(error)})
            ended += 1
            if progress:
                progress(ended, len(problems))

        await asyncio.gather(*(one(p) for p in problems))
        return failed

    async def _problem(self, problem: Problem, done: set[tuple[str, str]]) -> None:
        missing = [level for level in self.ladder if (problem.id, level.name) not in done]
        jobs: list[Awaitable[None]] = []
        budgets = [level.tokens for level in missing if level.tokens]
        if any(level.is_answer for level in missing):
            jobs.append(self._mentor_answer(problem))
        if any(level.tokens == 0 for level in missing):
            jobs.append(self._intern_answer(problem, "none", "", 0, {}))
        if budgets:
            jobs.append(self._insight_levels(problem, [level for level in missing if level.tokens]))
        await asyncio.gather(*jobs)

    async def _run(self, model: Model, request: Request, read_tokens: int = 0) -> tuple[Call, Row]:
        ledger = Ledger()
        role: Role = "mentor" if model is self.mentor else "intern"
        async with Call(model, request, role, ledger, read_tokens=read_tokens) as call:
            async for _ in call:
                pass
        if not call.finished:
            raise TandemError(f"{model.spec.name} ended its stream without a finish reason")
        usage = ledger.entries[0].usage
        return call, {
            "prompt_tokens": usage.prompt,
            "cached_tokens": usage.cached,
            "completion_tokens": usage.completion,
            "truncated": call.finish_reason == "length",
        }

    def _request(
        self,
        problem: Problem,
        messages: tuple[Message, ...],
        *,
        purpose: Purpose = "answer",
        max_tokens: int | None = None,
        prefix: str | None = None,
        logprobs: bool = False,
    ) -> Request:
        return Request(
            messages=messages,
            purpose=purpose,
            max_tokens=max_tokens or self.max_tokens,
            sampling=self.sampling,
            prefix=prefix,
            top_logprobs=self.top_logprobs if logprobs else None,
            affinity=problem.id,
        )

    async def _mentor_answer(self, problem: Problem) -> None:
        call, counts = await self._run(self.mentor, self._request(problem, answer_messages(problem)))
        await self._keep(problem, "answer", call.text, counts)

    async def _insight_levels(self, problem: Problem, levels: Ladder | list[Any]) -> None:
        mode = self.mentor.spec.insight_mode
        budget = max(level.tokens or 0 for level in levels)
        insight = Insight()
        begun = opening(mode, self.mentor.spec.continuation)
        insight.feed(begun, 0)
        messages = mentor_messages(problem, mode)
        ledger = Ledger()
        request = self._request(problem, messages, purpose="insight", max_tokens=budget, prefix=begun or None)
        async with Call(self.mentor, request, "mentor", ledger) as call:
            async for delta in call:
                insight.feed_exact(delta.text, delta.tokens, self.mentor.cut)
        insight.finished = call.finish_reason == "stop"
        jobs, before = [], 0
        for level in levels:
            text, tokens = insight.cut(level.tokens or 0)
            extra = {
                "mentor_prompt_tokens": ledger.entries[0].usage.prompt,
                "insight_finished": insight.exhausted(level.tokens or 0),
                "same": tokens == before,
            }
            before = tokens
            jobs.append(self._intern_answer(problem, level.name, text, tokens, extra))
        await asyncio.gather(*jobs)

    async def _intern_answer(self, problem: Problem, level: str, insight: str, tokens: int, extra: Row) -> None:
        messages, prefix = intern_view(problem, trim(insight), self.mentor.spec.insight_mode)
        request = self._request(problem, messages, prefix=prefix, logprobs=True)
        call, counts = await self._run(self.intern, request, tokens)
        stats = call.stats
        signals = {str(n): draft_signals(stats[:n], ended=len(stats) <= n) for n in DRAFT_LENGTHS} | {
            WHOLE: draft_signals(stats, ended=True)
        }
        rounded = {n: {k: round(v, 5) for k, v in s.items()} for n, s in signals.items()}
        kept = [[round(value, 4) for value in stat] for stat in stats]  # signals thought of later are made from them
        row = {"insight_tokens": tokens, "insight": insight, "signals": rounded, "stats": kept}
        await self._keep(problem, level, (prefix or "") + call.text, counts | row | extra)

    async def _keep(self, problem: Problem, level: str, text: str, fields: Row) -> None:
        correct = await grade(problem, text, sandbox=self.sandbox)
        if correct is None:
            raise TandemError(f"{problem.id} cannot be judged: it has no reference, or it is code and may not run")
        row: Row = {
            "problem": problem.id,
            "level": level,
            "correct": correct,
            "extracted": answer_of(problem, text) is not None,
            "question_tokens": self.intern.count(problem.question),
            **fields,
            "text": text,
        }
        self._writer.write(row, sync=True)
        self.rows.append(row)


_PRIVATE = ("text", "insight", "stats")  # hold problem text, or answers to it, or are large


def export(rows: Iterable[Row], path: Path) -> int:
    """Write the table that may be committed (gzipped JSON lines, sorted, without texts); return its row count."""
    public = [{k: v for k, v in row.items() if k not in _PRIVATE} for row in rows]
    public.sort(key=lambda row: (row["problem"], row["level"]))
    body = "".join(json.dumps(row, sort_keys=True, separators=(",", ":")) + "\n" for row in public)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(body.encode(), mtime=0))
    return len(public)
