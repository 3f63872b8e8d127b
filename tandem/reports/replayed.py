"""Runs that nobody made: levels and operating points replayed on a collected table, as records of their own.

Every call of a replayed record is an entry of its ledger, with the tokens of the row, so that its cost in any unit is
what training/replay.py counts, and whatever reads runs (verdict, comparison, report page) reads these.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tandem.grading import answer_of
from tandem.insight import trim
from tandem.ladder import ANSWER, Effort, parse_ladder
from tandem.ledger import Entry, Ledger, Purpose, Role, Usage
from tandem.sufficiency.classifier import Classifier
from tandem.sufficiency.points import OperatingPoint
from tandem.sufficiency.policy import PolicyCard
from tandem.sufficiency.rows import Levels, PCorrectLater, Row, is_mentors
from tandem.training.fit import Problems, signals_by_problem, signals_of
from tandem.training.replay import BatchReplay, Pair
from tandem.training.upgrades import predict_later
from tandem.types import Action, Decision, Problem, Solution


@dataclass(frozen=True, slots=True)
class Ending:
    """Where a policy ends a problem: the levels that it drafts before, the last one, and whether by handing over."""

    drafted: tuple[str, ...]
    level: str
    trace: tuple[Decision, ...] = ()
    draft: int | None = None  # tokens of a draft; None: the whole answer


def replay_point(
    classifier: Classifier, point: OperatingPoint, problems: Problems, ids: Sequence[str], pair: Pair
) -> dict[str, Ending]:
    """Return how an operating point ends problems that the classifier was not fitted on."""
    ladder, draft, upgrades = parse_ladder(point.ladder), point.draft_tokens, point.policy.upgrades
    p, later = predicted(classifier, point, problems, ids)
    replay = BatchReplay.of(problems, p, ladder, pair, draft, upgrades, later)
    thresholds = {level.name: point.policy.threshold(level.name) for level in ladder}
    at, handed_over = replay.decide([thresholds], point.policy.cost_weight)
    found: dict[str, Ending] = {}
    for n, i in enumerate(ids):
        where = replay.present[:, n], int(at[0, n]), bool(handed_over[0, n])
        found[i] = _ending(ladder, *where, p[i], draft, point.policy, problems[i])
    return found


def predicted(
    classifier: Classifier, point: OperatingPoint, problems: Problems, ids: Sequence[str]
) -> tuple[dict[str, dict[str, float]], PCorrectLater]:
    """Return the sufficiency of problems at the levels of a point, and what its upgrades predict for later ones."""
    ladder = parse_ladder(point.ladder)
    column = "all" if point.draft_tokens is None else str(point.draft_tokens)
    features = classifier.card.model(point.model).features
    p: dict[str, dict[str, float]] = {}
    for i in ids:
        p[i] = {
            level.name: classifier.sufficiency(
                level, signals_of(row := problems[i][level.name], column), row["insight_tokens"], point.model
            )
            for level in ladder
            if not level.is_answer
        }
    signals = signals_by_problem(problems, ids, ladder, column, features)
    return p, predict_later(point.policy.upgrades, p, signals)


def _ending(
    ladder: Sequence[Effort],
    present: Any,
    at: int,
    handed_over: bool,
    p: Mapping[str, float],
    draft: int | None,
    policy: PolicyCard,
    levels: Levels,
) -> Ending:
    visited = [level for k, level in enumerate(ladder[: at + 1]) if present[k]]
    last = ladder[-1] if handed_over else ladder[at]
    trace = []
    for level in visited:
        if level.is_answer:
            continue
        action: Action = "go_on"
        if level == visited[-1]:
            action = "answer" if handed_over else "stop"
        tokens = levels[level.name]["insight_tokens"]
        trace.append(Decision(level.name, action, p[level.name], policy.threshold(level.name), insight_tokens=tokens))
    drafted = [level.name for level in visited if level.is_drafted and level != last]
    return Ending(tuple(drafted), last.name, tuple(trace), draft)


def ledger_of(levels: Levels, ending: Ending, pair: Pair) -> Ledger:
    """Return the calls of a problem that ends so: one insight, the drafts that are discarded, and the answer."""
    ledger, row, draft = Ledger(), levels[ending.level], ending.draft

    def add(role: Role, purpose: Purpose, prompt: int, written: int, read: int = 0) -> None:
        spec = pair.mentor if role == "mentor" else pair.intern
        usage = Usage(prompt=prompt, completion=written)
        ledger.entries.append(Entry.of(spec, role, purpose, usage, seconds=0.0, read_tokens=read))

    alone = is_mentors(ending.level)
    for name in ending.drafted:
        discarded = levels[name]
        written = discarded["completion_tokens"]
        add("intern", "probe", discarded["prompt_tokens"], written if draft is None else min(draft, written))
    noted = levels[ending.drafted[-1]] if alone and ending.drafted else row
    if (tokens := noted.get("insight_tokens", 0)) and not (alone and pair.begins_answer):
        add("mentor", "insight", noted["mentor_prompt_tokens"], tokens)
    read = 0 if alone else row.get("insight_tokens", 0)
    add("mentor" if alone else "intern", "answer", row["prompt_tokens"], row["completion_tokens"], read)
    return ledger


def records(
    problems: Sequence[Problem],
    rows: Problems,
    endings: Mapping[str, Ending],
    pair: Pair,
    strategy: str,
    *,
    classifier: str | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield a run's record for each problem that has rows and an ending; texts are there where the rows have them."""
    for problem in problems:
        if problem.id not in endings:
            continue
        levels, ending = rows[problem.id], endings[problem.id]
        row = levels[ending.level]
        text: str = row.get("text", "")
        solution = Solution(
            problem_id=problem.id,
            strategy=strategy,
            answer=answer_of(problem, text) if text else None,
            text=text,
            level=ending.level,
            answered_by="mentor" if is_mentors(ending.level) else "intern",
            insight=_insight(levels, ending),
            trace=list(ending.trace),
            ledger=ledger_of(levels, ending, pair),
            truncated=bool(row.get("truncated")),
            synthetic=pair.mentor.synthetic or pair.intern.synthetic,
            classifier=classifier,
        )
        yield {
            "problem": problem.id,
            "task": problem.task,
            "grader": problem.grader,
            "correct": bool(row["correct"]),
            "reference": problem.reference,
            "error": None,
            **solution.model_dump(mode="json", exclude={"problem_id"}),
            "replayed": True,
            "metadata": dict(problem.metadata),
        }


def _insight(levels: Levels, ending: Ending) -> str:
    shown: Row = levels[ending.drafted[-1]] if ending.level == ANSWER and ending.drafted else levels[ending.level]
    return trim(shown.get("insight", ""))
