"""A problem enters each file once on its way to its solution, and leaves it once."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from problem_way import problem_way


def test_no_file_is_entered_twice() -> None:
    way = problem_way()
    assert way[0] == "engine.py"
    assert len(way) == len(set(way)), way
