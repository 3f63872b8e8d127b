"""How each problem of a finished run would have ended at other thresholds, put together from records that there are.

A run with one decision a problem (`cascade`, `route`, `random-mix`) is replayed exactly: the problem ends with the
intern's record or with the mentor's. The climb of `tandem` can only be stopped earlier: what lies behind the level
where it stopped was never asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tandem.errors import UsageError
from tandem.ladder import QUESTION
from tandem.ledger import Entry, Ledger
from tandem.runs.outcomes import RunOutcomes, outcomes_of
from tandem.strategies.random_mix import RandomMix, coin

Record = Mapping[str, Any]
Records = Mapping[str, Record]
SWEPT = ("cascade", "route", "random-mix", "tandem")
_DRAFTS = ("probe", "answer")


@dataclass(frozen=True)
class SweepChoices:
    """All the ways in which problems may end: `ends` has one set of outcomes for each, in the order of `ids`.

    `known` (ways, problems) is False where a way was never recorded. `choose` says which way each problem takes.
    """

    ids: list[str]
    ends: Sequence[RunOutcomes]
    known: np.ndarray
    by_mentor: np.ndarray  # (ways, problems): whether the mentor answers
    grid: list[float]  # thresholds at which something changes, ascending
    own: float
    rule: str
    score: np.ndarray  # (ways, problems): see `choose`
    climbs: bool = False
    mentor_from: bool = False

    def choose(self, threshold: float) -> np.ndarray:
        """Return the number (problems,) of the way that each problem takes at a threshold."""
        if self.climbs:  # the first level that is good enough; the last way is how it ended
            found: np.ndarray = np.argmax(self.score >= threshold, axis=0)
            return found
        score = self.score[0]
        mentor: np.ndarray = score >= threshold if self.mentor_from else score < threshold
        return mentor.astype(int)


def ways_of(
    name: str, run: Records, intern: Records, mentor: Records, fixed: Mapping[str, Records], seed: int
) -> SweepChoices:
    """Return the ways of a run's problems; each of them must have a record in all three runs.

    `fixed` has the records of fixed levels, by the level's name. Raises UsageError for a run that cannot be swept.
    """
    base = name.partition(":")[0]
    if base not in SWEPT:
        raise UsageError(f"strategy '{name}' has no threshold that can be replayed; {', '.join(SWEPT)} have")
    if base == "tandem":
        return _climb(run, intern, fixed)
    return _one_decision(name, run, intern, mentor, seed)


def _one_decision(name: str, run: Records, intern: Records, mentor: Records, seed: int) -> SweepChoices:
    base, ids = name.partition(":")[0], list(run)
    mentor_from, rule = False, "the intern's answer stands where the sufficiency is at least the threshold"
    if base == "random-mix":
        argument = name.partition(":")[2]
        own, rule = RandomMix.of(argument or None, {}).share, "the mentor answers this share of the problems, by coin"
        score = [coin(one, seed) for one in ids]
    else:
        decisions = {one: _single(one, record) for one, record in run.items()}
        own = _only(decision["threshold"] for decision in decisions.values())
        if base == "route":
            rule, mentor_from = "the mentor answers where its predicted gain is at least the threshold", True
            score = [decision["signals"]["gain"] for decision in decisions.values()]
        else:
            score = [decision["sufficiency"] for decision in decisions.values()]
    discards = base == "cascade"
    ends = [
        outcomes_of(intern[one] for one in ids),
        outcomes_of(_after(intern[one], mentor[one]) if discards else mentor[one] for one in ids),
    ]
    shape = 2, len(ids)
    return SweepChoices(
        ids=ids,
        ends=ends,
        known=np.ones(shape, dtype=bool),
        by_mentor=np.asarray([[False] * len(ids), [True] * len(ids)]),
        grid=_within(score, own),
        own=own,
        rule=rule,
        score=np.asarray([score]),
        mentor_from=mentor_from,
    )


def _must_decide(problem: str, trace: Sequence[Record]) -> None:
    if not trace or any(d["sufficiency"] is None or d["threshold"] is None for d in trace):
        raise UsageError(
            f"{problem} has no decision with a sufficiency and a threshold in its record: nothing to sweep"
        )


def _single(problem: str, record: Record) -> Record:
    trace = record["trace"]
    _must_decide(problem, trace)
    if len(trace) > 1:
        raise UsageError(f"{problem} has {len(trace)} decisions in its record, and one was expected")
    decision: Record = trace[0]
    return decision


def _only(values: Iterable[float]) -> float:
    found = set(values)
    if len(found) != 1:
        raise UsageError(f"the run had several thresholds ({', '.join(f'{v:g}' for v in sorted(found)[:3])}, …)")
    return found.pop()


def _within(score: Sequence[float], own: float) -> list[float]:
    """Return every threshold that a strategy takes and that matters."""
    return sorted({0.0, 1.0, own, *(float(value) for value in score if 0 <= value <= 1)})


def _after(intern: Record, mentor: Record) -> Record:
    """Return the mentor's record as it is when the intern's whole answer was read and discarded before."""
    discarded = [
        entry.model_copy(update={"purpose": "probe"}) if entry.role == "intern" else entry
        for entry in Ledger.model_validate(intern["ledger"])
    ]
    return _charged(
        mentor, [*discarded, *Ledger.model_validate(mentor["ledger"])], intern["seconds"] + mentor["seconds"]
    )


def _charged(record: Record, entries: Sequence[Entry], seconds: float) -> Record:
    ledger = Ledger.model_construct(entries=list(entries)).model_dump(mode="json")
    return {**record, "ledger": ledger, "seconds": seconds}


def _climb(run: Records, intern: Records, fixed: Mapping[str, Records]) -> SweepChoices:
    """Every level that a problem went on from is a way; the last way of all is how it ended."""
    ids = list(run)
    for one, record in run.items():
        _must_decide(one, record["trace"])
    own = float(max(decision["threshold"] for record in run.values() for decision in record["trace"]))
    passed = [[d for d in record["trace"] if d["action"] != "stop"] for record in run.values()]
    count = max(map(len, passed))
    shape = count + 1, len(ids)
    score, known = np.full(shape, -np.inf), np.ones(shape, dtype=bool)
    score[count] = np.inf
    stops: list[list[Record]] = [[] for _ in range(count)]
    by_level = {QUESTION: intern, "none": intern, **fixed}
    for place, (one, record) in enumerate(run.items()):
        for k in range(count):
            stop = None
            if k < len(passed[place]):
                decision = passed[place][k]
                score[k, place] = decision["sufficiency"]
                stop = _stopped(record, k, by_level.get(decision["level"], {}).get(one))
            known[k, place] = stop is not None
            stops[k].append(record if stop is None else stop)
    by_mentor = np.zeros(shape, dtype=bool)
    by_mentor[count] = [record["answered_by"] == "mentor" for record in run.values()]
    return SweepChoices(
        ids=ids,
        ends=[*(outcomes_of(records) for records in stops), outcomes_of(run.values())],
        known=known,
        by_mentor=by_mentor,
        grid=sorted({own, *(d["sufficiency"] for decisions in passed for d in decisions if d["sufficiency"] < own)}),
        own=own,
        rule="no level's threshold is above this one: what stopped in the run stops there or at an earlier level",
        score=score,
        climbs=True,
    )


def _stopped(record: Record, k: int, at_level: Record | None) -> Record | None:
    """Return a record as it would be, had it stopped at its decision number `k`; None where that is not known.

    What was paid before the draft stays; the draft becomes the whole answer, which the fixed level's record has. An
    eager mentor writes on while the intern drafts, and how far it would have come is a matter of time.
    """
    if at_level is None or at_level["error"] is not None or not _thrifty(record):
        return None
    entries = Ledger.model_validate(record["ledger"]).entries
    asked = [decision["level"] != QUESTION for decision in record["trace"]]
    before = entries[: _drafts(entries)[sum(asked[:k])]] if asked[k] else []
    answers = [e for e in Ledger.model_validate(at_level["ledger"]).select("intern", "answer") if e.error is None]
    paid = [*before, *answers[-1:]]
    return _charged(at_level, paid, sum(entry.seconds for entry in paid))


def _drafts(entries: Sequence[Entry]) -> list[int]:
    """Return where the intern's drafts are among the entries, one for each decision but that on the question alone."""
    return [n for n, e in enumerate(entries) if e.role == "intern" and e.purpose in _DRAFTS and e.error is None]


def _thrifty(record: Record) -> bool:
    """Whether the mentor was asked level by level: before each draft it had written what the draft was made under."""
    entries = Ledger.model_validate(record["ledger"]).entries
    drafts, trace = _drafts(entries), [decision for decision in record["trace"] if decision["level"] != QUESTION]
    if len(drafts) < len(trace):
        return False
    if not trace:
        return True
    bought = [e.usage.completion if e.purpose == "insight" and e.error is None else 0 for e in entries]
    sums = [sum(bought[:at]) for at in drafts[: len(trace)]]
    wanted = [decision["insight_tokens"] for decision in trace]
    if sum(tokens > 0 for tokens in bought) > 1:  # one that cannot continue its text writes some of it twice
        return all(have >= tokens for have, tokens in zip(sums, wanted, strict=True))
    return sums == wanted and sum(bought) == wanted[-1]
