"""`tandem completion`: the shell completes commands, options and the names of models, data sets and strategies."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import click
from click.shell_completion import CompletionItem, get_completion_class

from tandem.errors import UsageError

SHELLS = ("bash", "zsh", "fish")
Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


@click.command()
@click.argument("shell", required=False, type=click.Choice(SHELLS))
def completion(shell: str | None) -> None:
    """Print the script that completes commands, options and names in SHELL (default: the one of $SHELL).

    \b
    Examples:
      eval "$(tandem completion bash)"                       # in ~/.bashrc; for zsh likewise in ~/.zshrc
      tandem completion fish > ~/.config/fish/completions/tandem.fish
    """
    from tandem.cli import cli

    shell = shell or Path(os.environ.get("SHELL", "")).name
    if shell not in SHELLS or (made := get_completion_class(shell)) is None:
        raise UsageError(f"there is completion for {', '.join(SHELLS)}: tandem completion bash")
    click.echo(made(cli, {}, "tandem", "_TANDEM_COMPLETE").source())


def _completed(names: Callable[[], Iterable[str]]) -> Complete:
    """Return what completes a name, or a path where one was begun."""

    def complete(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
        found = [CompletionItem(name) for name in sorted(names()) if name.startswith(begun)]
        return found if found and "/" not in begun else [*found, CompletionItem(begun, type="file")]

    return complete


def _models() -> Iterable[str]:
    from tandem.models.catalog import load_catalog

    return ["fake", *(entry.name for entry in load_catalog())]


def _datasets() -> Iterable[str]:
    from tandem.datasets.cards import cards

    return cards()


def _strategies() -> Iterable[str]:
    from tandem.strategies import STRATEGIES

    return STRATEGIES.names()


model_name, dataset_name, strategy_name = map(_completed, (_models, _datasets, _strategies))
