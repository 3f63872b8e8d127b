"""`tandem tune`: a pair tuned on the user's own problems, from the first estimate to the line that serves it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tandem.cli.config_option import config_option
from tandem.cli.data_options import dataset_options
from tandem.cli.grouped import command
from tandem.cli.options import (
    PATH,
    cap_options,
    chosen_aim_option,
    code_options,
    concurrency_option,
    insight_mode_option,
    limit_options,
    open_code_sandbox,
    pair_options,
    sampling_options,
    unit_option,
)
from tandem.cli.output import emit, note, warn
from tandem.cli.serving_options import serving_options, take_serving
from tandem.errors import LimitReached, TandemError, UsageError

if TYPE_CHECKING:
    from tandem.reports.tune import Tuning
    from tandem.types import Problem


@command()
@pair_options
@insight_mode_option
@serving_options
@dataset_options()
@code_options
@unit_option
@chosen_aim_option
@click.option("--holdout", default="0.3", metavar="SHARE|N", help="The problems that evaluate what was tuned.")
@click.option("--effort", default="none,low,medium,high,answer", metavar="LADDER", help="Levels to collect.")
@sampling_options
@click.option(
    "--seed", type=int, metavar="N", help="Seed for sampling, for drawing problems with --limit, and of the folds."
)
@cap_options(". Default: what its makers advise (thinking models), else 768, of an API 4096.")
@concurrency_option(default=32, help="Problems at once.")
@limit_options
@click.option("--yes", is_flag=True, help="Do not ask before the first request.")
@click.option("--out", type=PATH, metavar="DIR", help="Default: tuned/<dataset>-<mentor>+<intern>.")
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output, nothing else.")
def tune(as_json: bool, yes: bool, **options: Any) -> None:
    """Tune a pair on your own problems, and say whether it pays; the same command continues where it stopped.

    \b
    Examples:
      tandem tune --mentor gpt-4o --intern deepseek-7b --intern-endpoint http://gpu1:8000/v1 --dataset mine.csv
      tandem tune ... --dataset mine.csv --limit 200 --max-usd 2 --yes
      tandem tune ... --dataset mine.csv --unit seconds --aim cost:0.6 --out tuned/cheap

    It shows what the tuning may cost and asks before anything is sent. Then it collects the intern's answers at every
    level of the mentor's help, and the mentor's own; trains a classifier on 70 % of the problems; chooses the point
    that serves --aim in --unit; and evaluates it on the other 30 %, without another call. It ends in a verdict with
    90 % intervals, the files, and the line that serves the pair.
    """
    tuning = _tuning(options)
    plan = tuning.estimate()
    if not as_json or not yes:
        note("\n".join(_plan_lines(plan, tuning)))
    if plan["missing"] and not yes:
        _confirm(plan)
    result = _carry_out(tuning, plan["missing"])
    result |= {"serve": _serve_line(tuning) if result["pays"] else None}
    emit(result, as_json, lambda: _result_lines(result))


def _tuning(options: dict[str, Any]) -> Tuning:
    """Take the options and return the tuning, checked as far as it can be without a request."""
    from tandem.cli.data_options import describe_data, load_problems
    from tandem.cli.session import command_line
    from tandem.collection.holdout import parse_holdout
    from tandem.engine import Tandem
    from tandem.reports.tune import Tuning
    from tandem.runs.budget import check_prices
    from tandem.runs.work import Limits
    from tandem.training.aims import parse_aim

    data = describe_data(options)
    problems = _graded(load_problems(options), data)
    sandbox = open_code_sandbox(options, problems, graded=True)
    minutes, out = options.pop("max_minutes"), options.pop("out")
    how = {
        "data": data,
        "holdout": parse_holdout(options.pop("holdout")),
        **{name: options.pop(name) for name in ("effort", "mentor_max_tokens", "intern_max_tokens")},
        "drawn": any(options[name] is not None for name in ("temperature", "top_p")),
        "unit": options.pop("unit"),
        "aim": parse_aim(options.pop("aim")),
        "limits": Limits.of(options.pop("max_usd"), minutes),
        "concurrency": options.pop("concurrency"),
        "timeout": options["request_timeout"],
        "endpoints": {role: options[f"{role}_endpoint"] for role in ("mentor", "intern")},
        "sandbox": sandbox,
        "seed": options["seed"] or 0,
        "command": command_line(),
    }
    take_serving(options)
    engine = Tandem(strategy="fixed:low", concurrency=how["concurrency"], **options)  # any that calls both models
    names = f"{engine.mentor.spec.name}+{engine.intern.spec.name}".replace("/", "-")
    folder = out or Path("tuned") / f"{Path(str(data['name'])).stem}-{names}"
    check_prices(engine.plan(), how["limits"].usd)
    return Tuning.of(engine, problems, folder, **how)


def _graded(problems: list[Problem], data: Mapping[str, Any]) -> list[Problem]:
    """Return the problems that can be graded. Raises UsageError where none can."""
    from tandem.datasets.loaders import answer_hint

    able = [problem for problem in problems if problem.gradable]
    if not able:
        hint = answer_hint(data) or "add a column `answer`"
        raise UsageError(f"the problems of {data['name']} have no answers to grade with: {hint}")
    if lacking := len(problems) - len(able):
        note(f"{lacking} of {len(problems)} problems have no answer and are left out")
    return able


def _confirm(plan: dict[str, Any]) -> None:
    if not sys.stdin.isatty():
        raise UsageError("nothing was sent; add --yes to begin without a question (no terminal is there to ask)")
    click.confirm("Begin?", abort=True, err=True)


def _carry_out(tuning: Tuning, missing: int) -> dict[str, Any]:
    from tandem.cli.live import CollectionView
    from tandem.cli.session import Session, make_folder, ready, same_command

    session = Session(tuning.out, same_command(), new=make_folder(tuning.out))
    view = CollectionView(missing)

    async def work() -> None:
        if missing:
            async with tuning.engine as engine:
                await ready(engine, view)
                stopped = await tuning.collect(view)
        else:
            stopped = await tuning.collect()
        if stopped:
            raise LimitReached(stopped)

    session.run(view, work)
    warn(tuning.notes(session.again))
    try:
        classifier, why = tuning.train(note)
        return tuning.evaluate(classifier, why)
    except UsageError:
        raise
    except (TandemError, KeyboardInterrupt):
        session.say()
        raise


def _plan_lines(plan: dict[str, Any], tuning: Tuning) -> Iterator[str]:
    """Say what is about to happen, and what it costs."""
    from tandem.costs import LABELS

    engine, counts = tuning.engine, plan["problems"]
    yield (
        f"{engine.mentor.spec.name} and {engine.intern.spec.name} are tuned on {counts['collected']} problems and "
        f"evaluated on {counts['held_out']} that are held out, in {LABELS[plan['unit']]}, for the aim {tuning.aim}."
    )
    if not plan["missing"]:
        yield f"Everything is collected in {tuning.out}; nothing more is sent."
        return
    most, likely, calls = plan["at_most"], plan["likely"], plan["calls"]
    yield (
        f"To collect: {plan['missing']} problems at the levels {tuning.levels}, "
        f"{calls['mentor']:,} calls of the mentor and {calls['intern']:,} of the intern."
    )
    yield (
        f"Likely: {likely['mentor_tokens']:,} tokens of the mentor, {likely['intern_tokens']:,} of the intern"
        f"{_money(likely)}; at most {most['mentor_tokens']:,} and {most['intern_tokens']:,}{_money(most)}."
    )
    if plan["device"]:
        yield plan["device"]
    if plan["paid_usd_bound"]:
        yield f"Spent already: at most US$ {plan['paid_usd_bound']:.2f}, which this does not include."


def _money(found: dict[str, Any]) -> str:
    return "" if found["usd"] is None else f", US$ {found['usd']:.2f}"


def _serve_line(tuning: Tuning) -> str:
    """Return the command that serves the tuned pair, with those of the user's options that serving has too."""
    from tandem.cli.serve import serve
    from tandem.cli.session import command_with

    # The classifier has its own ladder and points, and how many are collected at once says nothing about serving.
    but = {"seed", "effort", "unit", "aim", "concurrency"}
    return command_with(serve, but=but, more=("--classifier", str(tuning.out / "classifier")))


def _result_lines(result: dict[str, Any]) -> Iterator[str]:
    yield result["sentence"]
    paid = result["tuning"]
    if (more := paid["usd_bound"] - (paid["usd"] or 0.0)) >= 0.005:
        yield f"Calls that were cut by a stop may have cost up to US$ {more:.2f} more."
    for name, path in result["files"].items():
        if path:
            yield f"{name}: {path}"
    if result["serve"]:
        yield f"serve it: {result['serve']}"
