"""`tandem solve`: one problem, watched as it is solved."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from tandem.cli.config_option import config_option
from tandem.cli.default_pair import optional_pair, take_default_pair
from tandem.cli.grouped import command
from tandem.cli.options import engine_options, make_engine
from tandem.cli.output import console
from tandem.cli.serving_options import serving_options
from tandem.errors import UsageError

if TYPE_CHECKING:
    from tandem.types import Solution


@optional_pair
@command()
@click.argument("problem")
@engine_options
@serving_options
@click.option("--task", type=click.Choice(["math", "code", "choice", "general"]), help="Default: guessed.")
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print the solution as JSON on standard output, nothing else.")
def solve(problem: str, task: Any, as_json: bool, **options: Any) -> None:
    """Solve PROBLEM (a dash reads it from standard input) and watch insight, decisions and answer arrive.

    \b
    Examples:
      tandem solve "What is 17*23?"                 # the demo pair, once its weights are here
      tandem solve --config pair.yaml "What is 17*23?"
      tandem solve --mentor qwen2.5-coder-1.5b --intern qwen2.5-coder-0.5b "What is 17*23?"
      tandem solve --mentor gpt-4o --intern deepseek-7b --effort none,low,answer - < problem.txt
      tandem solve --mentor fake --intern fake --json "What is 17*23?"
    """
    import asyncio

    from tandem.cli.watch import watch

    try:
        text = sys.stdin.read() if problem == "-" else problem
        text.encode()  # bytes that are not UTF-8 come as lone surrogates from the command line
    except UnicodeError:
        raise UsageError("the problem is not valid UTF-8 text") from None
    take_default_pair(options)
    engine = make_engine(options)

    async def solve_and_watch() -> Solution:
        async with engine:
            return await watch(engine.astream(text, task=task), console(stderr=as_json))

    solution = asyncio.run(solve_and_watch())
    if as_json:
        click.echo(solution.model_dump_json(indent=2))
