"""The stand-in for vLLM where the processes that a test starts find it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_vllm import PATH, Fake, alive, until


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Fake]]:
    """Make stand-ins; none of their processes may be left when the test ends."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([PATH, os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("TANDEM_HOME", str(tmp_path / "home"))
    made: list[Fake] = []

    def make(**behaviour: Any) -> Fake:
        made.append(Fake(tmp_path / f"model{len(made)}", **behaviour))
        return made[-1]

    yield make
    until(lambda: not alive(pid for one in made for pid in one.processes()))
