"""The examples in the docstrings of the public API: they run, on the fakes, and print what stands there."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

MODULES = ("tandem.engine", "tandem.experiments", "tandem.types", "tandem.datasets.loaders", "tandem.ledger")
_FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def examples() -> list[doctest.DocTest]:
    found = doctest.DocTestFinder(exclude_empty=True)
    modules = [importlib.import_module(name) for name in MODULES]
    return [one for module in modules for one in found.find(module) if one.examples]


def shown() -> list[object]:
    """Return the examples as parameters; those that tune a pair train classifiers, which takes long."""
    marks = {True: pytest.mark.slow, False: ()}
    return [pytest.param(one, id=one.name, marks=marks[one.name.endswith("tune")]) for one in examples()]


@pytest.mark.parametrize("example", shown())
def test_an_example_does_what_it_says(
    example: doctest.DocTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TANDEM_HOME", str(tmp_path / "home"))
    said: list[str] = []
    result = doctest.DocTestRunner(optionflags=_FLAGS).run(example, out=said.append)
    assert result.attempted > 0 and result.failed == 0, "".join(said)


def test_what_a_user_calls_first_has_an_example() -> None:
    named = {example.name.rpartition(".")[2] for example in examples()}
    assert {"Tandem", "solve", "asolve", "stream", "solve_many", "estimate", "acompare", "atune"} <= named
