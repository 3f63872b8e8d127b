"""`tandem demo`: one problem being solved, as a picture: both models' text, decisions and running cost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from tandem.cli.config_option import config_option
from tandem.cli.default_pair import optional_pair, take_default_pair
from tandem.cli.grouped import command
from tandem.cli.options import PATH, POSITIVE, engine_options, make_engine
from tandem.cli.serving_options import serving_options
from tandem.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from tandem.cli.demo_stage import Stage
    from tandem.engine import Tandem
    from tandem.types import Event, Problem, Solution

_FAKE = "fake"


@optional_pair
@command()
@click.argument("problem", required=False)
@engine_options
@serving_options
@click.option("--task", type=click.Choice(["math", "code", "choice", "general"]), help="Default: guessed.")
@click.option(
    "--dataset",
    default="starter",
    metavar="D",
    help="Where the problem comes from, if none is given: a name or a file.",
)
@click.option("--problem-id", metavar="ID", help="Which of the data set's problems, or of a run's. Default: the first.")
@click.option(
    "--speed",
    type=POSITIVE,
    metavar="N",
    help="At most N tokens a second from each model. Default: as they come; 40 for `fake` and what is recorded.",
)
@config_option
@click.option("--replay", type=PATH, metavar="DIR", help="Show a problem of a finished run; calls no model.")
@click.option(
    "--tour",
    is_flag=True,
    help="A first look in a few minutes: a recorded problem, ten live ones, the table with each model alone, a page.",
)
def demo(
    problem: str | None,
    task: Any,
    dataset: str,
    problem_id: str | None,
    speed: float | None,
    replay: Path | None,
    tour: bool,
    **options: Any,
) -> None:
    """Watch PROBLEM (default: one of our own) being solved: mentor and intern side by side.

    Called alone it plays four real problems that were recorded; with a problem, and no pair, it is the demo pair's.
    Below the models stand the decisions, each with a meter of the sufficiency (the mark is the threshold), and what all
    has cost so far; a call is priced when it ends. Where there is no terminal, or a small one, it is `tandem solve`.

    \b
    Examples:
      tandem demo                                   # recorded problems, without a model
      tandem demo --tour                            # what `make run` shows
      tandem demo --mentor fake --intern fake       # what it looks like
      tandem demo --mentor qwen2.5-coder-1.5b --intern qwen2.5-coder-0.5b
      tandem demo --strategy cascade --problem-id starter-07 --mentor gpt-4o --intern deepseek-7b
      tandem demo --mentor qwen2.5-coder-1.5b --intern qwen2.5-coder-0.5b "What is 17*23?"
      tandem demo --replay runs/2026-11-22-gsm8k-tandem --problem-id gsm8k-test-0007
    """
    from tandem.cli.demo_show import EASY, show
    from tandem.cli.demo_view import fits
    from tandem.cli.output import console as plain_console

    if problem is not None and (problem_id or replay):
        raise UsageError("give a PROBLEM, or a --problem-id, or a run to --replay; one of them")
    if tour and (problem is not None or problem_id or replay):
        raise UsageError("--tour has problems of its own; leave out PROBLEM, --problem-id and --replay")
    console = plain_console()
    picture = fits(console)
    if replay:
        from tandem.cli.demo_replay import open_replay

        stage, events = open_replay(replay, problem_id, (speed or EASY) if picture else speed)
        asyncio.run(show(stage, events, console))
        return
    if tour:
        from tandem.cli.demo_tour import take_tour

        take_tour(options, console)
        return
    if _alone():
        from tandem.cli.demo_recorded import how_to_go_on, play

        asyncio.run(play(console, speed=speed))
        for line in ("", *how_to_go_on()):
            console.print(line, soft_wrap=True)
        return
    take_default_pair(options)
    question = _problem(problem, task, dataset, problem_id)
    engine = make_engine(options)
    if picture and speed is None and {engine.mentor.spec.name, engine.intern.spec.name} == {_FAKE}:
        speed = EASY
    asyncio.run(_solve(engine, question, speed, console, picture))


def _alone() -> bool:
    """Whether the command was called without anything that a live problem would need."""
    ctx = click.get_current_context()
    given = {name for name in ctx.params if ctx.get_parameter_source(name) is not ParameterSource.DEFAULT}
    return given <= {"speed"}


def _problem(text: str | None, task: Any, dataset: str, problem_id: str | None) -> Problem:
    from tandem.cli.data_options import unknown_problem
    from tandem.datasets import load_dataset
    from tandem.types import Problem

    if text is not None:
        return Problem.from_text(text, task=task)
    problems = {problem.id: problem for problem in load_dataset(dataset)}
    if problem_id is not None and problem_id not in problems:
        raise unknown_problem(problem_id, list(problems), dataset)
    return problems[problem_id or next(iter(problems))]


async def _solve(engine: Tandem, problem: Problem, speed: float | None, console: Console, picture: bool) -> None:
    from tandem.cli.demo_show import show
    from tandem.cli.demo_stage import Stage

    async with engine:
        names = {"mentor": engine.mentor.spec.name, "intern": engine.intern.spec.name}
        stage = Stage(engine.plan().strategy_name, names, problem.question, speed)  # type: ignore[arg-type]
        stage.attach(engine)
        if not picture:
            await show(stage, engine.astream(problem, recorder=stage), console)
            return
        with console.status("getting both models ready"):
            await engine.prepare()
        stage.restart()
        await show(stage, _judged(engine, problem, stage), console)


async def _judged(engine: Tandem, problem: Problem, stage: Stage) -> AsyncGenerator[Event, None]:
    """Yield the events of a problem; when the answer is there, grade it and estimate the mentor alone."""
    from tandem.grading import grade
    from tandem.types import Solution

    async with aclosing(engine.astream(problem, ledger=stage.ledger, recorder=stage)) as events:
        async for event in events:
            if isinstance(event, Solution):
                if problem.reference is not None and problem.tests is None:
                    stage.verdict, stage.reference = await grade(problem, event.text), problem.reference
                stage.estimate = _mentor_alone(engine, problem, event)
            yield event


def _mentor_alone(engine: Tandem, problem: Problem, solution: Solution) -> str | None:
    """Return what the mentor alone might have cost, by its usual answer, or at most."""
    from tandem.costs import UNITS, amount
    from tandem.runs.mentor_alone import answer_alone

    alone = answer_alone(engine.plan(), problem, solution)
    if solution.answered_by != "intern":
        return None
    costs = [(unit, alone.cost(engine.mentor.spec, unit)) for unit in UNITS if unit != "mentor_tokens"]
    known = [amount(cost, unit) for unit, cost in costs if cost is not None]
    how = f"at most, by {alone.basis}" if alone.bound else f"estimate, by {alone.basis}"
    return f"the mentor alone ({how}): {', '.join(known)}" if known else None
