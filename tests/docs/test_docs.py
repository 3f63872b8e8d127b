"""The documentation: it builds strictly, is whole, fetches nothing, and names only commands that there are."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import click
import pytest
from command_lines import accept, lines
from pages import DOCS, PAGES, TOP, Block, Page, blocks

from tandem.cli import cli
from tandem.strategies import STRATEGIES


def commands(command: click.Command = cli, path: tuple[str, ...] = ("tandem",)) -> Iterator[tuple[str, click.Command]]:
    """Yield every command with its path."""
    yield " ".join(path), command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner
            yield from commands(inner, (*path, name))


def console_lines() -> list[tuple[str, list[str]]]:
    """Return every `tandem` command line on the pages, with its page."""
    found = []
    for page in PAGES:
        for block in blocks(page):
            if block.language == "console":
                found += [(page, words) for words in lines(block.text)]
    return found


@pytest.mark.slow
def test_every_page_is_built_and_in_the_search(site: Path) -> None:
    built = {path.name for path in site.glob("*.html")} - {"404.html"}
    assert built == {name.replace(".md", ".html") for name in PAGES}
    index = json.loads((site / "search" / "search_index.json").read_text())
    assert {entry["location"].partition("#")[0] or "index.html" for entry in index["docs"]} == built
    assert (site / "search" / "search_index.js").is_file()  # for pages that are opened from a folder


@pytest.mark.slow
def test_every_command_and_every_option_is_in_the_reference(site: Path) -> None:
    text = (site / "cli.html").read_text()
    page, shown = Page(text), html.unescape(re.sub(r"<[^>]+>", "", text))
    found = dict(commands())
    assert len(found) > 20
    for path, command in found.items():
        assert path.replace(" ", "-") in page.ids
        start = shown.index(f"Usage: {path} ")
        own = shown[start : shown.find("Usage: ", start + 1)]
        for option in (p for p in command.params if isinstance(p, click.Option) and not p.hidden):
            assert option.opts[-1] in own, f"{path} {option.opts[-1]}"


@pytest.mark.slow
def test_every_internal_link_leads_somewhere(site: Path) -> None:
    pages = {path.name: Page(path.read_text()) for path in site.glob("*.html")}
    checked = 0
    for name, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or name == "404.html":
                continue
            target = unquote(parts.path) or name
            if target == ".":
                target = "index.html"
            assert (site / target).is_file(), f"{name}: {link}"
            if parts.fragment and target in pages:
                assert unquote(parts.fragment) in pages[target].ids, f"{name}: {link}"
            checked += 1
    assert checked > 200


@pytest.mark.slow
def test_a_page_fetches_nothing_from_elsewhere(site: Path) -> None:
    for path in site.glob("*.html"):
        page = Page(path.read_text())
        assert page.fetched
        for address in page.fetched:
            parts = urlsplit(address)
            assert not parts.netloc and parts.scheme in ("", "data"), f"{path.name}: {address}"
            assert path.name == "404.html" or (site / unquote(parts.path)).exists(), f"{path.name}: {address}"
    for style in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*[\"']?(https?:)?//", style.read_text()), style.name


@pytest.mark.slow
def test_the_public_names_are_in_the_reference_of_python(site: Path) -> None:
    ids = Page((site / "api.html").read_text()).ids
    import tandem
    from tandem.models import base

    for name in set(tandem.__all__) - {"__version__", "compare", "tune", "load_dataset"}:
        found = getattr(tandem, name)
        assert f"{found.__module__}.{name}" in ids
    assert {"tandem.experiments.acompare", "tandem.datasets.load_dataset"} <= ids
    assert {f"tandem.models.base.{name}" for name in base.__all__ if name not in ("TEMPLATE", "FinishReason")} <= ids
    for name in ("Problem", "Message", "Decision", "InsightDelta", "AnswerDelta", "Solution.ledger"):
        assert f"tandem.types.{name}" in ids
    for name in (
        "tandem.strategies.base.Strategy.run",
        "tandem.strategies.context.Context.call",
        "tandem.Tandem.solve",
    ):
        assert name in ids or name.replace("tandem.Tandem", "tandem.engine.Tandem") in ids


@pytest.mark.slow
def test_figures_are_the_readme_s(site: Path) -> None:
    def plain(text: str) -> str:
        text = re.sub(r"\[([^\]]+)\]\([^)]+\)|<!--.*?-->", r"\1", text)
        return re.sub(r" ([,.:])", r"\1", " ".join(re.sub(r"[*`|]|---", " ", text).split()))

    readme = (TOP / "README.md").read_text().partition("\n## What was measured\n")[2].partition("\n## ")[0]
    shown = plain(html.unescape(re.sub(r"<[^>]+>", " ", (site / "measured.html").read_text())))
    sentence = plain(readme)[-200:]
    assert sentence in shown
    for figure in re.findall(r"\d+\.\d+", readme):
        assert figure in shown


def test_what_is_not_in_the_readme_cannot_be_taken_from_it(tmp_path: Path) -> None:
    import importlib.util

    from mkdocs.exceptions import PluginError

    spec = importlib.util.spec_from_file_location("generated", DOCS / "hooks" / "generated.py")
    assert spec and spec.loader
    hook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hook)

    class Config:
        config_file_path = str(tmp_path / "mkdocs.yml")

    (tmp_path / "README.md").write_text("# A\n\nabove\n\n## One\n\nfirst\n\n## Two\n\nsecond [x](docs/x.md)\n")
    assert hook.on_page_markdown("a <!-- readme: One --> b", Config()) == "a first b"
    assert hook.on_page_markdown("<!-- readme: Two -->", Config()) == "second [x](x.md)"
    assert hook.on_page_markdown("<!-- readme: -->", Config()) == "above"
    assert hook.on_page_markdown("<!-- figures: a -->\n| a |", Config()) == "\n| a |"
    with pytest.raises(PluginError, match="no section 'Three'"):
        hook.on_page_markdown("<!-- readme: Three -->", Config())


def test_every_strategy_is_among_the_concepts() -> None:
    table = (DOCS / "concepts.md").read_text().partition("## Strategies")[2]
    for name in STRATEGIES.names():
        assert re.search(rf"`{re.escape(name)}[`:]", table), name


@pytest.mark.parametrize(("page", "words"), console_lines(), ids=lambda v: v if isinstance(v, str) else " ".join(v))
def test_a_command_line_on_a_page_is_accepted(
    page: str, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pair.yaml").write_text(config_block().text)
    assert accept(words)


def test_there_are_command_lines_on_the_pages() -> None:
    found = [words[0] for _, words in console_lines()]
    assert {"solve", "run", "serve", "keys", "datasets"} <= set(found) and len(found) > 12


def config_block() -> Block:
    (found,) = [block for block in blocks("config.md") if block.title == "pair.yaml"]
    return found
