"""Shepherding: the mentor writes a hint, the first n tokens of its own answer, and the intern continues it.

LLM Shepherding, "Pay for Hints, Not Answers" (arXiv 2601.22132). Two stages decide: is a hint needed, and if so, of how
many tokens. `proactive` decides by the question alone (routing is the case of no tokens or all), `reactive` by the
intern's own answer too (cascading is that case). `oracle` is the upper bound of both and no method (hint_oracle.py).

We depart from it: linear heads on named features (of the question; of the answer's log-probabilities too, where it is
reactive) instead of a text encoder, and each stage fitted by itself instead of with a joint loss. The hint is the
beginning of the intern's answer, not a part of its question. A hint in which the mentor came to its end is the answer.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import ClassVar, Literal, Self, cast, get_args

from tandem.config import Settings
from tandem.errors import CapabilityError, UsageError, nearest
from tandem.ladder import ANSWER, Effort, Ladder
from tandem.models.base import Model
from tandem.models.call import Call
from tandem.spec import Continuation
from tandem.strategies.base import PlannedCall, climb_calls, whole_answer
from tandem.strategies.context import Context, need_logprobs, stream_answer
from tandem.strategies.hint_oracle import HINT, SHARES, by_oracle
from tandem.strategies.learned import LearnedStrategy, answer_features, question_features
from tandem.types import Action, AnswerDelta, Decision, Event, InsightDelta

Variant = Literal["proactive", "reactive", "oracle"]
STAGES = ("needs", "size", "right")


class Shepherding(LearnedStrategy):
    """``shepherding[:VARIANT][,PATH][:THRESHOLD]``: no hint, a hint of n tokens, or (n is all) the mentor's answer.

    Heads of a predictor, for each of the two methods: `needs`, how much a hint is called for (a weighted fit, so it is
    no frequency); `size`, log(1 + tokens) of the hint; `right`, the probability that the intern's own answer is right
    (for the trace alone). ``threshold`` and ``threshold-reactive`` are bounds on `needs`.
    """

    name: ClassVar[str] = "shepherding"
    heads: ClassVar[tuple[str, ...]] = tuple(f"{v}-{s}" for v in ("proactive", "reactive") for s in STAGES)

    def __init__(self, where: str = "", threshold: float | None = None, variant: Variant = "proactive") -> None:
        super().__init__(where, threshold)
        self.variant: Variant = variant

    @classmethod
    def of(cls, argument: str | None, budgets: Mapping[str, int]) -> Self:
        """Return the strategy for ``VARIANT``, ``VARIANT,PATH``, or what every learned strategy takes (proactive).

        Raises UsageError for an unknown variant, and for a predictor or threshold of `oracle`, which has none.
        """
        variant, comma, rest = (argument or "").partition(",")
        if variant not in get_args(Variant):
            if argument and variant.isalpha() and not Path(argument).exists():
                raise nearest("variant of shepherding", variant, get_args(Variant))
            return super().of(argument, budgets)
        if variant == "oracle" and comma:
            raise UsageError(f"shepherding:oracle takes nothing more, not '{rest}': it has no predictor")
        made = super().of(rest if comma else None, budgets)
        made.variant = cast(Variant, variant)
        return made

    def bind(self, mentor: str, intern: str) -> str:
        return "shepherding:oracle" if self.variant == "oracle" else super().bind(mentor, intern)

    def saw(self, problem_id: str) -> bool:
        return self.variant != "oracle" and super().saw(problem_id)

    def check(self, mentor: Model, intern: Model) -> None:
        if intern.spec.continuation is not Continuation.NATIVE:
            raise CapabilityError(
                f"strategy 'shepherding' has the intern go on from the mentor's text, and {intern.spec.name} cannot "
                "continue a given text; take an intern that does, or --strategy fixed:<level>"
            )
        if self.variant == "reactive":
            need_logprobs(intern, "shepherding:reactive")

    @property
    def threshold(self) -> float:
        """The bound on `needs` from which a hint is asked for: the one given, else the one that training chose."""
        if self.variant == "reactive" and self._own_threshold is None:
            return self.predictor.settings["threshold-reactive"]
        return super().threshold

    def calls(self, ladder: Ladder, settings: Settings, draft_tokens: int | None) -> list[PlannedCall]:
        """Return the longest hint and the answer from it; before it, reactive, the intern's own.

        The oracle's are all that it tries, though it charges less.
        """
        cap, most = settings.mentor_max_tokens, settings.intern_max_tokens
        hinted = climb_calls((Effort(name=HINT, tokens=cap),), settings)
        if self.variant == "proactive":
            return hinted
        alone = whole_answer("intern", settings, "probe")
        if self.variant == "reactive":
            return [alone, *hinted]
        tried = [PlannedCall("mentor", "insight", HINT, max(cap * share // 100, 1)) for share in SHARES]
        read = [PlannedCall("intern", "answer", HINT, most, call.max_tokens) for call in tried]
        return [alone, whole_answer("mentor", settings), *tried, *read]

    def run(self, ctx: Context) -> AsyncGenerator[Event, None]:
        if self.variant == "oracle":
            return by_oracle(ctx)
        return self._reactive(ctx) if self.variant == "reactive" else self._proactive(ctx)

    async def _proactive(self, ctx: Context) -> AsyncGenerator[Event, None]:
        tokens, decision = self._decide(ctx, question_features(ctx))
        yield decision
        rest = _hinted(ctx, tokens) if tokens else stream_answer("intern", ctx, "none")
        async with aclosing(rest):
            async for event in rest:
                yield event

    async def _reactive(self, ctx: Context) -> AsyncGenerator[Event, None]:
        async with ctx.call("intern", "answer", logprobs=True) as own:
            features = question_features(ctx) | answer_features(await own.read_to_end())
            tokens, decision = self._decide(ctx, features)
            await own.close("probe" if tokens else "answer")
        yield decision
        if not tokens:
            yield AnswerDelta(own.text)
            yield ctx.conclude(own, level="none")
            return
        async with aclosing(_hinted(ctx, tokens, own)) as rest:
            async for event in rest:
                yield event

    def _decide(self, ctx: Context, features: Mapping[str, float]) -> tuple[int, Decision]:
        """Return how many tokens of hint to ask for (0: none), and the decision."""
        needs, right = (self.predict(f"{self.variant}-{stage}", features) for stage in ("needs", "right"))
        tokens = 0
        if needs >= self.threshold:
            tokens = min(size_of(self.predict(f"{self.variant}-size", features)), ctx.max_tokens("mentor"))
        signals = {"needs_hint": needs, "needs_hint_from": self.threshold}
        reason = f"a hint of {tokens} tokens" if tokens else "no hint is needed"
        action: Action = "go_on" if tokens else "stop"
        decision = Decision("none", action, right, calibrated=self.calibrated, reason=reason, signals=signals)
        return tokens, ctx.record(decision)


def size_of(log: float) -> int:
    """Return the tokens of a hint from a prediction of log(1 + tokens); 0 where that is below half a token."""
    return max(round(math.expm1(min(log, _LARGEST))), 0)


async def _hinted(ctx: Context, tokens: int, own: Call | None = None) -> AsyncGenerator[Event, None]:
    """Get a hint, and have the intern continue it; `own` is the intern's answer without it, booked as the last.

    The hint is asked for as the mentor's answer is, with fewer tokens, so that what ends an answer ends it too.
    """
    at, sampling = len(ctx.ledger.entries) - 1, ctx.sampling("mentor")
    async with ctx.call("mentor", "insight", max_tokens=tokens, sampling=sampling) as hint:
        async for delta in hint:
            if delta.text:
                yield InsightDelta(delta.text, HINT)
        hint.require_end()
        whole = hint.finish_reason != "length" or tokens >= ctx.max_tokens("mentor")
        empty = not hint.text.strip()
        await hint.close("answer" if whole and not empty else "insight")
    if empty:
        yield ctx.record(Decision("none", "stop", reason="the hint is empty", insight_tokens=hint.tokens))
        if own is None:
            async with aclosing(stream_answer("intern", ctx, "none")) as alone:
                async for event in alone:
                    yield event
            return
        # The answer that was discarded for the hint stands after all, and is charged once.
        ctx.ledger.entries[at] = ctx.ledger.entries[at].model_copy(update={"purpose": "answer"})
        yield AnswerDelta(own.text)
        yield ctx.conclude(own, level="none")
        return
    if whole:
        reason = "the hint is the mentor's whole answer"
        yield ctx.record(Decision(ANSWER, "answer", reason=reason, insight_tokens=hint.tokens))
        yield AnswerDelta(hint.text)
        yield ctx.conclude(hint, level=ANSWER)
        return
    yield ctx.record(Decision(HINT, "stop", reason="the intern goes on from the hint", insight_tokens=hint.tokens))
    yield AnswerDelta(hint.text)
    async with ctx.call("intern", "answer", prefix=hint.text, read_tokens=hint.tokens) as call:
        async for delta in call:
            if delta.text:
                yield AnswerDelta(delta.text)
    yield ctx.conclude(call.require_end(), level=HINT, insight=hint.text)


_LARGEST = 20.0  # of log(1 + tokens): what lies behind has no exponential worth taking
