"""Estimating, comparing and tuning from a program: what the commands of these names do, with typed results."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from inspect import signature
from itertools import islice
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar

from tandem.costs import parse_unit
from tandem.datasets import load_dataset
from tandem.display import progress_bar
from tandem.engine import Tandem
from tandem.errors import UsageError, nearest
from tandem.grading import sandbox_for
from tandem.reports.comparison import check_readable, earlier_parts, report
from tandem.reports.page.gather import read_comparison
from tandem.reports.page.writers import write_comparison
from tandem.reports.tune import LADDER, Tuning
from tandem.results import ComparisonResult, CostEstimate, TuningResult
from tandem.runs import compare as runs
from tandem.runs.budget import check_prices
from tandem.runs.estimate import estimate as estimate_plan
from tandem.runs.store import RunStore
from tandem.runs.work import Limits
from tandem.sync import wait
from tandem.training.aims import parse_aim
from tandem.types import Problem

P = ParamSpec("P")
T = TypeVar("T")
Problems = str | Path | Iterable[Problem]
SandboxKind = Literal["bwrap", "process"]


def estimate(
    tandem: Tandem, problems: Problems, *, strategies: str | Sequence[str] | None = None, limit: int | None = None
) -> CostEstimate:
    """Return what solving the problems costs, at most and likely; no model is called.

    `problems` are Problems, a data set's name or a file's path (of which `limit` takes the first), `strategies` names
    as `compare` takes them (None: the strategy of `tandem`). Raises UsageError for what cannot be loaded or is unknown.

    Examples:
        >>> from tandem import Tandem, estimate
        >>> found = estimate(Tandem(mentor="fake", intern="fake"), "starter", limit=10)
        >>> found.problems, found.strategies[0].name, found.strategies[0].at_most["mentor_tokens"] > 0
        (10, 'tandem', True)
    """
    chosen, _ = _load(tandem, problems, limit)
    if strategies is not None:
        return CostEstimate.model_validate(runs.estimate_all(tandem, _names(tandem, strategies), chosen))
    plan = tandem.plan()
    found = estimate_plan(plan, chosen)
    row = {"name": plan.strategy_name, "at_most": found["at_most"], "likely": found["likely"]}
    return CostEstimate.model_validate(
        {"problems": len(chosen), "unit": plan.unit, "strategies": [row], "at_most": found["at_most"]}
    )


async def acompare(
    tandem: Tandem,
    problems: Problems,
    *,
    strategies: str | Sequence[str] = runs.USUAL,
    out: str | Path = "compared",
    limit: int | None = None,
    unit: str | None = None,
    concurrency: int = 16,
    parallel: int = 4,
    max_usd: float | None = None,
    max_minutes: float | None = None,
    allow_seen: bool = False,
    allow_code_execution: bool = False,
    sandbox: SandboxKind = "bwrap",
    progress: bool | None = None,
) -> ComparisonResult:
    """Compare strategies on the same problems, which have references; `compare` is the same in sync code.

    `problems` are Problems, a data set's name or a file's path, of which `limit` takes the first. `strategies` are
    names, as ``"tandem,cascade"`` or as a list, or ``"all"``; both models alone are always among them. Runs,
    compare.json and report.html are written into the folder `out`: the same call goes on where it stopped, and one with
    other strategies adds them. `unit` is what costs are compared in (None: the pair's default). `max_usd` holds in the
    worst case.
    `concurrency` is how many problems of a strategy, `parallel` how many strategies run at once. `allow_seen` takes
    problems that a classifier was fitted on; `allow_code_execution` runs the answers to problems with tests in a
    `sandbox`. `progress` shows a bar; None: in a terminal or a notebook.

    Raises UsageError for what cannot be compared, TandemError where a model cannot serve. A strategy that fails is left
    out, with its reason.

    Examples:
        >>> from tandem import Tandem, compare
        >>> tandem = Tandem(mentor="fake", intern="fake")
        >>> found = compare(tandem, "starter", limit=4, strategies=["tandem"], out="compared")
        >>> [one.name for one in found.strategies]
        ['mentor-only', 'intern-only', 'tandem']
        >>> found.unit, found.page.name, found["tandem"].n
        ('tflops', 'report.html', 4)
    """
    chosen, data = _load(tandem, problems, limit)
    if not any(problem.gradable for problem in chosen):
        raise UsageError("the problems have no references: there is nothing to compare answers with")
    folder, names, plan = Path(out), _names(tandem, strategies), tandem.plan(strategy=_BOTH)
    told = plan.unit if unit is None else parse_unit(unit)
    if not allow_seen:
        runs.check_unseen(tandem, names, chosen)
    check_prices(plan, max_usd)
    check_readable(folder)
    job = runs.Comparison(
        folder,
        data,
        chosen,
        {"mentor": None, "intern": None},
        concurrency,
        parallel,
        Limits.of(max_usd, max_minutes),
        sandbox_for(chosen, allowed=allow_code_execution, kind=sandbox),
    )
    tandem.want("mentor", "intern")
    with progress_bar("comparing", len(names) * len(chosen), progress) as show:
        parts = await runs.carry_out(tandem, names, job, _Count(show).run)
    figures = report(folder, [*parts, *earlier_parts(folder, parts)], unit=told)
    page, *_ = write_comparison(folder, read_comparison(folder))
    found = ComparisonResult.of(figures, folder, page)
    return found.model_copy(update={"notes": (*found.notes, *runs.cut_in_parts(folder, parts, tandem))})


async def atune(
    tandem: Tandem,
    problems: Problems,
    *,
    out: str | Path = "tuned",
    limit: int | None = None,
    holdout: float | int = 0.3,
    effort: str = LADDER,
    unit: str | None = None,
    aim: str = "accuracy",
    concurrency: int = 32,
    max_usd: float | None = None,
    max_minutes: float | None = None,
    seed: int = 0,
    allow_code_execution: bool = False,
    sandbox: SandboxKind = "bwrap",
    progress: bool | None = None,
) -> TuningResult:
    """Tune the pair on the user's problems, and say whether it pays; `tune` is the same in sync code.

    It collects the intern's answers at every level of `effort`, and the mentor's own; trains a classifier; chooses the
    point for `aim` (``accuracy``, ``gain``, ``cost:X`` or ``regret:X``) in `unit` (None: the pair's default); and
    evaluates it on a share or a number of problems, `holdout`, that trained nothing. All is kept in the folder `out`:
    the same call goes on where it stopped, and calls nothing twice. `problems`, `limit` and the rest are those of
    `acompare`; problems without a reference are left out. `Tuning.of(…).estimate()` says before what it costs.

    Raises UsageError for too few problems or a budget that does not suffice, LimitReached where a limit ends it.

    Examples:
        >>> from tandem import Problem, Tandem, tune
        >>> problems = [Problem.from_text(f"What is {i}+0, that is {i}?", reference=str(i)) for i in range(80)]
        >>> found = tune(Tandem(mentor="fake", intern="fake"), problems, out="tuned")
        >>> found.pays, found.serves, found.problems["collected"] + found.problems["held_out"]
        (True, 'tandem', 80)
    """
    chosen, data = _load(tandem, problems, limit)
    limits, graded = Limits.of(max_usd, max_minutes), [problem for problem in chosen if problem.gradable]
    if not graded:
        raise UsageError("the problems have no references: there is nothing to grade answers by")
    check_prices(tandem.plan(strategy=_BOTH), max_usd)
    tuning = Tuning.of(
        tandem,
        graded,
        out,
        data=data,
        holdout=holdout,
        effort=effort,
        unit=None if unit is None else parse_unit(unit),
        aim=parse_aim(aim),
        concurrency=concurrency,
        limits=limits,
        sandbox=sandbox_for(graded, allowed=allow_code_execution, kind=sandbox),
        seed=seed,
    )
    tandem.want("mentor", "intern")
    with progress_bar("collecting", sum(len(job.missing()) for job in tuning.jobs()), progress) as show:
        found = await tuning.arun(progress=lambda collected: show(collected.ended))
    return TuningResult.model_validate(found | {"notes": tuning.notes()})


def _in_sync(work: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]:
    """Return the sync version of a function whose argument `tandem` is an engine."""
    known = signature(work).parameters

    @wraps(work)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        for name in kwargs:
            if name not in known:
                raise nearest(f"argument of {work.__name__.removeprefix('a')}", name, known)
        tandem = args[0] if args else kwargs.get("tandem")
        if isinstance(tandem, Tandem):
            tandem._used_from_sync = True
        return wait(work(*args, **kwargs))

    return run


compare = _in_sync(acompare)
tune = _in_sync(atune)


class _Count:
    """Counts the records of all strategies."""

    def __init__(self, show: Callable[[int], None]) -> None:
        self._show, self._done = show, 0

    @contextmanager
    def run(self, name: str, store: RunStore, total: int) -> Iterator[Callable[[Mapping[str, Any]], None]]:
        self._add(len(store.done()))
        yield lambda record: self._add(1)

    def _add(self, count: int) -> None:
        self._done += count
        self._show(self._done)


def _load(tandem: Tandem, problems: Problems, limit: int | None) -> tuple[list[Problem], dict[str, Any]]:
    """Return the problems and how they were loaded. Raises UsageError for what are none, and for no engine."""
    if not isinstance(tandem, Tandem):
        raise UsageError(f"the first argument is a Tandem, such as Tandem(mentor=…, intern=…), not {tandem!r}")
    if isinstance(problems, str | Path):
        return load_dataset(problems, limit=limit), {"name": str(problems), "split": None, "limit": limit}
    chosen = list(islice(problems, limit)) if isinstance(problems, Iterable) else []
    if not chosen or not all(isinstance(problem, Problem) for problem in chosen):
        raise UsageError(
            "problems are a data set's name, a file's path, or a list of Problems "
            "(Problem.from_text(text, reference=answer))"
        )
    return chosen, {"name": "problems", "split": None, "limit": None}


def _names(tandem: Tandem, strategies: str | Sequence[str]) -> list[str]:
    plan = tandem.plan(strategy=_BOTH)
    return runs.strategies_of(
        strategies if isinstance(strategies, str) else ",".join(map(str, strategies)), plan.ladder, plan.budgets
    )


_BOTH = "fixed:low"  # any strategy that calls both models

__all__ = ["acompare", "atune", "compare", "estimate", "tune"]
