"""The runs of a comparison: several strategies over the same models, sharing their calls."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tandem.config import SolveOptions
from tandem.engine import Tandem
from tandem.errors import CapabilityError, LimitReached, UsageError
from tandem.grading import Sandbox
from tandem.ladder import Ladder
from tandem.models.shared import SharedCalls
from tandem.paths import shipped
from tandem.runs.leakage import refuse_seen
from tandem.runs.manifest import describe_run
from tandem.runs.runner import Progress, run
from tandem.runs.store import RunStore
from tandem.runs.work import Limits, work_through
from tandem.spec import Continuation
from tandem.storage.files import write_whole
from tandem.strategies import STRATEGIES, make_strategy
from tandem.types import Problem

SHARED, PROBLEMS = "shared", "problems.jsonl"
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
    """One strategy of a comparison and its run's folder; `reason` says why there is no run."""

    name: str
    folder: str
    reason: str | None = None
    offline: Mapping[str, Any] | None = None


async def carry_out(engine: Tandem, names: Sequence[str], job: Comparison, show: Show) -> list[Part]:
    """Run every strategy that this pair can run; return all of them, each skipped one with its reason.

    `engine` has both models. Finished problems are not repeated. A limit ends the comparison: no further run starts.
    Raises TandemError if a model cannot serve at all.
    """
    await engine.prepare()
    folders, shared = folders_of(names), SharedCalls(job.folder / SHARED)
    ends = None if job.limits.seconds is None else time.monotonic() + job.limits.seconds
    usd = job.limits.usd
    parts: dict[str, Part] = {}

    async def run_one(name: str) -> None:
        nonlocal usd
        try:
            options = _options(engine, name)
            plan = engine.plan(options)
            await engine.prepare(options)
        except (UsageError, CapabilityError) as error:
            parts[name] = Part(name, folders[name], reason=str(error))
            return
        manifest = describe_run(plan, job.data, job.problems, job.endpoints)
        path = job.folder / folders[name]
        store = RunStore.reopen(path, manifest) if (path / "run.json").is_file() else RunStore.create(path, manifest)
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
        parts[name] = Part(name, folders[name], offline=plan.strategy.offline())
        if summary["stopped"]:
            raise LimitReached(summary["stopped"])

    write_problems(job.folder, job.problems)
    # The budget can only be kept by one run at a time.
    await work_through(names, run_one, concurrency=job.at_once if job.limits.usd is None else 1)
    return [parts[name] for name in names if name in parts]


def _options(engine: Tandem, name: str) -> SolveOptions:
    """Return one strategy's options. Shared calls are replayed instantly: an eager mentor would always overshoot."""
    pace = engine.settings.pace
    if pace == "auto":
        pace = "eager" if engine.mentor.spec.continuation in (None, Continuation.NONE) else "thrifty"
    return SolveOptions(strategy=name, pace=pace, intern_logprobs=True)


def write_problems(folder: Path, problems: Sequence[Problem]) -> None:
    """Write the questions beside the runs, for the report; the folder is private to the user."""
    lines = (json.dumps({"problem": p.id, "question": p.question}, ensure_ascii=False) + "\n" for p in problems)
    write_whole(folder / PROBLEMS, "".join(lines))


def check_unseen(engine: Tandem, names: Sequence[str], problems: Sequence[Problem]) -> None:
    """Raise UsageError for problems that a strategy's classifier or predictor was fitted on."""
    for name in names:
        try:
            plan = engine.plan(SolveOptions(strategy=name))
        except UsageError:
            continue  # it is skipped later, with the reason
        refuse_seen(f"'{name}'", plan.saw, problems)


ALL = "all"
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


def folders_of(names: Sequence[str]) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for name in names:
        plain = re.sub(r"[^A-Za-z0-9.=_-]+", "-", name).strip("-.") or "strategy"  # file systems refuse others
        folder, number = plain, 2
        while folder in found.values():
            folder, number = f"{plain}-{number}", number + 1
        found[name] = folder
    return found
