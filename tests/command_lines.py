"""Command lines in files, held against the command line itself: what is written there must be accepted."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

import click

from tandem.cli import cli

ELIDED = ("...", "…")


def accept(words: Sequence[str]) -> str:
    """Parse `tandem WORDS` without running it; return the path of the command. Raises click.UsageError if refused.

    Options are checked by name and type, and required ones must be there, unless a word is `...` or `…`.
    """
    elided = any(word in ELIDED for word in words)
    left = [word for word in words if word not in ELIDED]
    command: click.Command = cli
    context: click.Context | None = None
    name = "tandem"
    while True:
        try:
            context = command.make_context(name, left, parent=context)
        except click.MissingParameter:
            if not elided:
                raise
            _unknown(command, name, left, context)
            return name
        if not isinstance(command, click.Group):
            return context.command_path
        found, inner, left = command.resolve_command(context, [*context._protected_args, *context.args])
        assert found and inner
        name, command = found, inner


def _unknown(command: click.Command, name: str, words: list[str], parent: click.Context | None) -> None:
    """Raise click.NoSuchOption where a line with something left out has an option that there is not."""
    command.make_parser(click.Context(command, info_name=name, parent=parent)).parse_args(list(words))


def lines(text: str) -> Iterator[list[str]]:
    """Yield the words of every `tandem` command in lines of shell: without comments, redirections and what follows."""
    every = text.replace("\\\n", " ").splitlines()
    typed = [line for line in every if line.startswith("$ ")]  # in a session the other lines are output
    for whole in typed or every:
        line = whole.strip().removeprefix("# ").removeprefix("$ ")
        if not line.startswith("tandem ") and " && tandem " not in line:
            continue
        splitter = shlex.shlex(line, posix=True, punctuation_chars="&|;<>()")
        splitter.whitespace_split = True
        yield from _commands(list(splitter))


def _commands(words: list[str]) -> Iterator[list[str]]:
    command: list[str] = []
    for word in [*words, ";"]:
        if set(word) <= set("&|;<>()"):
            if command[:1] == ["tandem"]:
                yield command[1:]
            command = [] if set(word) <= set("&|;") else ["(redirected)"]
        else:
            command.append(word)
