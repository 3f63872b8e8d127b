"""The runs of a comparison: several strategies over the same models, sharing their calls."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args

from tandem.config import SolveOptions
from tandem.engine import Tandem
from tandem.errors import LimitReached, TandemError, UsageError
from tandem.grading import Sandbox
from tandem.ladder import ANSWER, NONE, Ladder
from tandem.ledger import Role, sum_known
from tandem.models.shared import SharedCalls
from tandem.paths import shipped
from tandem.plan import SolvePlan
from tandem.runs.cut import CutAnswers, cut_warnings
from tandem.runs.estimate import estimate
from tandem.runs.leakage import refuse_seen
from tandem.runs.manifest import describe_run, differences, incomparable, name_differences
from tandem.runs.runner import Progress, run
from tandem.runs.store import RUN, RunStore, write_problems
from tandem.runs.work import Limits, work_through
from tandem.spec import Continuation
from tandem.strategies import STRATEGIES, PlannedCall, Strategy, make_strategy
from tandem.strategies.learned import LearnedStrategy
from tandem.types import Problem, TaskKind

Manifest = Mapping[str, Any]
SHARED = "shared"
# Shows one strategy's run, given name, store and number of problems; returns the callback for each record.
Show = Callable[[str, RunStore, int], AbstractContextManager[Progress]]


@dataclass(frozen=True, slots=True)
class Comparison:
    folder: Path
    data: Mapping[str, Any]
    problems: Sequence[Problem]
    endpoints: Mapping[str, str | None]
    concurrency: int = 16  # concurrent problems, in each run
    at_once: int = 4  # runs
    limits: Limits = field(default_factory=Limits)
    sandbox: Sandbox | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """One strategy of a comparison and its run's folder; `reason` says why it has no figures, `note` what is odd."""

    name: str
    folder: str
    reason: str | None = None
    offline: Mapping[str, Any] | None = None
    note: str | None = None


async def carry_out(engine: Tandem, names: Sequence[str], job: Comparison, show: Show) -> list[Part]:
    """Run every strategy that this pair can run; return all of them, each that was skipped or failed with its reason.

    `engine` has both models. Finished problems are not repeated. A limit ends the comparison: no further run starts.
    Raises TandemError if a model cannot serve at all, and UsageError for a folder whose runs are all of something else:
    nothing is asked before that is known.
    """
    await engine.prepare()
    before = runs_in(job.folder)
    folders, shared = folders_of(names, before), SharedCalls(job.folder / SHARED)
    ends = None if job.limits.seconds is None else time.monotonic() + job.limits.seconds
    usd = job.limits.usd
    parts: dict[str, Part] = {}
    planned: dict[str, tuple[SolveOptions, SolvePlan, dict[str, Any]]] = {}
    for name in names:
        try:
            options = _options(engine, name)
            plan = engine.plan(options)
            await engine.prepare(options)
        except TandemError as error:
            parts[name] = Part(name, folders[name], reason=str(error))
            continue
        planned[name] = options, plan, describe_run(plan, job.data, job.problems, job.endpoints)
    _refuse_others(job.folder, before, [manifest for _, _, manifest in planned.values()])

    async def run_one(name: str) -> None:
        nonlocal usd
        options, plan, manifest = planned[name]
        path, old = job.folder / folders[name], before.get(folders[name])
        if old and (found := differences(old, manifest["run"])) and incomparable(old, manifest["run"]) is None:
            told = f"as it was run before, which differs in {name_differences(found)}"
            parts[name] = Part(name, folders[name], note=told)
            return
        store = RunStore.reopen(path, manifest) if old else RunStore.create(path, manifest)
        with store, show(name, store, len(job.problems)) as progress:
            seconds = None if ends is None else max(ends - time.monotonic(), 0.0)
            summary = await run(
                engine,
                job.problems,
                store,
                options=options,
                concurrency=job.concurrency,
                limits=Limits(None if usd is None else max(usd, 1e-9), seconds),
                sandbox=job.sandbox,
                cache=shared,
                progress=progress,
            )
        if usd is not None:
            usd -= (summary["usd_paid"] or 0.0) + (summary["lost"]["usd_bound"] or 0.0)
        advice = plan.strategy.advice if isinstance(plan.strategy, LearnedStrategy) else None
        note = f"its predictor was trained for another pair; one of its own: {advice}" if advice else None
        parts[name] = Part(name, folders[name], offline=plan.strategy.offline(), note=note)
        if summary["stopped"]:
            raise LimitReached(summary["stopped"])

    async def settle(name: str, result: TandemError | None) -> None:
        if result is not None:  # what the others were paid for must not be lost with it
            parts[name] = Part(name, folders[name], reason=str(result))

    write_problems(job.folder, job.problems)
    # The budget can only be kept by one run at a time.
    await work_through(planned, run_one, settle, concurrency=job.at_once if job.limits.usd is None else 1)
    return [parts[name] for name in names if name in parts]


def runs_in(folder: Path) -> dict[str, Manifest]:
    """Return what the manifests say of the runs in a comparison's folder, by their folders' names."""
    stores = {path.parent.name: RunStore.open_for_reading(path.parent) for path in sorted(folder.glob(f"*/{RUN}"))}
    return {name: store.manifest()["run"] for name, store in stores.items()}


def _refuse_others(
    folder: Path, before: Mapping[str, Mapping[str, Any]], manifests: Sequence[Mapping[str, Any]]
) -> None:
    """Raise UsageError where no run of the folder can be compared with what is to be run: another command is meant."""
    differ = [incomparable(old, new["run"]) for old in before.values() for new in manifests[:1]]
    if differ and None not in differ:
        raise UsageError(f"{folder} holds a comparison of something else: {differ[0]}")


def _options(engine: Tandem, name: str) -> SolveOptions:
    """Return one strategy's options. Shared calls are replayed instantly: an eager mentor would always overshoot."""
    pace = engine.settings.pace
    if pace == "auto":
        pace = "eager" if engine.mentor.spec.continuation in (None, Continuation.NONE) else "thrifty"
    return SolveOptions(strategy=name, pace=pace, intern_logprobs=True)


class _AllCalls(Strategy):
    """What all strategies of a comparison ask for, as if it were one strategy."""

    def __init__(self, calls: list[PlannedCall]) -> None:
        self._calls = calls

    def calls(self, *_: object) -> list[PlannedCall]:
        return self._calls


def estimate_all(engine: Tandem, names: Sequence[str], problems: Sequence[Problem]) -> dict[str, Any]:
    """Return what each strategy may cost by itself, and all of them at most: calls that they share are made once.

    No model is asked. A strategy that the pair cannot run has the `reason` instead.
    """
    rows: list[dict[str, Any]] = []
    plans: list[SolvePlan] = []
    for name in names:
        try:
            plan = engine.plan(_options(engine, name))
            own = estimate(plan, problems)
            most = own["at_most"]
            if plan.unit == "usd" and most["usd"] is None and all(plan.model(role).spec.local for role in plan.roles):
                most["usd"] = 0.0  # on own hardware
            rows.append({"name": name, "at_most": most, "likely": own["likely"]})
        except TandemError as error:
            rows.append({"name": name, "reason": str(error)})
        else:
            plans.append(plan)
    whole: dict[str, Any] | None = None
    for kind in dict.fromkeys(problem.task for problem in problems if plans):
        every = replace(plans[0], strategy=_AllCalls(_made_once(plans, kind)), card=None)
        most = estimate(every, [problem for problem in problems if problem.task == kind])["at_most"]
        whole = most if whole is None else {name: sum_known([value, most[name]]) for name, value in whole.items()}
    unit = engine.plan().unit
    return {"problems": len(problems), "unit": unit, "strategies": rows, "at_most": whole}


def _made_once(plans: Sequence[SolvePlan], kind: TaskKind) -> list[PlannedCall]:
    """Return the calls of a problem of a kind in all plans, those that ask the same once, at the longest.

    At the levels of a ladder a question or an insight is put by the same prompt, whatever the strategy.
    """
    usual = {level.name for plan in plans for level in plan.ladder} | {NONE, ANSWER}
    found: dict[Any, PlannedCall] = {}
    for plan in plans:
        seen: Counter[Any] = Counter()
        for call in plan.calls(kind):
            whose = "" if call.level in usual else plan.strategy_name
            key = whose, call.role, call.purpose == "insight", call.level, call.read_tokens
            seen[key] += 1  # several samples of one prompt are several calls
            before = found.get((key, seen[key]))
            if before is None or before.max_tokens < call.max_tokens:
                found[key, seen[key]] = call
    return list(found.values())


def cut_in_parts(folder: Path, parts: Sequence[Part], engine: Tandem) -> list[str]:
    """Return a warning for each role of whose answers too many were cut, with the figures of the worst strategy."""
    roles: Sequence[Role] = get_args(Role)
    caps = {role: engine.settings.max_tokens(role) for role in roles}
    found = []
    for part in parts:
        if part.reason is None and (summary := RunStore.open_for_reading(folder / part.folder).summary()):
            found.append((part.name, CutAnswers.of_summary(summary, part.name)))
    lines: list[str] = []
    for role in roles if found else ():
        name, worst = max(found, key=lambda one, of=role: one[1].share(of))  # type: ignore[misc]
        lines += cut_warnings(worst, caps, engine.models(), f"{name}: ", (role,))
    return lines


def check_unseen(engine: Tandem, names: Sequence[str], problems: Sequence[Problem]) -> None:
    """Raise UsageError for problems that a strategy's classifier or predictor was fitted on."""
    for name in names:
        try:
            plan = engine.plan(SolveOptions(strategy=name))
        except UsageError:
            continue  # it is skipped later, with the reason
        refuse_seen(f"'{name}'", plan.saw, problems)


ALL = "all"
USUAL = "intern-only,tandem,cascade,route,mentor-only"  # what a user would choose among
# These request the most, so that strategies that request less are served from their recorded calls.
_FIRST = ("mentor-only", "intern-only", "fixed")


def strategies_of(text: str, ladder: Ladder, budgets: Mapping[str, int] | None = None) -> list[str]:
    """Read ``a,b,c`` or ``all``; both anchors are always included, and those that request the most come first.

    `ladder` has the levels that ``fixed`` expands to in ``all``, `budgets` their default tokens. Raises UsageError for
    a name that is unknown or repeated, or has a wrong argument; the members of ``all`` are checked when they run.
    """
    asked: list[str] = []
    for name in filter(None, (part.strip() for part in text.split(","))):
        found = every(ladder) if name == ALL else [name]
        if name != ALL:
            make_strategy(name, budgets)
        for one in found:
            if one in asked and name != ALL:
                raise UsageError(f"strategy '{one}' is named twice in '{text}'")
            if one not in asked:
                asked.append(one)
    if not asked:
        raise UsageError(f"no strategy is named in '{text}'; give names, as in tandem,cascade, or {ALL}")
    return in_order([*[anchor for anchor in _FIRST[:2] if anchor not in asked], *asked], ladder)


def every(ladder: Ladder) -> list[str]:
    names: list[str] = []
    ours = sorted(shipped("classifiers").glob("*/published.json"))
    for name in STRATEGIES.names():
        if name == "fixed":
            names += [f"fixed:{level.name}={level.tokens}" for level in ladder if level.tokens]
        elif name == "published":
            names.append(next((f"published:{path.parent}" for path in ours), name))
        elif name == "shepherding":
            names += [f"shepherding:{way}" for way in ("proactive", "reactive", "oracle")]
        else:
            names.append(name)
    return names


def in_order(names: Sequence[str], ladder: Ladder) -> list[str]:
    """Return the names in the best order for sharing calls: long answers and high levels first."""
    tokens = {f"fixed:{level.name}": level.tokens or 0 for level in ladder}

    def place(name: str) -> tuple[int, int]:
        base, _, argument = name.partition(":")
        rank = _FIRST.index(base) if base in _FIRST else len(_FIRST)
        _, equals, number = argument.partition("=")
        budget = int(number) if equals and number.isdecimal() else tokens.get(name, 0)
        return rank, -budget if base == "fixed" else 0

    return sorted(names, key=place)


def folders_of(names: Sequence[str], before: Mapping[str, Manifest] = MappingProxyType({})) -> dict[str, str]:
    """Return a folder's name for each strategy; `before` has the manifests of those that hold a run already."""
    found: dict[str, str] = {}
    taken = {folder: run["strategy"] for folder, run in before.items()}
    for name in names:
        plain = re.sub(r"[^A-Za-z0-9.=_-]+", "-", name).strip("-.") or "strategy"  # file systems refuse others
        folder, number = plain, 2
        while taken.get(folder, name) != name:
            folder, number = f"{plain}-{number}", number + 1
        found[name] = folder
        taken[folder] = name
    return found
