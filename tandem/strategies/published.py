"""The published method as it is published (arXiv 2604.23623), for comparison: `published:FOLDER`.

At every level the intern reads question and hint once more, without a cache, and boosted trees judge by that pass;
the first level that reaches its threshold answers, where none does the likeliest. The answer is written afresh.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Self

from tandem.config import Settings
from tandem.errors import CapabilityError, UsageError
from tandem.insight import trim
from tandem.ladder import Ladder, parse_ladder
from tandem.models.base import Reads
from tandem.models.logprobs import TokenStat
from tandem.paths import shipped
from tandem.strategies.base import PlannedCall, Strategy, climb_calls
from tandem.strategies.context import Context, stream_answer
from tandem.strategies.insight_source import InsightSource
from tandem.strategies.reading import read
from tandem.sufficiency.classifier import short_hash
from tandem.sufficiency.prompt_pass import MAX_TOKENS, prompt_text, published_signals
from tandem.sufficiency.published import FILE, PublishedClassifier
from tandem.types import Decision, Event


class PublishedStrategy(Strategy):
    """The climb of the published method; classifier and ladder come from a folder, or are the pair's own."""

    def __init__(self, folder: Path | None = None) -> None:
        """`folder` has the published.json of a training; None: `bind` finds the pair's own."""
        if folder is not None:
            self._take(folder)

    @classmethod
    def of(cls, argument: str | None, budgets: Mapping[str, int]) -> Self:
        if argument == "":
            raise UsageError("strategy 'published' takes its classifier's folder, as in published:classifiers/mine")
        return cls(None if argument is None else Path(argument))

    def bind(self, mentor: str, intern: str) -> str:
        if not hasattr(self, "classifier"):
            folder = shipped("classifiers") / f"{mentor}+{intern}"
            if not (folder / FILE).is_file():
                raise UsageError(
                    "strategy 'published' has no classifier for this pair; train one (tandem train COLLECTION "
                    "--strategy published --out classifiers/mine) and name its folder: published:classifiers/mine"
                )
            self._take(folder)
        return f"published@{self.classifier.id}"

    def saw(self, problem_id: str) -> bool:
        """Whether the classifier was fitted on this problem, or its thresholds were chosen on it."""
        return short_hash(problem_id) in self.classifier.data.get("seen", ())

    def _take(self, folder: Path) -> None:
        self.classifier = PublishedClassifier.load(folder)
        self.ladder = parse_ladder(self.classifier.ladder)

    def calls(self, ladder: Ladder, settings: Settings, draft_tokens: int | None) -> list[PlannedCall]:
        """Return the climb to the top; a pass over the prompt is a probe of one token at each level."""
        planned = [
            call
            for call in climb_calls(self.ladder, settings, draft_tokens)
            if call.purpose == "insight" or call.level == self.ladder[-1].name
        ]
        passes = [PlannedCall("intern", "probe", level.name, 1, level.tokens or 0) for level in self.ladder]
        return [*planned, *passes]

    async def run(self, ctx: Context) -> AsyncGenerator[Event, None]:
        async with aclosing(InsightSource.open(ctx, self.ladder, "thrifty")) as source:
            async for event in self._climb(ctx, source):
                yield event

    async def _climb(self, ctx: Context, source: InsightSource) -> AsyncGenerator[Event, None]:
        p: list[float] = []
        chosen = 0
        for index, level in enumerate(self.ladder):
            async for insight_delta in source.extend(level):
                yield insight_delta
            text, tokens = source.cut(level)
            signals = published_signals(await self._read(trim(text), tokens, ctx))
            p.append(self.classifier.probability(signals, index, tokens))
            last, bound = index == len(self.ladder) - 1, self.classifier.thresholds[index]
            passes = p[-1] >= bound
            chosen = index if passes or not last else self.classifier.choose(p)
            reason = "sufficient" if passes else "no level is: the likeliest answers" if last else "insufficient"
            decision = Decision(
                level=level.name,
                action="stop" if passes or last else "go_on",
                sufficiency=p[-1],
                threshold=bound,
                reason=reason,
                insight_tokens=tokens,
                signals=signals,
            )
            yield ctx.record(decision)
            if passes:
                break
        level = self.ladder[chosen]
        text, tokens = source.cut(level)
        async for event in stream_answer("intern", ctx, level.name, trim(text), tokens):
            yield event

    async def _read(self, insight: str, tokens: int, ctx: Context) -> Sequence[TokenStat]:
        """Return the statistics of one pass over question and insight; it is charged as a probe."""
        if not isinstance(ctx.intern, Reads):
            raise CapabilityError(
                f"strategy 'published' needs log-probabilities of prompts, and {ctx.intern.spec.name} gives none here; "
                "serve the intern with vLLM and name it with --intern-endpoint"
            )
        text, top = prompt_text(ctx.problem.question, insight), ctx.settings.top_logprobs
        reading = await read(ctx, "intern", text, "probe", top_logprobs=top, max_tokens=MAX_TOKENS, read_tokens=tokens)
        return reading.stats
