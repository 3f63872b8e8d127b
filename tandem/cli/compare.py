"""`tandem compare`: several strategies on the same problems, whose equal calls are made once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tandem.cli.config_option import config_option
from tandem.cli.data_options import dataset_options
from tandem.cli.grouped import command
from tandem.cli.options import (
    PATH,
    code_options,
    concurrency_option,
    engine_options,
    limit_options,
    make_engine,
    open_code_sandbox,
)
from tandem.cli.output import emit, note, table, warn
from tandem.cli.serving_options import serving_options
from tandem.errors import UsageError
from tandem.words import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tandem.costs import Unit


def _optional(command: Callable[..., Any]) -> Callable[..., Any]:
    """Let the pair and the data set be left out: finished runs need neither. `--strategy` has no place here."""
    kept = []
    for parameter in command.__click_params__:  # type: ignore[attr-defined]
        if parameter.name in ("mentor", "intern", "dataset"):
            parameter.required = False
        if parameter.name != "strategy":
            kept.append(parameter)
    command.__click_params__ = kept  # type: ignore[attr-defined]
    return command


@command()
@click.argument("runs", nargs=-1, type=PATH, metavar="[RUN]...")
@click.option(
    "--strategies",
    default="intern-only,tandem,cascade,route,mentor-only",
    metavar="S,S",
    help="As --strategy of `tandem run` takes them; `tandem strategies` lists them, and `all` is every one. Both "
    "anchors (intern-only, mentor-only) are always included.",
)
@_optional
@engine_options
@serving_options
@dataset_options(several=True)
@code_options
@click.option("--allow-seen", is_flag=True, help="Also take problems that a classifier or predictor was fitted on.")
@concurrency_option(default=16, help="Problems at once.")
@click.option("--parallel", type=click.IntRange(1), default=4, metavar="N", help="Strategies at once.")
@click.option("--out", type=PATH, metavar="DIR", help="Default: runs/<date>-<dataset>-compare.")
@click.option("--resume", type=PATH, metavar="DIR", help="Continue one that was stopped.")
@limit_options
@click.option("--estimate", is_flag=True, help="Estimate what the strategies may cost, and call no model.")
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print compare.json on standard output, nothing else.")
def compare(runs: tuple[Path, ...], strategies: str, as_json: bool, **options: Any) -> None:
    """Compare strategies on the same problems: one table, and one page (report.html) in the folder.

    Each is run as `tandem run` runs it, in a folder of its own. Calls that are equal are made once, and charged to each
    strategy in full. A strategy that the pair cannot run, that fails, or whose run cannot be compared with the others
    is left out by name, with the reason. A comparison that is continued may name more strategies and keeps those that
    it has. Finished RUNs are compared without a model.

    \b
    Examples:
      tandem compare --mentor qwen2.5-coder-1.5b --intern qwen2.5-coder-0.5b --dataset gsm8k --limit 60
      tandem compare --strategies tandem,cascade,random-mix:0.3 --mentor gpt-4o --intern deepseek-7b --dataset math500
      tandem compare --strategies all --unit tflops --mentor M --intern I --dataset gsm8k
      tandem compare --mentor gpt-4o --intern deepseek-7b --dataset gsm8k --estimate
      tandem compare --resume runs/2026-11-25-gsm8k-compare ...      # the same command, with more strategies
      tandem compare runs/monday runs/tuesday runs/wednesday --out compared
    """
    out, resume = options["out"], options["resume"]
    if out and resume:
        raise UsageError("--out starts a comparison and --resume continues one; give one of them")
    if runs:
        if any(options[name] for name in ("mentor", "intern", "dataset")) or resume:
            raise UsageError("finished runs are compared as they are: leave out the models, the data set and --resume")
        _finished(runs, out, options["unit"], as_json)
        return
    for name in ("mentor", "intern", "dataset"):
        if not options[name]:
            raise UsageError(f"--{name} is missing (or name finished runs to compare)")
    _carry_out(strategies, options, as_json)


def _finished(runs: tuple[Path, ...], out: Path | None, unit: Unit | None, as_json: bool) -> None:
    from tandem.reports.comparison import finished_parts, report
    from tandem.runs.store import COMPARE

    if len(runs) < 2:
        raise UsageError("name at least two finished runs")
    if out is None:
        raise UsageError("say where the comparison goes: --out DIR")
    parts = finished_parts(runs)
    if (out / COMPARE).exists():
        raise UsageError(f"{out} already holds a comparison; take another --out")
    out.mkdir(parents=True, exist_ok=True)
    _show(report(out, parts, unit=unit, finished=True), out, as_json)


def _carry_out(strategies: str, options: dict[str, Any], as_json: bool) -> None:
    from tandem.cli.data_options import load_all
    from tandem.cli.live import ComparisonView
    from tandem.cli.run import as_begun, default_folder
    from tandem.cli.session import Session, ready
    from tandem.datasets.loaders import answer_hint
    from tandem.reports.comparison import check_readable, earlier_parts, report
    from tandem.runs.budget import check_prices
    from tandem.runs.compare import Comparison, Part, carry_out, check_unseen, cut_in_parts, estimate_all, strategies_of
    from tandem.runs.index import remember
    from tandem.runs.store import COMPARE
    from tandem.runs.work import Limits

    endpoints = {role: options[f"{role}_endpoint"] for role in ("mentor", "intern")}
    problems, data = load_all(options)
    if not any(problem.gradable for problem in problems):
        hint = answer_hint(data)
        lacking = f"the problems of {data['name']} have no references: there is nothing to compare answers with"
        raise UsageError(f"{lacking}{hint and f' ({hint})'}")
    sandbox = open_code_sandbox(options, problems, graded=not options["estimate"])
    if options["resume"]:
        for name in ("mentor-only", "tandem"):
            as_begun(options, options["resume"] / name)
    engine = make_engine(options | {"strategy": "fixed:low"})  # any that calls both models
    plan = engine.plan()
    names = strategies_of(strategies, plan.ladder, plan.budgets)
    if not options["allow_seen"]:
        check_unseen(engine, names, problems)
    if options["estimate"]:
        found = estimate_all(engine, names, problems)
        emit(found, as_json, lambda: _estimate_view(found))
        return
    max_usd, max_minutes, resume = options["max_usd"], options["max_minutes"], options["resume"]
    check_prices(plan, max_usd)
    folder: Path = resume or options["out"] or default_folder(str(data["name"]), "compare")
    if resume and not folder.is_dir():
        raise UsageError(f"{folder} holds no comparison to continue")
    check_readable(folder)
    if not resume and ((folder / COMPARE).exists() or (folder / "mentor-only").exists()):
        raise UsageError(f"{folder} already holds a comparison; continue it (--resume {folder}) or take another --out")
    limits = Limits.of(max_usd, max_minutes)
    job = Comparison(folder, data, problems, endpoints, options["concurrency"], options["parallel"], limits, sandbox)
    session = Session(folder, f"the same command and --resume {folder}", new=not folder.exists())
    view = ComparisonView()

    async def work() -> list[Part]:
        async with engine:
            await ready(engine, view)
            remember(folder)
            return await carry_out(engine, names, job, view.run)

    parts = session.run(view, work)
    if missing := len(names) - len(parts):
        session.say_limit(f"a limit is reached; {counted(missing, 'strategy', 'strategies')} did not begin")
    warn(cut_in_parts(folder, parts, engine))
    _show(report(folder, [*parts, *earlier_parts(folder, parts)], unit=engine.plan().unit), folder, as_json)


def _show(found: dict[str, Any], folder: Path, as_json: bool) -> None:
    from tandem.reports.page.exports import comparison_view
    from tandem.reports.page.gather import read_comparison
    from tandem.reports.page.writers import write_comparison

    comparison = read_comparison(folder)
    emit(found, as_json, lambda: comparison_view(comparison.figures))
    page, *_ = write_comparison(folder, comparison)
    note(f"the page is {page}")


def _estimate_view(found: dict[str, Any]) -> Iterator[Any]:
    from tandem.costs import LABELS, figure
    from tandem.runs.outcomes import OWN_HARDWARE

    def cost(of: dict[str, Any] | None, unit: Unit) -> str:
        return "unknown" if of is None or of.get(unit) is None else figure(of[unit], unit)

    def cells(name: str, most: dict[str, Any], likely: dict[str, Any] | None) -> list[str]:
        tokens = [f"{most[role]:,}" for role in ("mentor_tokens", "intern_tokens")]
        return [name, *tokens, *(cost(most, unit) for unit in units), *([cost(likely, units[0])] if tuned else [])]

    planned = [one for one in found["strategies"] if "at_most" in one]
    billed = any(one["at_most"]["usd"] is not None for one in planned)
    units: list[Unit] = [found["unit"]]
    units += ["usd"] if billed and "usd" not in units else []
    tuned = any(one["likely"] for one in planned)
    rows = [cells(one["name"], one["at_most"], one["likely"]) for one in planned]
    rows += [cells("all, shared calls once", found["at_most"], None)] if planned else []
    headings = ["strategy", "mentor tokens", "intern tokens", *(LABELS[one] for one in units)]
    headings += [f"likely {LABELS[units[0]]}"] if tuned else []
    yield table(headings, rows, title=f"At most, over {counted(found['problems'], 'problem')}")
    if found["unit"] == "usd":
        yield OWN_HARDWARE
    yield from (f"{one['name']} would be skipped: {one['reason']}" for one in found["strategies"] if "reason" in one)
