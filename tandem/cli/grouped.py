"""Help that lists a command's options by what they are about, and without the ranges that go without saying."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import click

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
MODELS, PROBLEMS, METHOD, JOB = "Models", "Problems", "Method and sampling", "This command"
COST, CODE, LOCAL, FORM = "Prices and speed", "Running generated code", "Where local models run", "Input and output"
_ORDER = (MODELS, PROBLEMS, JOB, METHOD, COST, CODE, LOCAL, FORM)
_FORM = ("config", "as_json")
_BOUND = re.compile(r"(; )?x>=?[01](\.0)?(?=\])")  # a count that is at least one, a price that is at least nothing


def with_options(*options: Decorator, group: str | None = None) -> Decorator:
    """Return a decorator that adds options in this order, and in `group` of the help unless they have one."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            known = len(getattr(command, "__click_params__", ()))
            command = option(command)
            for parameter in command.__click_params__[known:]:  # type: ignore[attr-defined]
                if group and not hasattr(parameter, "group"):
                    parameter.group = group
        return command

    return decorate


class GroupedCommand(click.Command):
    """A command whose help has a section for each group of options; those without one are its own."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        found: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            if isinstance(parameter, click.Option) and (record := parameter.get_help_record(ctx)) is not None:
                own = FORM if parameter.name in _FORM or "--help" in parameter.opts else JOB
                text = _BOUND.sub("", record[1]).removesuffix("  []")
                found.setdefault(getattr(parameter, "group", own), []).append((record[0], text))
        for name in _ORDER if len(found) > 2 else ():
            if name in found:
                with formatter.section(name):
                    formatter.write_dl(found[name])
        if len(found) <= 2:
            with formatter.section("Options"):
                formatter.write_dl([record for name in _ORDER for record in found.get(name, ())])


class CommandGroup(click.Group):
    """A group whose help has the whole first sentence of each command's."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, self.commands[name].get_short_help_str(limit=300)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


command = partial(click.command, cls=GroupedCommand)
