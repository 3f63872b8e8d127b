"""Real models for the tests that need them. What is missing is fetched; a test fails, and is not skipped, without.

Only public data sets that may not be committed are left out where they are not here: `public_data`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tandem.models.catalog import find
from tandem.models.weights import pull

pytest_plugins = ["standstill", "public_data"]

settings.register_profile("no-deadline", parent=settings(), deadline=None)  # machines here are noisy
settings.load_profile("no-deadline")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite", action="store_true", help="tests/docs: write changed outputs into the pages")


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The Transformers folder of SmolLM2-135M-Instruct."""
    return pull(find("smollm2-135m"))


@pytest.fixture(scope="session")
def demo_mentor() -> Path:
    """The Transformers folder of the demo's mentor, Qwen2.5-Coder-1.5B-Instruct."""
    return pull(find("qwen2.5-coder-1.5b"))


@pytest.fixture(scope="session")
def demo_intern() -> Path:
    """The Transformers folder of the demo's intern, Qwen2.5-Coder-0.5B-Instruct."""
    return pull(find("qwen2.5-coder-0.5b"))


@pytest.fixture
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a home of one's own, and endpoints that are asked again at once."""
    monkeypatch.setenv("TANDEM_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("tandem.models.openai.errors.FIRST_PAUSE", 0.01)


@pytest.fixture
async def stub() -> AsyncIterator[Any]:
    """A server that plays an endpoint, as `tests/stub` has it."""
    from stub import Stub

    async with Stub() as server:
        yield server
