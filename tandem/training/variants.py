"""Which sets of signals an ablation compares, and what each costs beside the draft."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from tandem.collection.added_signals import AGREEMENT, second_cost
from tandem.costs import Rates
from tandem.sufficiency.prompt_pass import INSIGHT, PUBLISHED, pass_cost
from tandem.sufficiency.rows import Row, is_mentors
from tandem.sufficiency.signals import CANDIDATES, NAMES, QUESTION, QUESTION_CANDIDATES
from tandem.training.replay import Pair

Extra = Literal["", "pass", "draft"]  # nothing, a pass over the prompt, a second draft
PUBLISHED_NAMES = tuple(f"published_{name}" for name in PUBLISHED)
STANDING = (*NAMES, *QUESTION, "log_insight_tokens")
PLACE = ("level_index", "level_tokens")  # what the published features have beside those of the pass


@dataclass(frozen=True, slots=True)
class Variant:
    """A set of features under a name: how it differs from the standing set, and what it costs beside the draft.

    `apart`: each level has a fit of its own.
    """

    name: str
    kind: str  # standing, without, with, alone
    features: tuple[str, ...]
    buys: Extra = ""
    apart: bool = False


@dataclass(frozen=True)
class ExtraPair(Pair):
    """A pair whose intern does more at every level: `more` gives its cost for a row of the intern's."""

    more: Callable[[Rates, Row], float] = field(kw_only=True)

    def answer(self, row: Row, before: Row | None = None) -> float:
        return super().answer(row, before) + self._more(row)

    def draft(self, row: Row, tokens: int | None, before: Row | None = None) -> float:
        return super().draft(row, tokens, before) + self._more(row)

    def _more(self, row: Row) -> float:
        return 0.0 if is_mentors(row["level"]) else self.more(self.intern_rates, row)


def extra(name: str) -> Extra:
    if name in AGREEMENT:
        return "draft"
    return "pass" if name in PUBLISHED_NAMES or name in INSIGHT else ""


def variants(names: Sequence[str]) -> Iterator[Variant]:
    standing = tuple(name for name in STANDING if name in names)
    others = tuple(name for name in names if name not in standing and name not in PLACE)
    yield Variant("standing", "standing", standing)
    yield Variant("standing, each level apart", "with", standing, apart=True)
    for name in standing:
        yield Variant(name, "without", tuple(n for n in standing if n != name))
    for name in others:
        if name not in PUBLISHED_NAMES:
            yield Variant(name, "with", (*standing, name), extra(name))
    groups = {
        "draft candidates": [n for n in others if n in CANDIDATES],
        "change": [n for n in others if n.startswith("change_")],
        "question": [n for n in others if n in QUESTION_CANDIDATES],
        "insight": [n for n in others if n in INSIGHT],
        "agreement": [n for n in others if n in AGREEMENT],
        "published": [n for n in others if n in PUBLISHED_NAMES],
    }
    for name, group in groups.items():
        if group:
            yield Variant(f"{name} (all {len(group)})", "with", (*standing, *group), extra(group[0]))
    if groups["published"]:
        yield Variant("published", "alone", (*groups["published"], *PLACE), "pass")
    for name in (*standing, *others):
        if name not in PUBLISHED_NAMES and name not in PLACE and not name.startswith("change_"):
            yield Variant(name, "alone", (name,), extra(name))


def paid(pair: Pair, buys: Extra, draft: str) -> Pair:
    """Return the pair with the extra cost: an uncached pass, or the second draft's tokens."""
    if not buys:
        return pair
    more = pass_cost if buys == "pass" else partial(second_cost, draft=draft)
    return ExtraPair(pair.mentor, pair.intern, pair.prefix_cache, pair.unit, more=more)
