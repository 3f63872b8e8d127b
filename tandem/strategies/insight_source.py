"""Where insight comes from: one mentor generation per problem, at one of two paces.

`eager`: one stream goes on while the intern drafts; what overshoots is in the ledger. `thrifty`: the mentor is asked
level by level and continues its own text. With both the intern sees the insight cut at the level's boundary.

In `prefix` mode the insight is the beginning of the mentor's own answer, so that a problem which is handed over costs
the rest of that answer only.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Literal

from tandem.costs import rates
from tandem.errors import CapabilityError
from tandem.insight import (
    SECTIONS,
    Insight,
    SectionParser,
    answer_messages,
    continue_messages,
    mentor_messages,
    opening,
    split_sections,
)
from tandem.ladder import Effort, Ladder
from tandem.ledger import Purpose
from tandem.models.call import Call
from tandem.spec import Continuation, ModelSpec
from tandem.strategies.context import Context
from tandem.types import AnswerDelta, Event, InsightDelta, count_prompt

OpenPace = Literal["eager", "thrifty"]


class InsightSource:
    """The insight of one problem as it is written. Made by `open`; `aclose` aborts what the mentor still writes."""

    def __init__(self, ctx: Context) -> None:
        self.insight = Insight()
        self.insight.feed(opening(ctx.mentor.spec.insight_mode, ctx.mentor.spec.continuation), 0)
        self._ctx = ctx
        self._parser = SectionParser()
        self._last: Call | None = None  # that wrote at the insight

    @staticmethod
    def open(ctx: Context, ladder: Ladder, pace: OpenPace | None = None) -> InsightSource:
        """Return the source for a pace (None: the settings'); an eager one starts the mentor at once, where it pays.

        A greeting or small talk (`general`) is drafted first: most of it needs no mentor at all.
        """
        budget = max((level.tokens or 0 for level in ladder), default=0)
        if budget and ladder[-1].is_answer and ctx.mentor.spec.insight_mode == "prefix":
            budget = ctx.max_tokens("mentor")  # one stream, from the first word of the insight to the answer's last
        if (pace or _pace(ctx, ladder)) == "eager" and budget:
            return _Eager(ctx, budget, at_once=ctx.problem.task != "general")
        return _Thrifty(ctx)

    def cut(self, level: Effort) -> tuple[str, int]:
        return self.insight.cut(level.tokens or 0)

    def exhausted(self, level: Effort) -> bool:
        return self.insight.exhausted(level.tokens or 0)

    async def extend(self, level: Effort) -> AsyncIterator[InsightDelta]:
        """Have the mentor write up to `level`, and yield the text that this adds, as it arrives."""
        if not level.tokens:
            return
        async for _ in self._extend(level.tokens):
            for section, piece in self._parser.feed(self.insight.read(level.tokens)):
                yield InsightDelta(piece, level.name, section)
        if self.exhausted(level):
            for section, piece in self._parser.close():
                yield InsightDelta(piece, level.name, section)

    @property
    def begins_answer(self) -> bool:
        """Whether what is written so far is the beginning of the mentor's own answer, which it can continue."""
        return self._ctx.mentor.spec.insight_mode == "prefix" and self._last is not None

    async def answer(self, level: Effort) -> AsyncGenerator[Event, None]:
        """Let the mentor write its answer to the end, and yield all of it and the solution; see `begins_answer`."""
        assert self._last is not None
        cap = self._ctx.max_tokens("mentor")
        self._last.purpose = "answer"  # of one that is still open: all of it is what the user gets
        self.insight.read(cap)
        yield AnswerDelta(self.insight.text)
        async for _ in self._extend(cap, "answer"):
            if piece := self.insight.read(cap):
                yield AnswerDelta(piece)
        before = self.insight.text.removesuffix(self._last.text)
        yield self._ctx.conclude(self._last.require_end(), level=level.name, prefix=before)

    def _extend(self, budget: int, purpose: Purpose = "insight") -> AsyncIterator[None]:
        """Wait until the insight has `budget` tokens or its end, yielding whenever it has grown."""
        raise NotImplementedError

    async def aclose(self) -> None:
        """Stop the mentor."""

    def _call(self, max_tokens: int, purpose: Purpose = "insight") -> Call:
        """Open a call that continues what is written so far."""
        prefix = self.insight.text or None
        ctx, mode = self._ctx, self._ctx.mentor.spec.insight_mode
        messages = mentor_messages(self._ctx.problem, mode)
        # What ends an answer does not end an insight, unless that may become the answer.
        sampling = ctx.sampling("mentor") if mode == "prefix" and ctx.ladder[-1].is_answer else None
        self._last = ctx.call("mentor", purpose, messages, max_tokens=max_tokens, prefix=prefix, sampling=sampling)
        return self._last


class _Eager(InsightSource):
    """One stream, read by a task of its own."""

    def __init__(self, ctx: Context, budget: int, *, at_once: bool) -> None:
        super().__init__(ctx)
        self._budget = budget
        self._grown = asyncio.Event()
        self._wanted = 0
        self._more_wanted = asyncio.Event()
        self._error: BaseException | None = None
        self._done = False
        self._task: asyncio.Task[None] | None = None
        if at_once:
            self._start()

    def _start(self) -> None:
        self._task = self._task or asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            async with self._call(self._budget) as call:
                async for delta in call:
                    self.insight.feed_exact(delta.text, delta.tokens, self._ctx.mentor.cut)
                    self._grown.set()
                    # What is recorded costs nothing; what lies behind it is asked for only when it is needed.
                    while call.at_end_of_record and self.insight.tokens >= self._wanted:
                        self._more_wanted.clear()
                        await self._more_wanted.wait()
                self.insight.finished = call.finish_reason == "stop"
        except Exception as error:  # raised where the insight is waited for
            self._error = error
        finally:
            self._done = True
            self._grown.set()

    async def _extend(self, budget: int, purpose: Purpose = "insight") -> AsyncIterator[None]:
        self._start()
        self._wanted = budget
        self._more_wanted.set()
        while True:
            enough = purpose == "insight" and self.insight.tokens >= budget  # an answer has an end, and a reason for it
            if enough or self._done:
                if self._error and not enough:
                    raise self._error
                yield
                return
            self._grown.clear()
            yield
            await self._grown.wait()

    async def aclose(self) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)


class _Thrifty(InsightSource):
    """One call a level; the mentor continues its own text, natively or section by section."""

    async def _extend(self, budget: int, purpose: Purpose = "insight") -> AsyncIterator[None]:
        have = self.insight.tokens
        if self.insight.finished or have >= budget:
            yield
            return
        spec = self._ctx.mentor.spec
        continuation = spec.continuation
        if have and continuation is Continuation.SECTIONS and spec.insight_mode == "gpra":
            async for _ in self._next_sections(budget - have):
                yield
            return
        if have and continuation is not Continuation.NATIVE:
            raise CapabilityError(f"{spec.name} cannot continue its own text; use --pace eager")
        async with self._call(budget - have, purpose) as call:
            async for delta in call:
                self.insight.feed_exact(delta.text, delta.tokens, self._ctx.mentor.cut)
                yield
            self._note_end(call)

    async def _next_sections(self, tokens: int) -> AsyncIterator[None]:
        """Ask for what is missing, giving the text so far; what the mentor repeats of it is trimmed."""
        written = self.insight.text
        messages = continue_messages(self._ctx.problem, written)
        call = self._ctx.call("mentor", "insight", messages, max_tokens=tokens)
        held, clear = "", False
        async with call:
            async for delta in call:
                if clear:
                    self.insight.feed_exact(delta.text, delta.tokens, self._ctx.mentor.cut)
                    yield
                    continue
                held += delta.text
                # Hold back as long as the reply may still be repeating the end of what was given.
                if clear := not _repeats(written, held):
                    fresh = trim_overlap(written, held)
                    self.insight.feed(fresh, self._ctx.mentor.count(fresh))
                    yield
            if not clear and (fresh := trim_overlap(written, held)):
                self.insight.feed(fresh, self._ctx.mentor.count(fresh))
            self._note_end(call)
        yield

    def _note_end(self, call: Call) -> None:
        call.require_end()
        complete = len(split_sections(self.insight.text)) == len(SECTIONS)
        spec = self._ctx.mentor.spec
        natural = spec.continuation is not Continuation.SECTIONS or spec.insight_mode == "prefix" or complete
        self.insight.finished = call.finish_reason == "stop" and (natural or call.tokens == 0)


_WINDOW = 400  # characters of earlier text in which a repetition is looked for


def _repeats(written: str, held: str) -> bool:
    stripped = held.strip()
    return not stripped or (len(stripped) < _WINDOW and stripped in written)


def trim_overlap(written: str, reply: str) -> str:
    """Return `reply` without the longest beginning of it that `written` ends with."""
    for size in range(min(len(written), len(reply), _WINDOW), 0, -1):
        if written.endswith(reply[:size]):
            return reply[size:]
    return reply


def _pace(ctx: Context, ladder: Ladder) -> OpenPace:
    if ctx.settings.pace != "auto":
        return ctx.settings.pace
    prompt = count_prompt(answer_messages(ctx.problem), ctx.problem.tools, ctx.mentor.count)
    shares = ctx.policy.card.stop_shares if ctx.policy else {}
    return choose_pace(ladder, ctx.mentor.spec, prompt, shares)


def choose_pace(ladder: Ladder, mentor: ModelSpec, prompt_tokens: int, stop_shares: dict[str, float]) -> OpenPace:
    """Return the cheaper pace in US$, else in device time (by tokens for a model without prices and speed profile).

    Eager risks the text between the level where one stops and the next; thrifty re-reads prompt and insight once per
    further level. Both are weighed with the shares of problems that stop at each level (even shares if unknown). An
    answer that a `prefix` begins is taken to be twice as long as the highest level.
    """
    budgets = [level.tokens for level in ladder if level.tokens]
    prefix = mentor.insight_mode == "prefix"
    able = (Continuation.NATIVE,) if prefix else (Continuation.NATIVE, Continuation.SECTIONS)
    if mentor.continuation not in able or not budgets:
        return "eager"
    own = rates(mentor, "usd", "mentor") or rates(mentor, "seconds", "mentor")
    read, written = (own.cached, own.written) if own else (1.0, 1.0)
    even = 1 / (len(ladder) or 1)
    reach, overshoot, reread = 1.0, 0.0, 0.0
    for position, level in enumerate(ladder[:-1]):
        stop = reach * min(stop_shares.get(level.name, even), 1.0)
        following = ladder[position + 1]
        later = 2 * max(budgets) if prefix and following.is_answer else following.tokens
        if later:
            overshoot += stop * (later - (level.tokens or 0)) * written
        reach -= stop
        if level.tokens and later:
            reread += reach * (prompt_tokens + level.tokens) * read
    return "thrifty" if reread <= overshoot else "eager"
