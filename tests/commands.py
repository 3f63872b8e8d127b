"""What the tests of the command line share: outcomes, the fake pair, scripts and data sets made on the spot."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SECRET = "sk-verysecret1234567890"
FAKES = ("--mentor", "fake", "--intern", "fake")


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str


Cli = Callable[..., Outcome]


def script(path: Path, **fields: object) -> str:
    """Write a fake model's script and return the model's name."""
    path.write_text(json.dumps(fields))
    return f"fake:{path}"


def dataset(path: Path, n: int) -> str:
    """Write a data set of `n` problems that the fake model answers rightly; return its path."""
    rows = [{"id": f"q{i}", "problem": f"What is {i}+0, that is {i}?", "answer": str(i)} for i in range(n)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)
