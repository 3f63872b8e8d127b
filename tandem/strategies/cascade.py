"""Cascade: the intern answers whole; where its answer looks wrong, the mentor answers instead.

After FrugalGPT (arXiv 2305.05176), whose scorer is a small encoder (DistilBERT) of question and answer. We depart from
it: ours is linear over the intern's own uncertainty (the signals of the whole answer's log-probabilities, whether it
was cut at its cap) and a few counts of the question, so that it costs nothing; there are two models, not a chain of
APIs. An answer out of which nothing can be read is taken for wrong. Cut drafts instead of whole answers, and insights
on the way, are what strategy `tandem` adds.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

from tandem.grading import answer_of
from tandem.ladder import ANSWER, NONE
from tandem.models.base import Model
from tandem.models.call import Call
from tandem.strategies.context import Context, need_logprobs, stream_answer
from tandem.strategies.learned import LearnedStrategy, answer_features, question_features
from tandem.types import AnswerDelta, Decision, Event


class Cascade(LearnedStrategy):
    """The intern's answer stands where it is likely enough to be right: ``cascade[:PATH][:THRESHOLD]``."""

    name = "cascade"
    heads = ("right",)  # P(the intern's answer is right), from the question and the whole answer

    def check(self, mentor: Model, intern: Model) -> None:
        need_logprobs(intern, self.name)

    async def run(self, ctx: Context) -> AsyncGenerator[Event, None]:
        async with ctx.call("intern", "answer", logprobs=True) as call:
            decision = ctx.record(self._judge(await call.read_to_end(), ctx))
            if decision.action == "answer":
                await call.close("probe")
            yield decision
        if decision.action == "stop":
            if call.text:
                yield AnswerDelta(call.text)
            yield ctx.conclude(call, level=NONE)
            return
        async for event in stream_answer("mentor", ctx, ANSWER):
            yield event

    def _judge(self, call: Call, ctx: Context) -> Decision:
        features = question_features(ctx) | answer_features(call)
        known = {name: features[name] for name in self.predictor.heads["right"].features}
        readable = answer_of(ctx.problem, call.text) is not None
        p, threshold = self.predict("right", known) if readable else 0.0, self.threshold
        stands = p >= threshold
        return Decision(
            level=NONE,
            action="stop" if stands else "answer",
            sufficiency=p,
            threshold=threshold,
            calibrated=self.calibrated,
            reason="" if readable else "no answer can be read out of the intern's text",
            signals=known,
        )
