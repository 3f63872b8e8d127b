"""BEST-Route: the intern with n samples, n = 1 to 5, or the mentor, by what a router makes of the question.

BEST-Route (arXiv 2506.22716): for each number of samples the router predicts the probability that their best is no
worse than the mentor's answer (the match); the cheapest that passes a threshold is taken, else the mentor. We depart
from it: linear heads on named features of the question instead of DeBERTa; right and wrong instead of a reward model's
score, so that a match is a right answer or one that the mentor has wrong too; one small model instead of several. The
best of n is chosen by best_of.py; code runs only where the run has a sandbox for it. One sample is the intern's own
greedy answer, the same request as intern-only's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import ClassVar

from tandem.config import Settings
from tandem.grading.trial import Trial, try_examples
from tandem.ladder import ANSWER, Ladder
from tandem.models.base import Model
from tandem.models.call import Call
from tandem.spec import Sampling
from tandem.strategies.base import PlannedCall, whole_answer
from tandem.strategies.best_of import Sample, best_of, is_closed
from tandem.strategies.context import Context, need_logprobs, stream_answer
from tandem.strategies.learned import LearnedStrategy, question_features
from tandem.types import AnswerDelta, Decision, Event

MOST = 5  # samples
TEMPERATURE, TOP_P = 0.7, 0.95


class BestRoute(LearnedStrategy):
    """``best-route[:PATH][:THRESHOLD]``: the cheapest number of the intern's samples that passes, else the mentor.

    Heads of a predictor, for each n that its table has samples for: `match-n`, the probability that the best of n is
    right or the mentor wrong; `right-n`, that it is right (for the trace alone). Its setting ``most`` is the largest n
    that is cheaper than the mentor. Samples that are not chosen are whole answers, booked as `probe`.
    """

    name: ClassVar[str] = "best-route"
    heads: ClassVar[tuple[str, ...]] = ("match-1", "right-1")

    @property
    def most(self) -> int:
        wanted, known, n = self.predictor.settings.get("most", 1), self.predictor.heads.keys(), 1
        while n < min(wanted, MOST) and {f"match-{n + 1}", f"right-{n + 1}"} <= known:
            n += 1
        return n

    def check(self, mentor: Model, intern: Model) -> None:
        if self.most > 1:
            need_logprobs(intern, self.name)

    def calls(self, ladder: Ladder, settings: Settings, draft_tokens: int | None) -> list[PlannedCall]:
        """Return both, the mentor's answer and the most samples: which is more expensive depends on the prices."""
        n, cap = self.most, settings.intern_max_tokens
        samples = [PlannedCall("intern", "answer" if k == 0 else "probe", _level(n), cap) for k in range(n)]
        return [whole_answer("mentor", settings), *samples]

    async def run(self, ctx: Context) -> AsyncGenerator[Event, None]:
        n, decision = self._route(ctx)
        yield ctx.record(decision)
        if n < 2:
            async with aclosing(stream_answer("intern" if n else "mentor", ctx, _level(n))) as alone:
                async for event in alone:
                    yield event
            return
        # Sample k is the same request whatever n is.
        base = ctx.sampling("intern")
        calls = [ctx.call("intern", "answer", logprobs=True, sampling=sampled(base, k)) for k in range(n)]
        try:
            async with asyncio.TaskGroup() as group:
                for call in calls:
                    group.create_task(_read(call))
            trial = await _tried(ctx, calls)
        except BaseException as error:  # one failed, or the whole was cancelled
            for call in calls:
                await call.close("probe")
            raise (error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error) from None
        samples = [Sample(c.text, sum(s.logprob for s in c.stats) / len(c.stats) if c.stats else 0.0) for c in calls]
        at, reason = best_of(ctx.problem, samples, trial)
        best = calls[at]
        for call in calls:
            await call.close("answer" if call is best else "probe")
        yield ctx.record(Decision(_level(n), "stop", reason=reason))
        yield AnswerDelta(best.text)
        yield ctx.conclude(best, level=_level(n))

    def _route(self, ctx: Context) -> tuple[int, Decision]:
        """Return the number of samples (0: the mentor answers), and why."""
        features, threshold, match = question_features(ctx), self.threshold, 0.0
        for n in range(1, self.most + 1):
            match = self.predict(f"match-{n}", features)
            if match >= threshold:
                break
        else:
            n = 0
        return n, Decision(
            _level(n),
            "stop" if n else "answer",
            self.predict(f"right-{n}", features) if n else None,
            calibrated=self.calibrated,
            reason=f"{_samples(n)} passes" if n else f"up to {_samples(self.most)} does not pass",
            signals={"match": match, "match_from": threshold},
        )


async def _tried(ctx: Context, calls: Sequence[Call]) -> Trial | None:
    """Return which of the prompt's examples each sample passes, where the samples are code; None where they are not."""
    if ctx.problem.task != "code" or is_closed(ctx.problem):
        return None
    return await try_examples(ctx.problem, [call.text for call in calls], ctx.sandbox)


def sampled(base: Sampling, number: int) -> Sampling:
    """Return how one sample is drawn: warm, with a seed of its own made of the run's (0 if it has none).

    The run's own temperature and top-p are kept where they are not the greedy ones.
    """
    temperature, top_p = base.temperature or TEMPERATURE, base.top_p if base.top_p < 1 else TOP_P
    seed = ((base.seed or 0) * _SEEDS + number) % 2**31
    return base.model_copy(update={"temperature": temperature, "top_p": top_p, "seed": seed})


async def _read(call: Call) -> None:
    try:
        await call.read_to_end()
    except BaseException as error:
        await call.close("probe", error)
        raise


def _level(n: int) -> str:
    return ANSWER if n == 0 else "none" if n == 1 else f"best-of-{n}"


def _samples(n: int) -> str:
    return "one answer of the intern's" if n == 1 else f"the best of {n} of the intern's"


_SEEDS = 1000  # between two seeds of runs, so that none of their samples are the same
