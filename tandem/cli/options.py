"""Options that several commands share: the pair, the method, sampling. Names are those of `tandem.Tandem`."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from tandem.cli.completion import model_name, strategy_name
from tandem.cli.grouped import CODE, COST, METHOD, MODELS, Decorator, with_options
from tandem.cli.values import FiniteNumber, UnitName

if TYPE_CHECKING:
    from tandem.engine import Tandem
    from tandem.grading import Sandbox
    from tandem.types import Problem


PATH = click.Path(path_type=Path)
POSITIVE = FiniteNumber(0, min_open=True)
_RATES = [  # what `tandem.models.prices` and `tandem.models.profiles` read
    click.option(
        "--prices",
        type=click.Path(dir_okay=False),
        metavar="FILE",
        help="US$ per million tokens, YAML: `gpt-4o: {input: 2.5, output: 10}`, and if you like cached_input, "
        "cache_write, batch (0.5: half) and date.",
    ),
    click.option(
        "--batch-prices",
        is_flag=True,
        help="Count calls at the vendors' batch prices, for endpoints with a batch tier.",
    ),
    click.option(
        "--usd-per-device-hour",
        type=FiniteNumber(0),
        metavar="X",
        help="What an hour of your own hardware costs, for each device: with a speed profile, its cost in US$.",
    ),
    click.option(
        "--mentor-profile",
        metavar="FILE|ID",
        help="The mentor's speed profile. Default: what `tandem profile` measured where it runs, at the nearest load.",
    ),
    click.option("--intern-profile", metavar="FILE|ID", help="The intern's speed profile."),
    click.option(
        "--assume-load",
        type=click.Choice(["saturated", "interactive"]),
        help="Without a profile, take the usual speeds of such a load by the model's size; marked as assumed.",
    ),
]
_PAIR = [
    click.option(
        "--mentor",
        required=True,
        metavar="M",
        shell_complete=model_name,
        help="The large model: a catalog name, a folder or a hub id.",
    ),
    click.option(
        "--intern",
        required=True,
        metavar="M",
        shell_complete=model_name,
        help="The small model; it must give log-probabilities.",
    ),
    click.option("--mentor-endpoint", metavar="URL", help="OpenAI-compatible base URL that serves the mentor."),
    click.option("--intern-endpoint", metavar="URL", help="OpenAI-compatible base URL that serves the intern."),
    click.option(
        "--mentor-parameters", type=POSITIVE, metavar="N", help="The mentor's parameters, for the cost: 200e9."
    ),
    click.option("--intern-parameters", type=POSITIVE, metavar="N", help="The intern's parameters, for the cost: 7e9."),
]
insight_mode_option = with_options(
    click.option(
        "--insight-mode",
        type=click.Choice(["gpra", "prefix"]),
        help="gpra: the mentor writes notes for the intern; prefix: it begins its own answer, and the intern goes on. "
        "Default: the mode that the catalog has for the mentor.",
    ),
    group=METHOD,
)
_SAMPLING = [
    click.option(
        "--temperature",
        type=FiniteNumber(0, 2),
        metavar="T",
        help="For both models. Default: what each one's makers advise (tandem models show), else 0.",
    ),
    click.option("--top-p", type=FiniteNumber(0, 1, min_open=True), metavar="P", help="Likewise; else 1."),
]
unit_option = with_options(
    click.option(
        "--unit",
        type=UnitName(),
        metavar="UNIT",
        help="What cost is counted in: usd, seconds (of device time), tflops, tflops-published or mentor-tokens. "
        "Default: usd where the mentor has a price, else seconds where there are speed profiles, else tflops. It also "
        "chooses among the classifier's operating points.",
    ),
    group=COST,
)
chosen_aim_option = click.option(  # what `parse_aim` reads; of a classifier that exists, --aim takes what its card has
    "--aim",
    default="accuracy",
    metavar="AIM",
    help="accuracy (the mentor's, for less), gain (most above a random mix of both models at equal cost), cost:X (at "
    "most X times the mentor's cost) or regret:X (at most X less accurate than the mentor, with 90 % confidence).",
)
_METHOD: list[Decorator] = [
    click.option(
        "--strategy",
        default="tandem",
        metavar="S",
        shell_complete=strategy_name,
        help="One that `tandem strategies` lists: tandem, cascade, fixed:medium=200, budget-forcing:300, ….",
    ),
    click.option(
        "--effort",
        metavar="LADDER",
        help="Levels in mentor tokens: none,low=40,medium,high,answer. Default: the classifier's own.",
    ),
    click.option(
        "--pace",
        type=click.Choice(["auto", "eager", "thrifty"]),
        default="auto",
        help="eager: the mentor keeps writing while the intern drafts; thrifty: it is called level by level.",
    ),
    click.option(
        "--draft-tokens", type=click.IntRange(1), metavar="N", help="Tokens drafted before sufficiency is estimated."
    ),
    click.option("--classifier", metavar="C", help="A shipped classifier's id, or a folder. Default: the pair's own."),
    unit_option,
    click.option(
        "--aim",
        metavar="AIM",
        help="Which of the classifier's operating points decides: accuracy, cost:0.8, gain, …, as its card names them. "
        "Default: the one that it was trained for.",
    ),
    *_SAMPLING,
    click.option("--seed", type=int, metavar="N", help="Seed for sampling, and for drawing problems with --limit."),
]
_COUNT = click.IntRange(1)


def cap_options(otherwise: str, **fields: Any) -> Decorator:
    """Return a decorator that adds each model's cap on answers; `otherwise` says what stands without it."""
    return with_options(
        *(
            click.option(
                f"--{role}-max-tokens",
                type=_COUNT,
                metavar="N",
                help=f"Cap on the {role}'s answers{otherwise}",
                **fields,
            )
            for role in ("mentor", "intern")
        ),
        group=METHOD,
    )


rate_options = with_options(*_RATES, group=COST)  # for what calls no model
timeout_option = with_options(
    click.option(
        "--request-timeout", type=POSITIVE, metavar="S", help="Seconds an endpoint may stay silent. Default: 600."
    ),
    group=MODELS,
)
pair_options = with_options(*_PAIR, timeout_option, rate_options, group=MODELS)
sampling_options = with_options(*_SAMPLING, group=METHOD)
engine_options = with_options(  # what `make_engine` reads
    pair_options,
    insight_mode_option,
    with_options(*_METHOD, group=METHOD),
    cap_options(". Default: what its makers advise (thinking models), else 4096."),
)
limit_options = with_options(
    click.option("--max-usd", type=POSITIVE, metavar="X", help="Stop before the cost could exceed this."),
    click.option("--max-minutes", type=POSITIVE, metavar="M", help="Stop after so long."),
)
concurrency_option = partial(click.option, "--concurrency", type=_COUNT, metavar="N")
fit_options = with_options(  # what `fit_classifier` reads
    click.option("--name", metavar="ID", help="The classifier's id. Default: <mentor>+<intern>."),
    click.option("--out", type=PATH, metavar="DIR", help="Default: classifiers/<id>."),
    click.option("--seed", type=int, default=0, metavar="N", help="Seed of the folds by problem."),
    click.option("--hand-over/--no-hand-over", default=True, help="Whether the mentor's answer may be the last level."),
    click.option("--prefix-cache", is_flag=True, help="Price the intern's prompts as with a prefix cache."),
    unit_option,
    rate_options,
)
code_options = with_options(  # what `open_code_sandbox` reads
    click.option(
        "--allow-code-execution",
        is_flag=True,
        help="Run generated code, to grade it (and to choose among samples in best-route).",
    ),
    click.option(
        "--sandbox",
        type=click.Choice(["bwrap", "process"]),
        default="bwrap",
        help="Where generated code runs; `process` needs no bubblewrap and isolates less.",
    ),
    group=CODE,
)


def make_engine(options: dict[str, Any]) -> Tandem:
    from inspect import signature

    from tandem.cli.output import note
    from tandem.cli.serving_options import take_serving
    from tandem.costs import pair_rates
    from tandem.engine import Tandem

    take_serving(options)
    ctx = click.get_current_context(silent=True)
    given = {
        name: options.pop(name) for name in signature(Tandem).parameters if name in options and name != "concurrency"
    }
    engine = Tandem(concurrency=ctx.params.get("concurrency", 1) if ctx else None, **given)
    if ctx and ctx.get_parameter_source("unit") is not ParameterSource.DEFAULT and engine.settings.unit:
        pair_rates(engine.mentor.spec, engine.intern.spec, engine.settings.unit)  # an unknown rate fails now
    if (points := engine.plan().points) and points.note:
        note(points.note)
    return engine


def open_code_sandbox(options: dict[str, Any], problems: Iterable[Problem], *, graded: bool) -> Sandbox | None:
    """Take the sandbox's options out of a command's; return one where code is to be run, else None.

    Raises UsageError where there is code to grade and no permission to run it.
    """
    from tandem.grading import sandbox_for

    kind, allowed = options.pop("sandbox"), options.pop("allow_code_execution")
    return sandbox_for(problems, allowed=allowed, kind=kind) if graded else None
