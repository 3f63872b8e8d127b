"""Rows of a table by problem: the features that a predictor may read, the labels, and what each option would have cost.

Everything is in the order of `OutcomeTable.ids`; where a table has several samples of a level, a label is the share of
them that is right and a cost their mean.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from tandem.costs import Unit, default_unit
from tandem.errors import UsageError
from tandem.ladder import ANSWER
from tandem.spec import ModelSpec
from tandem.strategies.learned import TRUNCATED
from tandem.sufficiency.classifier import short_hash
from tandem.sufficiency.predictor import Predictor
from tandem.sufficiency.rows import HINT, Row, is_mentors
from tandem.sufficiency.signals import CANDIDATES, QUESTION_CANDIDATES, question_signals
from tandem.training.data import Table, check_same
from tandem.training.fit import MIN_PROBLEMS, counts
from tandem.training.folds import FOLDS, digests
from tandem.training.heads import Features
from tandem.training.replay import Pair

NONE = "none"
_WHOLE = "all"  # the signals of a whole answer
_CONSTANT = "ended"  # a whole answer has always ended


@dataclass(frozen=True, slots=True)
class Answers:
    """Every sample of the intern's whole answers at one level, one row each; `place` are positions in the ids."""

    ids: tuple[str, ...]  # (rows,) the rows' problems
    place: np.ndarray  # (rows,)
    features: tuple[Features, ...]  # the question's, the whole answer's signals, and `truncated`
    right: np.ndarray  # (rows,) 0 or 1
    cost: np.ndarray  # (rows,) of the answer itself
    readable: np.ndarray  # (rows,) whether an answer could be read out of the text: what has none is wrong


class OutcomeTable:
    """The problems of a table that have all of some levels, in the order of `ids`."""

    def __init__(
        self, rows: Mapping[str, Mapping[str, Sequence[Row]]], pair: Pair, manifest: Mapping[str, Any]
    ) -> None:
        """`rows`: by problem, by level, the samples in order. Use `OutcomeTable.of`."""
        self.ids: tuple[str, ...] = tuple(rows)
        self.pair = pair
        self._rows, self._manifest = rows, manifest

    @classmethod
    def of(
        cls,
        table: Table,
        specs: tuple[ModelSpec, ModelSpec],
        levels: Sequence[str] = (NONE, ANSWER),
        unit: Unit | None = None,
    ) -> Self:
        """Return the problems that have every level of `levels`, sorted by id; `specs` are mentor and intern.

        Costs are in `unit` (None: the pair's default). Raises UsageError where fewer than 40 problems have the levels.
        """
        rows, manifest = table
        grouped: dict[str, dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
        for row in sorted(rows, key=lambda row: row.get("sample") or 0):
            grouped[row["problem"]][row["level"]].append(row)
        whole = {key: own for key, own in sorted(grouped.items()) if set(levels) <= own.keys()}
        if len(whole) < MIN_PROBLEMS:
            raise UsageError(
                f"the table has {len(whole)} problems with all of the levels {', '.join(levels)}; "
                f"training needs at least {MIN_PROBLEMS}: collect more"
            )
        return cls(whole, Pair(*specs, unit=unit or default_unit(*specs)), manifest)

    def rows(self, level: str) -> list[Sequence[Row]]:
        return [self._rows[i][level] for i in self.ids]

    def questions(self) -> tuple[Features, ...]:
        """Return, for each problem, the question's features that all of them have.

        `log_question_tokens` always is one: rows of older tables have their question's length at least.
        """
        found = [self._question(i) for i in self.ids]
        names = [name for name in QUESTION_CANDIDATES if all(name in own for own in found)]
        return tuple({name: own[name] for name in names} for own in found)

    def _question(self, problem: str) -> dict[str, float]:
        found: dict[str, float] = {}
        for samples in self._rows[problem].values():
            for row in samples:
                found |= question_signals(row["question_tokens"]) | row.get("signals", {}).get("question", {})
        return found

    def right(self, level: str) -> np.ndarray:
        """Return the share of a level's samples that is right, (problems,) in 0..1."""
        return np.array([np.mean([bool(row["correct"]) for row in samples]) for samples in self.rows(level)])

    def costs(self, level: str) -> np.ndarray:
        """Return the mean cost of always using a level, (problems,): insight or hint, and the whole answer."""
        return np.array([np.mean([self.cost(i, row) for row in self._rows[i][level]]) for i in self.ids])

    def mentor_tokens(self, level: str) -> np.ndarray:
        """Return the mean tokens that the mentor writes where a level is always used, (problems,)."""
        return np.array([np.mean([_mentor_tokens(row) for row in samples]) for samples in self.rows(level)])

    def cost(self, problem: str, row: Row) -> float:
        """Return the cost of one row: the mentor's text that it reads, requested for it alone, and its answer.

        A hint is the beginning of the mentor's own answer, requested with fewer tokens: its prompt is that answer's.
        """
        if row["level"].startswith(HINT):
            prompt = self._rows[problem][ANSWER][0]["prompt_tokens"]
            hint = self.pair.mentor_rates.cost(prompt, 0, row["hint_tokens"]) if row["hint_tokens"] else 0.0
            return self.pair.answer(row) + hint
        insight = 0.0 if is_mentors(row["level"]) else self.pair.insight(row)
        return self.pair.answer(row) + insight

    def answers(self, level: str = NONE) -> Answers:
        """Return every sample of the intern's answers at a level; features are those that all of them have."""
        where = [(n, row) for n, samples in enumerate(self.rows(level)) for row in samples]
        questions = self.questions()
        drafts = [row["signals"][_WHOLE] for _, row in where]
        names = [name for name in CANDIDATES if name != _CONSTANT and all(name in own for own in drafts)]
        features = [
            {**questions[n], **{name: own[name] for name in names}, TRUNCATED: float(row["truncated"])}
            for (n, row), own in zip(where, drafts, strict=True)
        ]
        return Answers(
            ids=tuple(self.ids[n] for n, _ in where),
            place=np.array([n for n, _ in where]),
            features=tuple(features),
            right=np.array([float(row["correct"]) for _, row in where]),
            cost=np.array([self.pair.answer(row) for _, row in where]),
            readable=np.array([bool(row["extracted"]) for _, row in where]),
        )

    def places(self, ids: Sequence[str]) -> np.ndarray:
        at = {i: n for n, i in enumerate(self.ids)}
        return np.array([at[i] for i in ids], dtype=int)

    def predictor(self, seed: int, more: Mapping[str, Any] | None = None, **fields: Any) -> Predictor:
        """Return a predictor of the pair with counts, the digests of its parts, the problems seen, and `more` data."""
        data = {
            "problems": counts(self.ids),
            "rows": sum(len(samples) for own in self._rows.values() for samples in own.values()),
            "max_tokens": self._manifest.get("max_tokens"),
            "split": {"seed": seed, "folds": FOLDS},
            "id_sha256": digests(self.ids, seed),
            "seen": sorted(map(short_hash, self.ids)),
        }
        mentor, intern = self._manifest["mentor"], self._manifest["intern"]
        return Predictor(mentor=mentor, intern=intern, data=data | dict(more or {}), **fields)


def _mentor_tokens(row: Row) -> float:
    """Mentor tokens of one row: its own answer, else what the intern reads of it."""
    if is_mentors(row["level"]):
        return float(row["completion_tokens"])
    return float(row.get("insight_tokens") or row.get("hint_tokens") or 0)


def joined(tables: Sequence[Table]) -> Table:
    """Return several tables of one pair and set-up as one, with the first one's manifest.

    A row that is in two of them counts once, as the first has it. Raises UsageError naming what differs: the pair, the
    signals, the temperature or the cap of an answer.
    """
    rows, manifest = list(tables[0][0]), tables[0][1]
    seen = {_key(row) for row in rows}
    for number, (more, other) in enumerate(tables[1:], start=2):
        check_same(manifest, other, f"table {number}")
        for what, one, another in (
            ("temperature", manifest["sampling"]["temperature"], other["sampling"]["temperature"]),
            ("cap of an answer", manifest.get("max_tokens"), other.get("max_tokens")),
        ):
            if one != another:
                raise UsageError(f"table {number} is of another set-up: {what} {another} (not {one})")
        rows += [row for row in more if _key(row) not in seen]
        seen |= {_key(row) for row in more}
    return rows, manifest


def _key(row: Row) -> tuple[str, str, int]:
    return row["problem"], row["level"], row.get("sample") or 0
