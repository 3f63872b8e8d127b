"""A stand-in for the vLLM package, run as a real process (see path/vllm/entrypoints/openai/api_server.py)."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tandem.models.vllm import guard
from tandem.models.vllm.command import Serve

PATH = str(Path(__file__).parent / "path")  # for PYTHONPATH


class Fake:
    """A model folder that the stand-in serves, behaving as was last said; it writes down every start."""

    def __init__(self, folder: Path, **behaviour: Any) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.behave(**behaviour)

    @property
    def serve(self) -> Serve:
        return Serve(model=str(self.folder), name="m")

    def behave(self, **behaviour: Any) -> None:
        new = self.folder / "new"
        new.write_text(json.dumps(behaviour))
        new.replace(self.folder / "behaviour.json")

    def servers(self) -> list[tuple[int, int]]:
        """Return process id and port of each start, in order."""
        return [(int(pid), int(port)) for pid, port in map(str.split, _lines(self.folder / "starts.txt"))]

    def children(self) -> list[int]:
        return [int(line) for line in _lines(self.folder / "children.txt")]

    def processes(self) -> list[int]:
        """Return every process that was ever started for it."""
        return [pid for pid, _ in self.servers()] + self.children()


def alive(pids: Iterable[int]) -> list[int]:
    return [pid for pid in pids if guard.look(pid)]


def until(true: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait until something holds; fail if it does not in time."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.05)


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []
