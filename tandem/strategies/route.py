"""Route: one decision from the question alone, then one model answers.

After RouteLLM (arXiv 2406.18665) and HybridLLM (arXiv 2404.14618), which send a question to the strong model where a
learned probability crosses a threshold. We depart from them in two ways: they learn from preferences or from reward
scores over an encoder of the text, we from right and wrong over a few counts of the question (its length, numbers,
sentences, symbols); and the rule is the predicted gain, P(mentor right) - P(intern right) >= threshold, not the doubt
in the weak model alone, as a question that neither model answers is not worth the mentor. The rule on the gain did
better out of fold (training/predictors/route.py has the figures).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

from tandem.config import Settings
from tandem.ladder import ANSWER, NONE, Ladder
from tandem.spec import ModelSpec
from tandem.strategies.base import PlannedCall, whole_answer
from tandem.strategies.context import Context, stream_answer
from tandem.strategies.learned import LearnedStrategy, question_features
from tandem.types import Decision, Event


class Route(LearnedStrategy):
    """The mentor answers where it is predicted to gain enough over the intern: ``route[:PATH][:THRESHOLD]``."""

    name = "route"
    heads = ("intern", "mentor")  # P(that model is right), from the question

    def calls(self, ladder: Ladder, settings: Settings, draft_tokens: int | None) -> list[PlannedCall]:
        return [whole_answer("mentor", settings)]  # any problem may get it

    def without_tools(self, mentor: ModelSpec) -> str | None:
        return None

    async def run(self, ctx: Context) -> AsyncGenerator[Event, None]:
        features = question_features(ctx)
        intern, mentor = self.predict("intern", features), self.predict("mentor", features)
        gain, threshold = mentor - intern, self.threshold
        enough = gain >= threshold
        decision = Decision(
            level=NONE,
            action="answer" if enough else "stop",
            sufficiency=intern,
            threshold=threshold,
            calibrated=self.calibrated,
            reason=f"predicted gain of the mentor {gain:+.3f}, {'at least' if enough else 'below'} {threshold:.3f}",
            signals=features | {"p_mentor": mentor, "gain": gain},
        )
        yield ctx.record(decision)
        async for event in stream_answer("mentor" if enough else "intern", ctx, ANSWER if enough else NONE):
            yield event
