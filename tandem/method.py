"""A method, ready to be used with one pair: the strategy with its ladder, its draft and its classifier's policy."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tandem.config import Settings
from tandem.errors import UsageError
from tandem.ladder import Ladder, format_ladder, parse_ladder
from tandem.models.base import Model
from tandem.strategies import make_strategy
from tandem.sufficiency.classifier import (
    Classifier,
    ClassifierCard,
    find_classifier,
    load_classifier,
    nearest_classifier,
    read_card,
)
from tandem.sufficiency.policy import Policy

GENERAL_LADDER = "none,low,medium,high"
_MOST_POLICIES = 256  # a server's requests say how a policy is used, and their wishes have no end


class Shelf:
    """What methods of one pair share: cards and classifiers that were read once, and policies with what they saw.

    A policy that is not calibrated sets its thresholds by what it sees, so there is one for each way to be used.
    """

    def __init__(self) -> None:
        self._cards: dict[Path, ClassifierCard] = {}
        self._loading: dict[Path, asyncio.Task[Classifier]] = {}
        self._policies: dict[tuple[object, ...], Policy] = {}

    def card(self, folder: Path) -> ClassifierCard:
        """Return a classifier's card; raises TandemError for a damaged one."""
        if folder not in self._cards:
            self._cards[folder] = read_card(folder)
        return self._cards[folder]

    async def classifier(self, folder: Path) -> Classifier:
        """Return a classifier; raises TandemError for a damaged one."""
        if folder not in self._loading:  # in a thread: scikit-learn is slow to import
            self._loading[folder] = asyncio.ensure_future(asyncio.to_thread(load_classifier, folder))
        try:
            return await asyncio.shield(self._loading[folder])
        except Exception:
            self._loading.pop(folder, None)
            raise

    def policy(self, key: tuple[object, ...], classifier: Classifier, *, calibrated: bool) -> Policy:
        """Return the policy for one way to be used, made when it is first asked for."""
        if key not in self._policies:
            if len(self._policies) >= _MOST_POLICIES:
                self._policies.pop(next(iter(self._policies)))
            self._policies[key] = Policy(classifier, classifier.card.policy, calibrated=calibrated)
        return self._policies[key]


class Method:
    """How problems are solved: settled without a model, but for how well the classifier fits, which `match` finds."""

    def __init__(self, name: str, settings: Settings, mentor: Model, intern: Model, shelf: Shelf) -> None:
        """Raises UsageError for an unknown strategy, classifier or level."""
        self.name, self.settings = name, settings
        self.card: ClassifierCard | None = None
        self.mismatch: list[str] = []
        self.policy: Policy | None = None
        self._mentor, self._intern, self._shelf = mentor, intern, shelf
        self._folder = Path()
        pair = mentor.spec.name, intern.spec.name
        own, budgets = parse_ladder(GENERAL_LADDER), {}
        folder = find_classifier(settings.classifier) if settings.classifier else nearest_classifier(*pair)
        card = shelf.card(folder) if folder else None
        if card and (card.mentor, card.intern) == pair:
            own = parse_ladder(card.ladder)
            budgets = {level.name: level.tokens for level in parse_ladder(card.collected_ladder) if level.tokens}
        self.budgets = budgets  # mentor tokens of this pair's levels, where they are not the usual ones
        self.strategy = make_strategy(name, budgets)
        self.learned = self.strategy.bind(*pair)
        if self.strategy.needs_classifier:
            if folder is None:
                raise UsageError("no classifier is shipped with this installation; name one with --classifier PATH")
            self._folder, self.card = folder, card
        self.ladder: Ladder = parse_ladder(settings.effort, budgets) if settings.effort is not None else own
        self.draft_tokens = settings.draft_tokens or (self.card.draft_tokens if self.card else None)

    def variant(self, name: str, settings: Settings) -> Method:
        """Return another method for the same pair, which shares what this one has read and seen."""
        return Method(name, settings, self._mentor, self._intern, self._shelf)

    def saw(self, problem_id: str) -> bool:
        """Whether the classifier or predictor that decides was fitted on this problem."""
        return self.strategy.saw(problem_id) or (self.card is not None and self.card.saw(problem_id))

    async def load(self) -> None:
        """Read the classifier, where there is one; raises TandemError for a damaged one."""
        if self.card:
            await self._shelf.classifier(self._folder)

    async def match(self) -> None:
        """Compare the classifier with this use of it; the models must be probed.

        Raises ClassifierMismatchError where its signals would mean something else.
        """
        if self.card is None or self.policy is not None:
            return
        classifier, settings = await self._shelf.classifier(self._folder), self.settings
        self.mismatch = classifier.differences(
            self._mentor.spec, self._intern.spec, settings.sampling, self.ladder, settings.top_logprobs
        )
        if self.draft_tokens != self.card.draft_tokens:
            self.mismatch.append("draft length")
        key = (self._folder, self.name, format_ladder(self.ladder), self.draft_tokens, settings.sampling.temperature)
        self.policy = self._shelf.policy(key, classifier, calibrated=not self.mismatch)

    def recall(self, decisions: Iterable[Mapping[str, Any]]) -> None:
        """Take up earlier decisions, where they matter: for a policy whose thresholds come from the run itself."""
        if self.policy is None or self.policy.calibrated:
            return
        for decision in decisions:
            if decision["sufficiency"] is not None:
                self.policy.recall(decision["level"], decision["sufficiency"])
