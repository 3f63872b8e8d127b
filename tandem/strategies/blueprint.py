"""Blueprint: the intern answers under guidance that the mentor wrote once for this kind of problem (arXiv 2506.08669).

Offline (`tandem blueprint build`, `tandem.training.blueprints`) the mentor writes blueprints in several styles and a
search chooses a blueprint and its place in the prompt, "no blueprint" among the candidates. Here that choice is used,
and the mentor is never called. We depart from the paper in what a template varies: the blueprint's place and a line
that says to follow it. The instruction that asks for the answer's form always stays, so that every candidate is graded
alike, and no solved examples are put into the intern's prompt.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Self

from tandem.config import Settings
from tandem.errors import UsageError
from tandem.insight import answer_messages
from tandem.ladder import Ladder
from tandem.ledger import Role, sum_known
from tandem.strategies.base import PlannedCall, Strategy
from tandem.strategies.context import Context, stream_answer
from tandem.sufficiency.blueprint_card import NONE, BlueprintCard, Candidate, find_cards, nearest_card
from tandem.types import Decision, Event, Message, Problem

LEVEL = "blueprint"


def blueprint_messages(problem: Problem, text: str, candidate: Candidate) -> tuple[Message, ...]:
    """Return the intern's prompt under a blueprint's `text`; without one exactly the prompt of an answer alone."""
    messages = answer_messages(problem)
    if not text:
        return messages
    guide = _HEAD + text + (_FOLLOW if candidate.follow else "")
    if candidate.place == "system":
        # Chat templates take one system message, the first: the problem's own comes before the blueprint.
        own, rest = (messages[0].content, messages[1:]) if messages[0].role == "system" else ("", messages)
        return (Message(role="system", content=f"{own}\n\n{guide}" if own else guide), *rest)
    asked = messages[-1].content
    content = f"{guide}\n\n{asked}" if candidate.place == "before" else f"{asked}\n\n{guide}"
    return (*messages[:-1], Message(role="user", content=content))


class Blueprint(Strategy):
    """The intern under the blueprint of a pair and a kind of problem: ``blueprint`` or ``blueprint:<file or folder>``.

    A kind of problem without a blueprint gets the plain prompt, and so does one for which the search found nothing
    better; the request then equals intern-only's.
    """

    roles: tuple[Role, ...] = ("intern",)

    def __init__(self, where: str = "") -> None:
        """`where` is a file or a folder of `tandem blueprint build`; empty: what is shipped for the pair."""
        self.where = where
        self.cards: Sequence[BlueprintCard] = ()
        self.exact = True  # the blueprints were searched for this very pair

    @classmethod
    def of(cls, argument: str | None, budgets: Mapping[str, int]) -> Self:
        if argument is not None and not argument.strip():
            raise UsageError("strategy 'blueprint' takes a file or a folder, as in blueprint:my-blueprints, or nothing")
        return cls(argument or "")

    def bind(self, mentor: str, intern: str) -> str:
        self.cards, self.exact = find_cards(mentor, intern, self.where)
        return ", ".join(card.id for card in self.cards)

    def saw(self, problem_id: str) -> bool:
        return any(card.saw(problem_id) for card in self.cards)

    def offline(self) -> dict[str, Any] | None:
        """Return what was spent before the first problem; None without a blueprint.

        `tflops` and `usd` are sums over the cards (None: unknown, or not billed). `break_even_problems` is after how
        many problems of a card's kind its search is repaid by not asking the mentor, in US$ where both models are
        priced, else in TFLOPs; the largest of the cards, None where one is never repaid. What a wrong answer costs is
        not in it.
        """
        if not self.cards:
            return None
        parts = [card.offline for card in self.cards]
        even = [p.break_even["usd" if p.spent.usd is not None else "tflops"] for p in parts]
        return {
            "tflops": sum_known(p.spent.tflops for p in parts),
            "usd": sum_known(p.spent.usd for p in parts),
            "break_even_problems": None if None in even else max(n for n in even if n is not None),
        }

    def calls(self, ladder: Ladder, settings: Settings, draft_tokens: int | None) -> list[PlannedCall]:
        tokens = max((card.text.tokens for card in self.cards if card.text), default=0)
        return [PlannedCall("intern", "answer", LEVEL if tokens else NONE, settings.intern_max_tokens, tokens)]

    async def run(self, ctx: Context) -> AsyncGenerator[Event, None]:
        card = nearest_card(self.cards, ctx.problem.task, ctx.problem.id)
        written = card.text if card else None
        text, tokens = (written.text, written.tokens) if written else ("", 0)
        decision = self._decision(card, ctx.problem)
        yield ctx.record(decision)
        messages = blueprint_messages(ctx.problem, text, card.choice) if card else None
        async for event in stream_answer("intern", ctx, decision.level, text, tokens, messages):
            yield event

    def _decision(self, card: BlueprintCard | None, problem: Problem) -> Decision:
        if card is None:
            return Decision(NONE, "stop", reason=f"no blueprint for {problem.task} problems: the plain prompt")
        signals, scores = {}, []
        for name in dict.fromkeys((card.chosen, NONE)):
            if (score := card.score(name)) is not None:
                signals[f"held_out_{'plain' if name == NONE else 'chosen'}"] = score.right / score.n
                scores.append(f"{'the plain prompt' if name == NONE else 'it'} {score.right} of {score.n}")
        plain = card.text is None
        reason = "the search found nothing better than the plain prompt" if plain else f"blueprint '{card.chosen}'"
        reason += f"; held-out problems right: {', '.join(scores)}" if scores else ""
        if not self.exact:
            reason += f"; searched for {card.mentor}+{card.intern}"
        return Decision(NONE if plain else LEVEL, "stop", calibrated=self.exact, reason=reason, signals=signals)


_HEAD = "How to solve problems of this kind:\n"
_FOLLOW = "\n\nFollow this guide step by step."
