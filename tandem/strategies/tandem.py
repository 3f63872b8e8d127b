"""The method: the mentor writes insights level by level until the intern's own uncertainty shows that they suffice.

arXiv 2604.23623. We depart from it in that the draft is the head of the stream that becomes the answer, the mentor
writes once per problem, and the policy also gives up where no later level is worth its cost.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from tandem.config import Settings
from tandem.errors import TandemError
from tandem.insight import trim
from tandem.ladder import Effort, Ladder
from tandem.models.call import Call
from tandem.spec import ModelSpec
from tandem.strategies.base import PlannedCall, Strategy, climb_calls
from tandem.strategies.context import Context, need_logprobs, stream_answer, tools_with_notes
from tandem.strategies.insight_source import InsightSource
from tandem.strategies.learned import check_stats, question_features
from tandem.sufficiency.policy import Policy
from tandem.sufficiency.signals import classifier_inputs, draft_signals
from tandem.tools import OPENS_CALL
from tandem.types import AnswerDelta, Decision, Event


class TandemStrategy(Strategy):
    """The mentor's insight grows level by level, until a draft of the intern's shows that it suffices."""

    needs_classifier = True

    def calls(self, ladder: Ladder, settings: Settings, draft_tokens: int | None) -> list[PlannedCall]:
        return climb_calls(ladder, settings, draft_tokens)

    def without_tools(self, mentor: ModelSpec) -> str | None:
        return tools_with_notes(mentor)

    async def run(self, ctx: Context) -> AsyncGenerator[Event, None]:
        need_logprobs(ctx.intern, ctx.strategy)
        if ctx.policy is None:
            raise TandemError(f"strategy '{ctx.strategy}' needs a classifier")
        ladder = ctx.ladder
        if ladder[0].is_question:
            signals = classifier_inputs({}, question_features(ctx), alone=True)
            decision = ctx.policy.decide(ladder[0], signals, 0, ladder[1:])
            yield ctx.record(decision)
            if decision.action != "go_on":
                stops = decision.action == "stop"
                level = ladder[0] if stops else ladder[-1]
                async for event in stream_answer("intern" if stops else "mentor", ctx, level.name):
                    yield event
                return
            ladder = ladder[1:]
        async with aclosing(InsightSource.open(ctx, ladder)) as source:
            async for event in self._climb(ctx, ladder, ctx.policy, source):
                yield event

    async def _climb(
        self, ctx: Context, ladder: Ladder, policy: Policy, source: InsightSource
    ) -> AsyncGenerator[Event, None]:
        seen = -1  # mentor tokens under the last draft
        for position, level in enumerate(ladder):
            if level.is_answer:
                break
            async for insight_delta in source.extend(level):
                yield insight_delta
            if source.begins_answer and source.exhausted(level) and ctx.ladder[-1].is_answer:
                break  # the mentor's answer is complete
            text, tokens = source.cut(level)
            exhausted = source.exhausted(level)  # then only the mentor's answer still adds something
            later = tuple(further for further in ladder[position + 1 :] if further.is_answer or not exhausted)
            if tokens == seen and later:  # `same_as` the level before
                continue
            seen = tokens
            insight = trim(text)
            alone = ctx.draft_tokens if _drafts_alone(ctx) else None
            async with ctx.call(
                "intern", "answer", insight=insight, logprobs=True, read_tokens=tokens, max_tokens=alone
            ) as call:
                decision = ctx.record(await self._judge(call, ctx, policy, level, tokens, later))
                yield decision
                if decision.action == "stop":
                    await source.aclose()
                    async for event in _go_on(ctx, call, level, insight):
                        yield event
                    return
                await call.close("probe")
            if decision.action == "answer":
                break
        async for event in _mentor_answers(ctx, source):
            yield event

    async def _judge(
        self, call: Call, ctx: Context, policy: Policy, level: Effort, tokens: int, later: Ladder
    ) -> Decision:
        wanted = ctx.draft_tokens
        async for _ in call:
            if wanted is not None and call.tokens >= wanted:
                break
        stats = call.stats if wanted is None else call.stats[:wanted]
        if not stats and ctx.problem.tools and OPENS_CALL in call.text:
            # Some servers give no log-probabilities of a call: then the whole insight, and the intern's call.
            climbs = any(further.is_drafted for further in later)
            reason = "a call without log-probabilities"
            return Decision(level.name, "go_on" if climbs else "stop", reason=reason, insight_tokens=tokens)
        check_stats(call)
        cut = call.finish_reason == "length" and call.request.max_tokens == wanted  # the draft's end, not the answer's
        ended = call.finish_reason is not None and not cut and len(stats) == call.tokens
        signals = classifier_inputs(draft_signals(stats, ended=ended), question_features(ctx))
        return policy.decide(level, signals, tokens, later)


def _drafts_alone(ctx: Context) -> bool:
    """Whether the draft is a request of its own, so that the rest is written without log-probabilities.

    That pays where the rest is a long thought, and where the server goes on from token ids; a comparison, which shares
    calls, has log-probabilities of all.
    """
    spec, draft = ctx.intern.spec, ctx.draft_tokens
    able = spec.thinks and spec.token_ids and not ctx.settings.intern_logprobs and ctx.problem.tools is None
    return able and draft is not None and draft < ctx.max_tokens("intern")


async def _go_on(ctx: Context, draft: Call, level: Effort, insight: str) -> AsyncGenerator[Event, None]:
    """Write the answer behind its draft to the end, and yield all of it and the solution."""
    yield AnswerDelta(draft.text)
    async for delta in draft:
        if delta.text:
            yield AnswerDelta(delta.text)
    await draft.close()
    last, asked = draft.require_end(), draft.request
    if draft.finish_reason == "length" and _drafts_alone(ctx) and asked.max_tokens == ctx.draft_tokens:
        begun = asked.prefix if isinstance(asked.prefix, str) else ""
        room = ctx.max_tokens("intern") - draft.tokens
        # The insight in its prompt was charged to the draft.
        async with ctx.call("intern", "answer", asked.messages, prefix=begun + draft.text, max_tokens=room) as last:
            async for delta in last:
                if delta.text:
                    yield AnswerDelta(delta.text)
    yield ctx.conclude(last.require_end(), level=level.name, insight=insight)


async def _mentor_answers(ctx: Context, source: InsightSource) -> AsyncGenerator[Event, None]:
    """Let the mentor continue the answer that it began, or give its own."""
    level = ctx.ladder[-1]
    if source.begins_answer:
        rest = source.answer(level)
    else:
        await source.aclose()
        rest = stream_answer("mentor", ctx, level.name)
    async for event in rest:
        yield event
