"""What pages take from elsewhere when they are built: the help of every command, and parts of the README.

`<!-- commands -->` becomes a section for each command. `<!-- readme: What was measured -->` becomes that section of
README.md, so that a figure stands in one place only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from mkdocs.exceptions import PluginError

from tandem.cli import cli

_WIDTH = 100
_README = re.compile(r"<!-- readme: (.+?) -->")


def on_page_markdown(markdown: str, config: Any, **_: Any) -> str:
    """Put generated parts into a page."""
    if "<!-- commands -->" in markdown:
        markdown = markdown.replace("<!-- commands -->", "\n".join(_sections("tandem", cli, None, 2)))
    readme = Path(config.config_file_path).with_name("README.md")
    return _README.sub(lambda found: _part(readme, found[1]), markdown)


def _sections(name: str, command: click.Command, parent: click.Context | None, depth: int) -> Iterator[str]:
    """Yield a command's help and that of the commands below it."""
    settings = command.context_settings | {"terminal_width": _WIDTH, "max_content_width": _WIDTH}
    context = click.Context(command, info_name=name, parent=parent, **settings)
    title = context.command_path
    yield f"{'#' * depth} `{title}` {{#{title.replace(' ', '-')}}}\n\n```text\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for inner in command.list_commands(context):
            found = command.get_command(context, inner)
            if found is not None and not found.hidden:
                yield from _sections(inner, found, context, min(depth + 1, 3))


def _part(readme: Path, title: str) -> str:
    """Return what stands under a heading of the README. Raises PluginError where there is none."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", readme.read_text(), re.MULTILINE | re.DOTALL)
    if found is None:
        raise PluginError(f"README.md has no section '{title}'")
    return found[1].strip()
