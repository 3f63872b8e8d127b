"""`tandem demo`: one problem being solved, as a picture: both models' text, decisions and running cost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tandem.cli.config_option import config_option
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
_EASY = 40.0  # tokens a second that can be followed, for models that take no time
_FRAMES = 12  # a second


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
    help=f"At most N tokens a second from each model. Default: as they come; {_EASY:g} for `fake` and --replay.",
)
@config_option
@click.option("--replay", type=PATH, metavar="DIR", help="Show a problem of a finished run; calls no model.")
def demo(
    problem: str | None,
    task: Any,
    dataset: str,
    problem_id: str | None,
    speed: float | None,
    replay: Path | None,
    **options: Any,
) -> None:
    """Watch PROBLEM (default: one of our own) being solved: mentor and intern side by side.

    Below them stand the decisions, each with a meter of the sufficiency (the mark is the threshold), and what it all
    has cost so far; a call is priced when it ends. Where there is no terminal, or a small one, it is `tandem solve`.

    \b
    Examples:
      tandem demo                                   # fake models: what it looks like
      tandem demo --mentor qwen2.5-coder-1.5b --intern qwen2.5-coder-0.5b
      tandem demo --strategy cascade --problem-id starter-07 --mentor gpt-4o --intern deepseek-7b
      tandem demo --mentor qwen2.5-coder-1.5b --intern qwen2.5-coder-0.5b "What is 17*23?"
      tandem demo --replay runs/2026-11-22-gsm8k-tandem --problem-id gsm8k-test-0007
    """
    from tandem.cli.demo_view import fits
    from tandem.cli.output import console as plain_console
    from tandem.cli.watch import watch

    if problem is not None and (problem_id or replay):
        raise UsageError("give a PROBLEM, or a --problem-id, or a run to --replay; one of them")
    console = plain_console()
    picture = fits(console)
    if replay:
        from tandem.cli.demo_replay import open_replay

        stage, events = open_replay(replay, problem_id, (speed or _EASY) if picture else speed)
        asyncio.run(_show(stage, events, console) if picture else watch(events, console))
        return
    question = _problem(problem, task, dataset, problem_id)
    engine = make_engine(options)
    if picture and speed is None and {engine.mentor.spec.name, engine.intern.spec.name} == {_FAKE}:
        speed = _EASY
    asyncio.run(_solve(engine, question, speed, console, picture))


for _option in demo.params:
    if _option.name in ("mentor", "intern"):  # the only command that begins without a pair
        _option.required, _option.default = False, _FAKE


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
    from tandem.cli.demo_stage import Stage
    from tandem.cli.watch import watch

    async with engine:
        names = {"mentor": engine.mentor.spec.name, "intern": engine.intern.spec.name}
        stage = Stage(engine.plan().strategy_name, names, problem.question, speed)  # type: ignore[arg-type]
        stage.attach(engine)
        if not picture:
            await watch(engine.astream(problem, recorder=stage), console)
            return
        with console.status("getting both models ready"):
            await engine.prepare()
        stage.restart()
        await _show(stage, _judged(engine, problem, stage), console)


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


async def _show(stage: Stage, events: AsyncGenerator[Event, None], console: Console) -> None:
    """Draw the picture until the last event; then leave the whole of it on the terminal, however it ended."""
    from rich.live import Live

    from tandem.cli.demo_view import DemoView

    try:
        with Live(DemoView(stage, console), console=console, screen=True, auto_refresh=False) as live:

            async def draw() -> None:
                while True:
                    live.refresh()
                    await asyncio.sleep(1 / _FRAMES)

            drawing = asyncio.create_task(draw())
            try:
                async with aclosing(events):
                    async for event in events:
                        stage.take(event)
            finally:
                drawing.cancel()
    finally:
        console.print(DemoView(stage, console, whole=True))
