"""What the tests read off the pages in docs/: fenced blocks, and links and ids of what is built from them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple

TOP = Path(__file__).resolve().parents[1]
DOCS = TOP / "docs"
PAGES = sorted(path.name for path in DOCS.glob("*.md"))


class Block(NamedTuple):
    """A fenced block: its language, its title if it has one, its text."""

    language: str
    title: str
    text: str


def blocks(page: str) -> Iterator[Block]:
    """Yield the fenced blocks of a page."""
    written = (DOCS / page).read_text()
    for language, title, text in re.findall(r'^```(\w+)(?: title="(.+?)")?\n(.*?)^```$', written, re.M | re.S):
        yield Block(language, title, text)


@dataclass
class Page(HTMLParser):
    """A built page: the ids in it, what it links to, and what a browser fetches by itself to show it."""

    html: str
    ids: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.ids |= {found[name] for name in ("id", "name") if name in found}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        elif tag == "link" and found.get("rel") not in ("next", "prev", "canonical"):
            self.fetched.append(found["href"])
        elif "src" in found:
            self.fetched.append(found["src"])
