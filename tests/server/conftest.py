"""Servers for these tests: one of its own for a test, or a plain one that the tests of a file share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from serving import Server, classifier, serving

Start = Callable[..., Server]
PRICES = "fake-mentor: {input: 10, output: 40}\nfake-intern: {input: 1, output: 4}\n"


@pytest.fixture
def start() -> Iterator[Start]:
    """Start servers; the arguments are those of `serving`."""
    with ExitStack() as stack:
        yield lambda *models, **options: stack.enter_context(serving(*models, **options))


@pytest.fixture(scope="module")
def plain() -> Iterator[Server]:
    """A server that tests share which leave nothing behind."""
    with serving() as server:
        yield server


@pytest.fixture
def climbing(tmp_path: Path) -> str:
    """A classifier with which every question climbs the whole ladder."""
    return classifier(tmp_path / "climbing", none=2, low=2, medium=2, high=2)


@pytest.fixture
def low(tmp_path: Path) -> str:
    """A classifier with which every question is answered at `low`."""
    return classifier(tmp_path / "at-low", none=2, low=0)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.yaml"


@pytest.fixture
def prices(tmp_path: Path) -> Path:
    (path := tmp_path / "prices.yaml").write_text(PRICES)
    return path
