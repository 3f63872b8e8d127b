"""Random mix: intern or mentor by coin. All mixes together are the chord that any method must beat."""

from __future__ import annotations

import hashlib
import math
from collections.abc import AsyncGenerator, Mapping
from typing import Self

from tandem.config import Settings
from tandem.errors import UsageError
from tandem.ladder import ANSWER, NONE, Ladder
from tandem.spec import ModelSpec
from tandem.strategies.base import PlannedCall, Strategy, whole_answer
from tandem.strategies.context import Context, stream_answer
from tandem.types import Decision, Event

DEFAULT_SHARE = 0.5


class RandomMix(Strategy):
    """The mentor answers a share of the problems, drawn by coin, the intern the others: ``random-mix:<share>``."""

    def __init__(self, share: float = DEFAULT_SHARE) -> None:
        if not 0 <= share <= 1:
            raise UsageError(f"the mentor's share in random-mix lies in 0..1, not at {share:g}")
        self.share = share

    @classmethod
    def of(cls, argument: str | None, budgets: Mapping[str, int]) -> Self:
        if argument is None:
            return cls()
        try:
            share = float(argument)
        except ValueError:
            share = math.nan
        if math.isnan(share):
            raise UsageError(f"random-mix takes the mentor's share, as in random-mix:0.3, not '{argument}'")
        return cls(share)

    def calls(self, ladder: Ladder, settings: Settings, draft_tokens: int | None) -> list[PlannedCall]:
        return [whole_answer("mentor" if self.share else "intern", settings)]  # any problem may get the mentor's

    def without_tools(self, mentor: ModelSpec) -> str | None:
        return None

    async def run(self, ctx: Context) -> AsyncGenerator[Event, None]:
        tossed = coin(ctx.problem.id, ctx.settings.sampling.seed or 0)
        mentor = tossed < self.share
        decision = Decision(
            level=NONE,
            action="answer" if mentor else "stop",
            reason=f"the coin shows {tossed:.3f}, {'below' if mentor else 'not below'} the share of {self.share:g}",
        )
        yield ctx.record(decision)
        async for event in stream_answer("mentor" if mentor else "intern", ctx, ANSWER if mentor else NONE):
            yield event


def coin(problem_id: str, seed: int) -> float:
    """Return a number in [0, 1) that depends on problem and seed alone: a resumed run sends each to the same model.

    A problem that goes to the mentor at one share does so at every larger one.
    """
    digest = hashlib.sha256(f"random-mix:{seed}:{problem_id}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48
