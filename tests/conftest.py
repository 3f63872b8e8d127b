"""Real models for the tests that need them. What is missing is fetched; a test fails, and is not skipped, without.

Only public data sets that may not be committed are left out where they are not here: `public_data`.
"""

from __future__ import annotations

from pathlib import Path

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
