"""`tandem run`: a strategy over a data set, graded, written down as it goes, resumable."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tandem.cli.config_option import config_option, from_file
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
from tandem.cli.output import emit, note, warn
from tandem.cli.serving_options import serving_options
from tandem.errors import TandemError, UsageError

if TYPE_CHECKING:
    from tandem.engine import Tandem
    from tandem.models.call import Recorder
    from tandem.plan import SolvePlan
    from tandem.runs.store import RunStore
    from tandem.types import Problem


@command()
@engine_options
@serving_options
@dataset_options(several=True)
@code_options
@click.option("--no-grade", is_flag=True, help="Do not grade; `tandem grade DIR` does it later.")
@click.option("--allow-seen", is_flag=True, help="Also solve problems that the classifier was fitted on.")
@concurrency_option(default=16, help="Problems at once.")
@click.option("--out", type=PATH, metavar="DIR", help="Default: runs/<date>-<dataset>-<strategy>.")
@click.option("--resume", type=PATH, metavar="DIR", help="Continue a run that was stopped.")
@limit_options
@click.option("--estimate", is_flag=True, help="Estimate what the run may cost, and call no model.")
@click.option(
    "--cache",
    type=PATH,
    is_flag=False,
    flag_value=".",
    metavar="[DIR]",
    help="Cache whole answers and return them for the same request (default DIR: ~/.cache/tandem/responses).",
)
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON on standard output, nothing else.")
def run(
    no_grade: bool,
    allow_seen: bool,
    concurrency: int,
    out: Path | None,
    resume: Path | None,
    max_usd: float | None,
    max_minutes: float | None,
    estimate: bool,
    cache: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Solve the problems of a data set and write run.json, records.jsonl, calls.jsonl and summary.json.

    \b
    Examples:
      tandem run --mentor qwen2.5-coder-1.5b --intern qwen2.5-coder-0.5b --dataset starter --limit 10
      tandem run --mentor gpt-4o --intern deepseek-7b --dataset math500 --effort none,low,medium,high,answer
      tandem run --mentor qwen3-32b --mentor-endpoint http://gpu1:8000/v1 \\
                 --intern deepseek-7b --intern-endpoint http://gpu2:8000/v1 --dataset gsm8k --json
      tandem run --mentor gpt-4o --intern deepseek-7b --dataset gsm8k --estimate
      tandem run --mentor gpt-4o --intern deepseek-7b --dataset gsm8k --max-usd 5 --max-minutes 60
      tandem run --mentor qwen2.5-32b --mentor-gpus 0,1 --mentor-tensor-parallel 2 \\
                 --intern deepseek-7b --intern-gpus 2,3 --dataset math500     # vLLM replicas of its own
      tandem run ... --dataset humaneval --allow-code-execution
      tandem run ... --dataset questions.jsonl --out answers     # without references: accuracy is null
      tandem run --config pair.yaml --limit 10                   # flags win over the file
      tandem run ... --resume runs/2026-11-22-gsm8k-tandem
    """
    from tandem.cli.data_options import load_all
    from tandem.datasets.loaders import answer_hint
    from tandem.runs.budget import check_prices
    from tandem.runs.estimate import estimate as estimate_run
    from tandem.runs.estimate import estimate_view
    from tandem.runs.leakage import refuse_seen
    from tandem.runs.manifest import describe_run
    from tandem.runs.store import RunStore, write_problems
    from tandem.runs.work import Limits

    if out and resume and from_file("out") != from_file("resume"):  # what was typed wins over the file
        out, resume = (None, resume) if from_file("out") else (out, None)
    _check_folders(out, resume)
    endpoints = {role: options[f"{role}_endpoint"] for role in ("mentor", "intern")}
    problems, data = load_all(options)
    sandbox = open_code_sandbox(options, problems, graded=not (no_grade or estimate))
    if resume:
        as_begun(options, resume)
    engine = make_engine(options)
    plan = engine.plan()
    if not allow_seen:
        what = f"classifier '{plan.card.id}'" if plan.card else f"the predictor of '{plan.strategy_name}'"
        refuse_seen(what, plan.saw, problems)
    if estimate:
        found = estimate_run(plan, problems)
        emit(found, as_json, lambda: estimate_view(found, plan))
        return
    check_prices(plan, max_usd)
    if not no_grade and not any(problem.gradable for problem in problems):
        note(f"nothing can be graded: no problem has an answer{(hint := answer_hint(data)) and f'; {hint}'}")
    how = {
        "concurrency": concurrency,
        "limits": Limits.of(max_usd, max_minutes),
        "sandbox": sandbox,
        "grading": not no_grade,
        "cache": _cache(cache),
    }
    manifest = describe_run(plan, data, problems, endpoints)
    folder = resume or out or default_folder(str(data["name"]), plan.strategy_name)
    store = RunStore.reopen(folder, manifest) if resume else RunStore.create(folder, manifest)
    write_problems(folder, problems)
    warn(store.warnings)
    _carry_out(engine, problems, store, how, as_json)
    if not as_json and any(plan.for_kind(kind).mismatch for kind in {problem.task for problem in problems}):
        note(_hint(plan, str(data.get("parts", [data])[0]["name"])))


def _hint(plan: SolvePlan, dataset: str) -> str:
    """Return the advice for an uncalibrated run on a data set, with the user's own options: it works as it is."""
    from tandem.cli.session import command_with
    from tandem.cli.tune import tune
    from tandem.runs.calibration_hint import PROBLEMS, calibration_hint

    if dataset == "starter":  # our own problems, too few to tune on
        dataset = "mine.csv"
    own = Path(dataset).is_file() or dataset == "mine.csv"
    # Which of the problems were run, and by which method and within which limits, is not what tuning is about.
    but = {"dataset", "limit", "skip", "holdout_of", "effort", "concurrency", "out", "max_usd", "max_minutes", "config"}
    more = ("--dataset", dataset)
    return calibration_hint(plan, command_with(tune, but=but, more=more if own else (*more, "--limit", str(PROBLEMS))))


def _carry_out(engine: Tandem, problems: list[Problem], store: RunStore, how: dict[str, Any], as_json: bool) -> None:
    from tandem.cli.live import RunView
    from tandem.cli.session import Session, ready
    from tandem.reports.run import run_verdict, summary_view
    from tandem.runs.cut import CutAnswers, cut_warnings
    from tandem.runs.index import remember
    from tandem.runs.runner import run as run_all

    def show(summary: dict[str, Any] | None) -> None:
        if summary is not None:
            emit(summary, as_json, lambda: summary_view(summary, engine.plan().describe()))

    def verdict(plan: SolvePlan, store: RunStore) -> dict[str, Any] | None:
        known = {"card": plan.nearest, "cap": plan.settings.mentor_max_tokens}
        found = run_verdict(store, plan.mentor.spec, plan.intern.spec, plan.unit, **known)
        return found.model_dump(mode="json") if found else None

    async def work() -> dict[str, Any]:
        async with engine:
            remember(store.folder)
            if len(store.done()) < len(problems):
                await ready(engine, view)
            return await run_all(engine, problems, store, progress=view, verdict=verdict, **how)

    session = Session(
        store.folder,
        f"the same command and --resume {store.folder}",
        on_stop=lambda: show(store.summary()),
        new=store.new,
    )
    with store:
        view = RunView(len(problems), store.records())
        summary = session.run(view, work)
    show(summary)
    session.say_limit(summary["stopped"])
    if not summary["stopped"] and summary["errors"]:
        if summary["errors"] == summary["n"]:
            first = next((str(record["error"]) for record in store.records() if record["error"]), "")
            raise TandemError(f"every problem failed; the first error: {first} (records in {store.folder})")
        note(f"{summary['errors']} failed. To try those again: {session.again}")
    caps = {role: engine.settings.max_tokens(role) for role, _ in engine.models()}
    warn(cut_warnings(CutAnswers.of_summary(summary, engine.plan().strategy_name), caps, engine.models()))
    if not as_json:
        note(f"records in {store.folder}")


def as_begun(options: dict[str, Any], folder: Path) -> None:
    """Give options that the user left out the defaults that the run in a folder, if there is one, was begun with."""
    from tandem.runs.manifest import older_defaults
    from tandem.runs.store import RUN, RunStore

    if (folder / RUN).is_file():
        begun = older_defaults(RunStore.open_for_reading(folder).manifest())
        options |= {name: value for name, value in begun.items() if options[name] is None}


def _check_folders(out: Path | None, resume: Path | None) -> None:
    """Raise UsageError for both at once, and for an empty value, as of a variable that is not set."""
    if out and resume:
        raise UsageError("--out starts a run and --resume continues one; give one of them")
    for name, given in (("--out", out), ("--resume", resume)):
        if given == Path():
            raise UsageError(f"{name} needs a folder of its own")


def _cache(folder: Path | None) -> Recorder | None:
    if folder is None:
        return None
    from tandem.models.cache import ResponseCache
    from tandem.paths import cache_dir

    return ResponseCache(cache_dir() / "responses" if folder == Path() else folder)


def default_folder(dataset: str, strategy: str) -> Path:
    from datetime import UTC, datetime

    named = "+".join(Path(name).stem for name in dataset.split("+"))  # those of a run over several
    plain = "".join(c if c.isalnum() or c in "-_." else "-" for c in f"{named}-{strategy}")
    stem = f"{datetime.now(UTC):%Y-%m-%d}-{plain}"
    folder, number = Path("runs") / stem, 2
    while folder.exists():
        folder, number = Path("runs") / f"{stem}-{number}", number + 1
    return folder
