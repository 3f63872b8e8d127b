"""`--config FILE`: a command's options from a file. Add it to a command by `@config_option`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from tandem.cli.options import PATH
from tandem.cli.values import Numbers
from tandem.errors import UsageError, nearest

if TYPE_CHECKING:
    from tandem.cli.config_file import ConfigEntry

COMMANDS = ("run", "serve", "solve", "demo", "compare", "tune", "collect", "train", "calibrate")  # of one file
_SECRET = re.compile(
    r"api-?keys?|secret|password|passwd|authori[sz]ation|^(.+-)?key$|^((hf|hub|access|auth|bearer)-)?token$"
)
_HELP = """Options from a YAML file, by their long names. Flags win over environment variables, those over the file. A
section holds for one command, so that one file serves all; relative paths start where the command is called, not at
the file; API keys are refused.

\b
mentor: gpt-4o                  # --mentor gpt-4o
intern: deepseek-7b
max_usd: 5                      # --max-usd 5
run:
  dataset: math500
  subject: [Algebra, Geometry]  # repeated
  no-grade: true
serve:
  port: 8080
"""


def from_file(name: str) -> bool:
    """Say whether a parameter of the command that is being called has its value from the config file."""
    return click.get_current_context().get_parameter_source(name) is ParameterSource.DEFAULT_MAP


def _read(ctx: click.Context, param: click.Parameter, path: Path | None) -> None:
    """Make what the file says this command's defaults (click's `default_map`), checked by their types.

    Raises UsageError, in one line that names file and key, for whatever is wrong with it.
    """
    if path is None or ctx.resilient_parsing:
        return
    if path == Path():
        raise UsageError("--config needs a file")
    from tandem.cli.config_file import read_config

    above: dict[str, Any] = {}
    section: dict[str, Any] = {}
    try:
        for entry in read_config(path, {*COMMANDS, _name(ctx)}):
            option = _option(ctx, entry)
            if option is None or entry.value is None:
                continue
            found = section if entry.section else above
            if option.name in found:
                raise UsageError(f"{entry}: the same option is given by another of its names")
            found[str(option.name)] = _checked(ctx, option, entry)
    except UsageError as error:
        raise UsageError(f"{path}: {' '.join(str(error).split())}") from None
    found = {name: value for name, value in (above | section).items() if value is not None}
    ctx.default_map = {**(ctx.default_map or {}), **found}


config_option = click.option(
    "--config",
    type=PATH,
    metavar="FILE",
    is_eager=True,  # before the options whose defaults it sets
    expose_value=False,
    callback=_read,
    help=_HELP,
)


def _option(ctx: click.Context, entry: ConfigEntry) -> click.Option | None:
    """Return the option that a key names, None for one that only another command has.

    Raises UsageError for a key that none has, and for one that is a secret.
    """
    plain = entry.key.replace("_", "-")
    if _SECRET.search(plain.lower()):
        raise UsageError(
            f"{entry}: a key does not belong in a file of options; put it into the environment or .env"
            " (such as OPENAI_API_KEY, TANDEM_MENTOR_API_KEY, TANDEM_INTERN_API_KEY)"
        )
    own = _name(ctx)
    names = [entry.section] if entry.section else [own, *(name for name in COMMANDS if name != own)]
    found = next(((name, known[plain]) for name in names if plain in (known := _long_names(ctx, name))), None)
    if found is None:
        if entry.section:
            raise nearest(f"option of tandem {entry.section}", entry.key, _long_names(ctx, entry.section))
        raise nearest("option", entry.key, {*COMMANDS}.union(*(_long_names(ctx, name) for name in names)))
    return found[1] if found[0] == own else None


def _long_names(ctx: click.Context, name: str) -> dict[str, click.Option]:
    """Return the options of a command that a file may have, by long names without their dashes."""
    from tandem.cli import cli

    command = ctx.command if name == _name(ctx) else cli.get_command(ctx, name)
    options = [param for param in command.params if isinstance(param, click.Option)] if command else []
    return {
        long.removeprefix("--"): option
        for option in options
        for long in option.opts
        if long.startswith("--") and option.callback is not _read
    }


def _checked(ctx: click.Context, option: click.Option, entry: ConfigEntry) -> Any:
    """Return a value as click takes it for a default, None for the option's own. Raises UsageError in click's words."""
    value: Any = entry.value
    if option.multiple:
        value = [value] if isinstance(value, str) else list(value)
    elif isinstance(value, tuple):
        if not isinstance(option.type, Numbers):
            raise UsageError(f"{entry}: takes one value, not a list")
        value = ",".join(value)
    elif isinstance(option.flag_value, str) and value.lower() in ("true", "false"):  # a flag that may have a value
        value = option.flag_value if value.lower() == "true" else None
    try:
        option.type_cast_value(ctx, value)
    except click.BadParameter as error:
        raise UsageError(f"{entry}: {error.message}") from None
    return value


def _name(ctx: click.Context) -> str:
    return ctx.command.name or ""
