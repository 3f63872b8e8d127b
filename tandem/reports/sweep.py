"""Thresholds replayed on the records of a finished run, beside those of both models alone: no model is asked.

Each problem has a few possible ends, its options, and takes the first whose score reaches the threshold. A run with one
decision a problem (`cascade`, `route`, `random-mix`) is replayed exactly: the problem ends with the intern's record or
with the mentor's. A run of `tandem` can only be stopped earlier: what lies behind the level where it stopped was never
asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tandem.errors import UsageError
from tandem.ladder import ANSWER, QUESTION, Effort, parse_ladder
from tandem.ledger import Entry, Ledger
from tandem.reports.comparison import INTERN_ONLY, MENTOR_ONLY, graded_otherwise
from tandem.reports.page.gather import read_comparison
from tandem.runs.listing import current_summary, state
from tandem.runs.manifest import incomparable
from tandem.runs.outcomes import AXES, OWN_HARDWARE, RunOutcomes, count_own_hardware, outcomes_of, unit_of
from tandem.runs.store import COMPARE, Record, RunStore
from tandem.statistics.chord import chord
from tandem.statistics.intervals import UNKNOWN, Bootstrap, interval
from tandem.statistics.significance import wilson
from tandem.strategies.random_mix import RandomMix, coin
from tandem.training.replay import BatchVerdicts
from tandem.words import counted

SWEPT = ("cascade", "route", "random-mix", "tandem")
WARNING = (
    "these are the problems that the figures are of: a threshold that is chosen here is chosen on the test set; "
    "choose on some problems, report on others"
)
_CHUNK = 256  # thresholds at once
_DRAFTS = ("probe", "answer")
Records = Mapping[str, Record]


@dataclass
class Runs:
    """The finished runs of one sweep, by the names of their strategies; `swept` are those whose thresholds are meant.

    Both anchors are among them.
    """

    stores: dict[str, RunStore]
    swept: list[str]
    folder: Path
    warnings: list[str] = field(default_factory=list)

    def strategy(self, name: str) -> str:
        """Return a run's own strategy: a comparison of several runs of one gives them names of its own."""
        return str(self.stores[name].manifest()["run"]["strategy"])


def runs_of_comparison(folder: Path, strategy: str | None) -> Runs:
    """Return the runs of a comparison; `strategy` names the one to sweep (None: all that can be).

    Raises UsageError where none can be, or an anchor is missing.
    """
    comparison = read_comparison(folder)
    rows = comparison.figures["strategies"]
    stores = {rows[place]["name"]: store for place, store in comparison.stores.items()}
    runs = Runs(stores, [], folder, list(comparison.warnings))
    base = {name: _base(runs.strategy(name)) for name in stores}
    if strategy is not None and strategy not in stores:
        why = next((row.get("reason") for row in rows if row["name"] == strategy), None)
        raise UsageError(f"'{strategy}' was not run in {folder}: {why or 'it has runs of ' + ', '.join(stores)}")
    runs.swept = [strategy] if strategy else [name for name in stores if base[name] in SWEPT]
    if not runs.swept:
        raise UsageError(f"{folder} has no run of a strategy that can be swept: {', '.join(SWEPT)}")
    for anchor in (INTERN_ONLY, MENTOR_ONLY):
        if anchor not in stores:
            raise UsageError(f"{folder} has no run of {anchor}, which a replay needs")
    needed = {INTERN_ONLY, MENTOR_ONLY, *runs.swept, *(name for name in stores if base[name] == "fixed")}
    runs.stores = {name: store for name, store in stores.items() if name in needed}
    return _checked(runs)


def runs_of_folders(folder: Path, intern: Path | None, mentor: Path | None, levels: Sequence[Path]) -> Runs:
    """Return a run with those of both models alone, and of fixed levels (which only `tandem` needs).

    Raises UsageError for missing ones, and for runs of another strategy.
    """
    own = RunStore.open_for_reading(folder)
    name = own.manifest()["run"]["strategy"]
    if intern is None or mentor is None:
        beside = folder.resolve().parent
        hint = f" (or sweep the comparison: {beside})" if (beside / COMPARE).is_file() else ""
        raise UsageError(f"a replay needs both models alone: give --intern-run DIR and --mentor-run DIR{hint}")
    stores = {name: own}
    for path, wanted in ((intern, INTERN_ONLY), (mentor, MENTOR_ONLY), *((path, "fixed") for path in levels)):
        store = RunStore.open_for_reading(path)
        found = store.manifest()["run"]["strategy"]
        if _base(found) != wanted:
            raise UsageError(f"{path} is a run of '{found}', and one of '{wanted}' is needed")
        stores[found] = store
    return _checked(Runs(stores, [name], folder))


def _base(name: str) -> str:
    return name.partition(":")[0]


def _checked(runs: Runs) -> Runs:
    """Raise UsageError for runs that are not finished, or differ in more than their strategy."""
    for name, store in runs.stores.items():
        summary = current_summary(store)
        if (now := state(store, summary)) != "finished":
            raise UsageError(
                f"{name} in {store.folder} is {now} at {counted(summary['n'], 'problem')}: finish it first (--resume)"
            )
    (first, one), *others = ((name, store.manifest()["run"]) for name, store in runs.stores.items())
    for name, other in others:
        if why := incomparable(one, other):
            raise UsageError(f"{first} and {name} cannot be compared: {why}")
    return runs


def sweep(runs: Runs, *, seed: int = 0) -> dict[str, Any]:
    """Return the figures of every threshold that changes something, for each run that is swept.

    Costs are means of a problem in the units of a comparison, gains in accuracy over the chord between both models
    alone at equal cost, with paired 95 % intervals. Raises UsageError for a run that cannot be replayed.
    """
    records = {name: {r["problem"]: r for r in store.records()} for name, store in runs.stores.items()}
    whole = {name: outcomes_of(own.values()) for name, own in records.items()}
    (first_name, one), *others = whole.items()
    for name, other in others:
        if why := graded_otherwise(one, other):
            raise UsageError(f"{first_name} and {name} cannot be compared: {why}")
    free = count_own_hardware(whole.values())
    for store in runs.stores.values():
        runs.warnings += store.warnings
    first = next(iter(runs.stores.values())).manifest()["run"]
    tossed = first["settings"]["sampling"]["seed"] or 0
    strategies = {name: runs.strategy(name) for name in runs.stores}
    return {
        "folder": str(runs.folder),
        "pair": {role: first[role]["name"] for role in ("mentor", "intern")},
        "dataset": first["dataset"],
        "unit": unit_of(whole.values()),
        "units": list(AXES),
        "synthetic": any(record["synthetic"] for own in records.values() for record in own.values()),
        "notes": [OWN_HARDWARE] if free else [],
        "warning": WARNING,
        "sweeps": [_figures(name, records, strategies, tossed, seed) for name in runs.swept],
    }


def _figures(
    name: str, records: Mapping[str, Mapping[str, Record]], strategies: Mapping[str, str], sampling: int, seed: int
) -> dict[str, Any]:
    """Return one run's sweep; `sampling` is the seed that coins were tossed with."""
    own, anchors = records[name], [records[key] for key in (INTERN_ONLY, MENTOR_ONLY)]
    failed = sum(record["error"] is not None for record in own.values())
    graded = [{one for one, record in found.items() if record["correct"] is not None} for found in (own, *anchors)]
    ids = [one for one, record in own.items() if record["error"] is None and all(one in run for run in graded)]
    if not ids:
        raise UsageError(f"no problem of {name} was graded in it and in both models' own runs")
    fixed = {_level(strategies[key]): found for key, found in records.items() if _base(strategies[key]) == "fixed"}
    swept = {one: own[one] for one in ids}
    try:
        options = options_of(strategies[name], swept, anchors[0], anchors[1], fixed, sampling)
    except UsageError as error:
        raise UsageError(f"'{name}' cannot be swept: {error}") from None
    run, cheap, expensive = (outcomes_of(found[one] for one in ids) for found in (swept, *anchors))
    count_own_hardware([run, cheap, expensive, *options.ends])
    at_own = _taken(options, [options.own])
    return {
        "strategy": name,
        "rule": options.rule,
        "n": len(ids),
        "failed": failed,  # problems without a decision: in no figure
        "not_judged": len(own) - failed - len(ids),
        "own_threshold": options.own,
        "as_run": _point(run),
        "differently_in_the_run": int((at_own.correct[:, 0] != run.correct).sum()),
        "uncalibrated": any(not decision["calibrated"] for record in swept.values() for decision in record["trace"]),
        "anchors": {INTERN_ONLY: _point(cheap), MENTOR_ONLY: _point(expensive)},
        "rows": _rows(options, (cheap, expensive), seed),
    }


def _level(name: str) -> str:
    (level,) = parse_ladder(name.partition(":")[2])
    return level.name


def _point(run: RunOutcomes) -> dict[str, Any]:
    return {"accuracy": float(run.correct.mean()), "cost": {unit: run.mean(unit) for unit in AXES}}


@dataclass(frozen=True)
class _Taken:
    """What problems come to at several thresholds, (problems, thresholds) each; None for a cost that is not known."""

    correct: np.ndarray
    by_mentor: np.ndarray
    known: np.ndarray
    cost: Mapping[str, np.ndarray | None]


def _taken(options: SweepOptions, thresholds: Sequence[float]) -> _Taken:
    choice = options.choose(thresholds)
    each = np.arange(len(options.ids))[:, None]

    def take(by_option: Sequence[np.ndarray]) -> np.ndarray:
        found: np.ndarray = np.stack(by_option)[choice, each]
        return found

    unknown = {unit for unit in AXES if any(end.cost[unit] is None for end in options.ends)}
    cost = {unit: None if unit in unknown else take([end.costs(unit) for end in options.ends]) for unit in AXES}
    return _Taken(take([end.correct for end in options.ends]), take(options.by_mentor), take(options.known), cost)  # type: ignore[arg-type]


def _rows(options: SweepOptions, anchors: Sequence[RunOutcomes], seed: int) -> list[dict[str, Any]]:
    boot = Bootstrap(len(options.ids), seed=seed)
    rows: list[dict[str, Any]] = []
    for at in range(0, len(options.grid), _CHUNK):
        part = options.grid[at : at + _CHUNK]
        taken = _taken(options, part)
        accuracy = boot.mean(taken.correct)
        gains: dict[str, np.ndarray] = {}
        for unit, cost in taken.cost.items():
            if cost is not None and all(run.cost[unit] is not None for run in anchors):
                ends = [(boot.mean(run.costs(unit))[:, None], boot.mean(run.correct)[:, None]) for run in anchors]
                gains[unit] = accuracy - chord(boot.mean(cost), *ends)
        rows += [_row(options, threshold, taken, gains, k) for k, threshold in enumerate(part)]
    return rows


def _row(
    options: SweepOptions, threshold: float, taken: _Taken, gains: Mapping[str, np.ndarray], k: int
) -> dict[str, Any]:
    undetermined = int((~taken.known[:, k]).sum())
    row: dict[str, Any] = {"threshold": threshold, "own": threshold == options.own, "undetermined": undetermined}
    if undetermined:  # figures of the others would be of other problems than those of the next row
        row |= {"mentor_answers": None, "accuracy": None, "accuracy_ci95": None, "cost": dict.fromkeys(AXES)}
        return row | {"gain_over_chord": dict.fromkeys(AXES, UNKNOWN)}
    n, right = len(options.ids), int(taken.correct[:, k].sum())
    return row | {
        "mentor_answers": float(taken.by_mentor[:, k].mean()),
        "accuracy": right / n,
        "accuracy_ci95": list(wilson(right, n) or ()),
        "cost": {unit: None if cost is None else float(cost[:, k].mean()) for unit, cost in taken.cost.items()},
        "gain_over_chord": {unit: interval(gains[unit][:, k]) if unit in gains else UNKNOWN for unit in AXES},
    }


@dataclass(frozen=True)
class SweepOptions:
    """The options of a run's problems: `ends` has one set of outcomes for each, in the order of `ids`.

    Arrays are (options, problems). `known` is False where no record shows an option, `by_mentor` says whether the
    mentor answers. `score` is infinite for the last option, and -infinite for those that a problem does not have.
    """

    ids: list[str]
    ends: Sequence[RunOutcomes]
    known: np.ndarray
    by_mentor: np.ndarray
    score: np.ndarray
    grid: list[float]  # thresholds at which something changes, ascending
    own: float
    rule: str

    @cached_property
    def _verdicts(self) -> BatchVerdicts:
        """The options as levels of a ladder without upgrades: what is sufficient ends the problem."""
        present = self.score > -np.inf
        order = np.arange(len(self.score))
        later = (order[:, None] < order)[:, :, None] & present
        ladder = (*(Effort(name=str(k), tokens=0) for k in order[:-1]), Effort(name=ANSWER, tokens=None))
        return BatchVerdicts(ladder, self.score, present, later)

    def choose(self, thresholds: Sequence[float]) -> np.ndarray:
        """Return the number of the option that each problem takes at each threshold, (problems, thresholds)."""
        names = [str(k) for k in range(len(self.score) - 1)]
        at, handed_over = self._verdicts.decide([dict.fromkeys(names, threshold) for threshold in thresholds], None)
        return np.where(handed_over, len(names), at).T


def options_of(
    name: str, run: Records, intern: Records, mentor: Records, fixed: Mapping[str, Records], seed: int
) -> SweepOptions:
    """Return the options of a run's problems; each of them must have a record in all three runs.

    `fixed` has the records of fixed levels, by the level's name. Raises UsageError for a run that cannot be swept.
    """
    base = _base(name)
    if base not in SWEPT:
        raise UsageError(f"strategy '{name}' has no threshold that can be replayed; {', '.join(SWEPT)} have")
    if base == "tandem":
        return _levels(run, intern, fixed)
    return _one_decision(name, run, intern, mentor, seed)


def _one_decision(name: str, run: Records, intern: Records, mentor: Records, seed: int) -> SweepOptions:
    """The first option is the model whose score must reach the threshold: the mentor for `route`, else the intern."""
    (base, _, argument), ids = name.partition(":"), list(run)
    rule = "the intern's answer stands where the sufficiency is at least the threshold"
    if base == "random-mix":
        own, rule = RandomMix.of(argument or None, {}).share, "the mentor answers this share of the problems, by coin"
        score = [coin(one, seed) for one in ids]
    else:
        decisions = [_single(one, record) for one, record in run.items()]
        own, *others = sorted({decision["threshold"] for decision in decisions})
        if others:
            several = ", ".join(f"{v:g}" for v in [own, *others][:3])
            raise UsageError(f"the run had several thresholds ({several}, …)")
        if base == "route":
            rule = "the mentor answers where its predicted gain is at least the threshold"
            score = [decision["signals"]["gain"] for decision in decisions]
        else:
            score = [decision["sufficiency"] for decision in decisions]
    discards = base == "cascade"
    ends = [
        outcomes_of(intern[one] for one in ids),
        outcomes_of(_after(intern[one], mentor[one]) if discards else mentor[one] for one in ids),
    ]
    by_mentor = np.repeat([[False], [True]], len(ids), axis=1)
    if base == "route":
        ends, by_mentor = ends[::-1], by_mentor[::-1]
    return SweepOptions(
        ids=ids,
        ends=ends,
        known=np.ones((2, len(ids)), dtype=bool),
        by_mentor=by_mentor,
        score=np.asarray([score, np.full(len(ids), np.inf)]),
        grid=sorted({0.0, 1.0, own, *(float(value) for value in score if 0 <= value <= 1)}),
        own=own,
        rule=rule,
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


def _levels(run: Records, intern: Records, fixed: Mapping[str, Records]) -> SweepOptions:
    """Every level that a problem went on from is an option; the last option of all is how it ended."""
    ids = list(run)
    for one, record in run.items():
        _must_decide(one, record["trace"])
    own = float(max(decision["threshold"] for record in run.values() for decision in record["trace"]))
    passed = [[d for d in record["trace"] if d["action"] != "stop"] for record in run.values()]
    count = max(map(len, passed))
    shape = count + 1, len(ids)
    score, known, by_mentor = np.full(shape, -np.inf), np.ones(shape, dtype=bool), np.zeros(shape, dtype=bool)
    score[count], by_mentor[count] = np.inf, [record["answered_by"] == "mentor" for record in run.values()]
    stops = [list(run.values()) for _ in range(count + 1)]
    by_level = {QUESTION: intern, "none": intern, **fixed}
    for place, (one, record) in enumerate(run.items()):
        for k, decision in enumerate(passed[place]):
            score[k, place] = decision["sufficiency"]
            stop = _stopped(record, k, by_level.get(decision["level"], {}).get(one))
            known[k, place] = stop is not None
            stops[k][place] = record if stop is None else stop
    return SweepOptions(
        ids=ids,
        ends=[outcomes_of(records) for records in stops],
        known=known,
        by_mentor=by_mentor,
        score=score,
        grid=sorted({own, *(d["sufficiency"] for decisions in passed for d in decisions if d["sufficiency"] < own)}),
        own=own,
        rule="no level's threshold is above this one: what stopped in the run stops there or at an earlier level",
    )


def _stopped(record: Record, k: int, at_level: Record | None) -> Record | None:
    """Return a record as it would be, had it stopped at its decision number `k`; None where that is not known.

    What was spent before the draft stays; the draft becomes the whole answer, which the fixed level's record has. An
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
    written = [e.usage.completion if e.purpose == "insight" and e.error is None else 0 for e in entries]
    sums = [sum(written[:at]) for at in drafts[: len(trace)]]
    wanted = [decision["insight_tokens"] for decision in trace]
    if sum(tokens > 0 for tokens in written) > 1:  # one that cannot continue its text writes some of it twice
        return all(have >= tokens for have, tokens in zip(sums, wanted, strict=True))
    return sums == wanted and sum(written) == wanted[-1]
