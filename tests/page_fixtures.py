"""A plugin for the tests of the page: servers and a browser that they share, and a page that watches itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from page_pair import chromium, served, write_pair
from serving import classifier

from tandem.server.keys import add_key

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Playwright's sync face leaves an event loop running in this thread: it ends with its module, or no async test
    could follow."""
    with chromium() as running:
        yield running


@pytest.fixture(scope="session")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with the scripted pair."""
    folder = tmp_path_factory.mktemp("pair")
    with served(folder, *write_pair(folder)) as address:
        yield address


@pytest.fixture(scope="session")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """A server that asks for a key, with a pair whose drafts are never sufficient; and the key."""
    folder = tmp_path_factory.mktemp("locked")
    key = add_key(folder / "keys.yaml", "alice", None, None)
    never = classifier(folder / "never", none=2, low=2)
    options = ("--keys", "keys.yaml", "--classifier", never, "--effort", "none,low=10")
    with served(folder, "--mentor", "fake", "--intern", "fake", *options) as address:
        yield address, key


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A fresh page; whatever is done on it, nothing may break its policy, throw, or leave this machine."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    found = context.new_page()
    said: list[str] = []
    asked_for: list[str] = []
    found.on("console", lambda message: said.append(message.text))
    found.on("pageerror", lambda error: said.append(f"uncaught: {error}"))
    found.on("request", lambda request: asked_for.append(request.url))
    found.set_default_timeout(20_000)
    yield found
    context.close()
    assert not [line for line in said if "Content Security Policy" in line or line.startswith("uncaught")], said
    assert [one for one in asked_for if not one.startswith("http://127.0.0.1:")] == []
