"""A limit in US$ that holds even in the worst case: a call starts only if its maximal cost still fits."""

from __future__ import annotations

import asyncio
from collections import Counter

from tandem.costs import rates
from tandem.errors import LimitReached, UsageError
from tandem.ledger import Entry
from tandem.plan import SolvePlan


class Budget:
    """US$ spent and reserved. Without a limit everything fits, and spending is still counted."""

    def __init__(self, limit: float | None = None) -> None:
        self.limit = limit
        self.spent = 0.0  # worst case: the bill of a cut call is unknown
        self.tokens: Counter[str] = Counter()  # written, by role
        self.usd: float | None = None  # of priced calls
        self._reserved = 0.0
        self._freed = asyncio.Event()

    def charge(self, entry: Entry) -> None:
        if entry.paid:
            self.spent += entry.usd_bound or 0.0
            self.tokens[entry.role] += entry.usage.completion
            if entry.usd is not None:
                self.usd = (self.usd or 0.0) + entry.usd

    async def reserve(self, usd: float) -> None:
        """Wait until `usd` more fits; raises LimitReached if no call in flight can make room."""
        while self.limit is not None and usd and self.spent + self._reserved + usd > self.limit + 1e-12:
            if self._reserved <= 1e-12:
                raise LimitReached(
                    f"--max-usd {self.limit:g}: US$ {self.spent:.4f} is spent in the worst case, and the next call "
                    f"may cost US$ {usd:.4f}"
                )
            self._freed.clear()
            await self._freed.wait()
        self._reserved += usd

    def release(self, usd: float) -> None:
        self._reserved = max(self._reserved - usd, 0.0)
        self._freed.set()


def check_prices(plan: SolvePlan, max_usd: float | None) -> None:
    """Raise UsageError where a limit in US$ could not be kept."""
    if max_usd is None:
        return
    for role in plan.roles:
        spec = plan.model(role).spec
        if rates(spec, "usd", role) is None and not spec.local:
            raise UsageError(
                f"--max-usd needs a price for {spec.name}: give a file with --prices FILE, holding the line "
                f"`{spec.name}: {{input: X, output: Y}}` (US$ per million tokens)"
            )
