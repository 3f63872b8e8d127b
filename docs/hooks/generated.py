"""What pages take from elsewhere when they are built: the help of every command, and parts of the README.

`<!-- commands -->` becomes a section for each command. `<!-- readme: What was measured -->` becomes that section of
README.md, and `<!-- readme: -->` what stands above its sections, so that nothing is written twice.
The README's links to docs/ become those of the pages.
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
_README = re.compile(r"<!-- readme: (.*?) ?-->")
_TABLE = re.compile(r"^<!-- (figures: |end of )[\w-]+ -->$", re.MULTILINE)  # marks of scripts/figures.py


def on_page_markdown(markdown: str, config: Any, **_: Any) -> str:
    """Put generated parts into a page."""
    if "<!-- commands -->" in markdown:
        markdown = markdown.replace("<!-- commands -->", "\n".join(_sections("tandem", cli, None, 2)))
    readme = Path(config.config_file_path).with_name("README.md")
    markdown = _README.sub(lambda found: _as_page(_part(readme, found[1])), markdown)
    return _TABLE.sub("", markdown)  # a table right after a comment would be no table


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
    """Return what stands under a heading of the README, or above all. Raises PluginError where there is no such one."""
    start = rf"^## {re.escape(title)}\n" if title else r"^# [^\n]*\n"
    found = re.search(rf"{start}(.*?)(?=^## |\Z)", readme.read_text(), re.MULTILINE | re.DOTALL)
    if found is None:
        raise PluginError(f"README.md has no section '{title}'")
    return found[1].strip()


def _as_page(text: str) -> str:
    """Return a part of the README as a part of a page: links to pages and pictures are relative to docs/."""
    return re.sub(r"""(\]\(|src="|srcset=")docs/""", r"\1", text)
