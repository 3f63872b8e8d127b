"""The command line: thin commands, one file each, imported when they are called."""

from __future__ import annotations

import importlib
import logging
import sys
from typing import Any

import click

from tandem import __version__
from tandem.errors import TandemError, nearest

_COMMANDS = {
    "run": ("tandem.cli.run:run", "Solve a data set with a mentor and an intern, graded and resumable."),
    "solve": ("tandem.cli.solve:solve", "Solve one problem and watch it happen."),
    "compare": ("tandem.cli.compare:compare", "Compare strategies on the same problems, in one table and one page."),
    "demo": ("tandem.cli.demo:demo", "Watch one problem being solved: both models, decisions and cost."),
    "sweep": ("tandem.cli.sweep:sweep", "Replay a finished run with other thresholds, without a model."),
    "runs": ("tandem.cli.runs:runs", "List, show and compare runs."),
    "strategies": ("tandem.cli.strategies:strategies", "List the strategies, with those of installed packages."),
    "grade": ("tandem.cli.grade:grade", "Grade a finished run again, without a model."),
    "report": ("tandem.cli.report:report", "Print a run or a comparison; write its page, Markdown and CSV."),
    "view": ("tandem.cli.view:view", "Show the page of a run or a comparison in the browser."),
    "datasets": ("tandem.cli.datasets:datasets", "List and show data sets."),
    "models": ("tandem.cli.models:models", "List, show and pull models."),
    "serve": ("tandem.cli.serve:serve", "Serve a pair as an OpenAI-compatible endpoint, with a page."),
    "keys": ("tandem.cli.keys:keys", "Add and list the API keys of a server."),
    "pool": ("tandem.cli.pool:pool", "Keep vLLM replicas up between runs, and see how busy they are."),
    "tune": ("tandem.cli.tune:tune", "Tune a pair on your own problems, and say whether it pays."),
    "profile": ("tandem.cli.profile:profile", "Measure the device time of a model for a token."),
    "collect": ("tandem.cli.collect:collect", "Collect the table that a classifier is trained from."),
    "train": ("tandem.cli.train:train", "Train a sufficiency classifier from a collected table."),
    "calibrate": ("tandem.cli.calibrate:calibrate", "Choose the operating point of a pair for an aim."),
    "classifiers": ("tandem.cli.classifiers:classifiers", "List and show classifiers."),
    "blueprint": ("tandem.cli.blueprint:blueprint", "Make and show blueprints: guidance for a kind of problem."),
    "signals": ("tandem.cli.signals:signals", "Evaluate every signal of a collected table."),
    "doctor": ("tandem.cli.doctor:doctor", "Show what this machine can run and what to install."),
    "completion": ("tandem.cli.completion:completion", "Print the script for the shell's completion."),
}
# As the help lists them: a first look, a pair of one's own, what was run, what there is, what is trained.
_TOGETHER = (
    ("demo", "solve", "run"),
    ("compare", "tune", "serve", "keys"),
    ("runs", "report", "view", "grade", "sweep"),
    ("models", "datasets", "strategies", "pool", "profile", "doctor", "completion"),
    ("collect", "train", "calibrate", "classifiers", "blueprint", "signals"),
)


class _LazyGroup(click.Group):
    """Imports a command's module only when it is called, so that `tandem --help` is fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, _COMMANDS))
        with formatter.section("Commands"):
            for names in _TOGETHER:
                formatter.write_dl([(name.ljust(width), _COMMANDS[name][1]) for name in names])
                formatter.write_paragraph()

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in _COMMANDS and not args[0].startswith("-"):
            raise nearest("command", args[0], _COMMANDS)
        return super().resolve_command(ctx, args)


@click.group(
    cls=_LazyGroup,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "auto_envvar_prefix": "TANDEM",
        "max_content_width": 110,
        "show_default": True,
    },
    epilog="Every option is also an environment variable: --mentor of `tandem run` is TANDEM_RUN_MENTOR. Completion in "
    'the shell: eval "$(tandem completion bash)"',
)
@click.version_option(__version__, prog_name="tandem")
def cli() -> None:
    """Mentor and intern: a large model writes short insights, a small one writes the answer.

    \b
    A first look, without weights:   tandem solve --mentor fake --intern fake "What is 17*23?"
    The demo pair on real problems:  tandem run --mentor qwen2.5-coder-1.5b --intern qwen2.5-coder-0.5b \\
                                         --dataset starter --limit 10
    """
    from tandem.cli.env_file import read_env_file

    read_env_file()


class _Warnings(logging.Handler):
    """Prints what the package logs as this command's own lines."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(f"tandem: {self.format(record)}", err=True)


def main(argv: list[str] | None = None) -> Any:
    """Run the command line: exit code 2 and one line for bad usage, 1 and one line for a failure, 130 for Ctrl-C."""
    logging.getLogger("tandem").handlers[:] = [_Warnings()]
    try:
        code = cli.main(args=argv, prog_name="tandem", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.UsageError as error:
        if isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):  # click 8.2: the help as an error
            click.echo(error.format_message(), err=True)
            sys.exit(2)
        where = f" (see: {error.ctx.command_path} --help)" if error.ctx else ""
        click.echo(f"tandem: {error.format_message()}{where}", err=True)
        sys.exit(2)
    except (click.ClickException, TandemError) as error:
        click.echo(f"tandem: {error.format_message() if isinstance(error, click.ClickException) else error}", err=True)
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("tandem: interrupted", err=True)
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(1)
    except OSError as error:  # a file that the system refuses, which may be standard output on a full disk
        where = error.filename or "standard output or another stream"
        click.echo(f"tandem: {where}: {error.strerror or error}", err=True)
        sys.exit(1)
