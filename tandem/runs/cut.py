"""Answers that were cut at their cap, or ended within their thought: how many, and what would help."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

from tandem.ledger import Role
from tandem.models.base import Model

MANY = 0.05  # of a role's answers: more are worth a warning


@dataclass(slots=True)
class CutAnswers:
    """The answers of each role, and how many of them were cut."""

    answers: Counter[str] = field(default_factory=Counter)
    cut: Counter[str] = field(default_factory=Counter)

    def add(self, role: str, cut: bool) -> None:
        self.answers[role] += 1
        self.cut[role] += cut

    @classmethod
    def of_summary(cls, summary: Mapping[str, Any], strategy: str = "") -> CutAnswers:
        """Return what a run's summary says; nothing for one of a version that did not count answers by role.

        Nor for a `strategy` that cuts answers on purpose.
        """
        return (
            cls()
            if strategy.startswith("budget-forcing")
            else cls(Counter(summary.get("answers", {})), Counter(summary["truncated"]))
        )

    def share(self, role: str) -> float:
        return self.cut[role] / self.answers[role] if self.answers[role] else 0.0


def cut_warnings(
    found: CutAnswers,
    caps: Mapping[Role, int],
    models: Iterable[tuple[Role, Model]] = (),
    where: str = "",
    roles: Sequence[Role] = get_args(Role),
) -> list[str]:
    """Return a line for each role of whose answers more than 5 % were cut: the share, the cap, and what raises it.

    `models`, where they are at hand, tell a context that leaves less than the cap.
    """
    contexts = {role: model.spec.context for role, model in models}
    lines = []
    for role in roles:
        if (share := found.share(role)) <= MANY:
            continue
        at, advice = f"their cap of {caps[role]:,} tokens", f"--{role}-max-tokens N raises it"
        if (context := contexts.get(role)) is not None and context <= caps[role]:
            at, advice = f"the model's context of {context:,} tokens", "serve it with a longer one (--max-model-len)"
        lines.append(
            f"{where}{found.cut[role]} of {found.answers[role]} answers of the {role} ({share:.0%}) were cut at {at}, "
            f"and count as they stand: {advice}"
        )
    return lines
