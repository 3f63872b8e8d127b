"""Names and plugins: a package found through its entry points, and what is said about one that is broken."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tandem.errors import TandemError, UsageError
from tandem.registry import Registry

ENTRY_POINTS = """\
[tandem.strategies]
coin = coin_strategy:Coin
tandem = coin_strategy:Coin
no-attribute = coin_strategy:Cion
no-module = coin_strategies:Coin
needs-more = coin_needs:Coin
breaks = coin_breaks:Coin

[tandem.graders]
elsewhere = coin_strategy:Coin
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Install a small package in a folder of its own, as pip would."""
    (tmp_path / "coin_strategy.py").write_text(
        "from tandem.strategies import Strategy\nclass Coin(Strategy):\n    roles, run = ('intern',), iter\n"
    )
    (tmp_path / "coin_needs.py").write_text("import a_package_nobody_has\n")
    (tmp_path / "coin_breaks.py").write_text("import math\nmath.no_such_function()\n")
    info = tmp_path / "coin_strategy-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: coin-strategy\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("coin_")]:
        del sys.modules[name]


def strategies() -> Registry:
    return Registry(
        "strategy", "strategies", {"tandem": "tandem.strategies.tandem:TandemStrategy", "gone": "json:no_such"}
    )


def test_a_name_is_imported_on_use() -> None:
    found = strategies().get("tandem")
    assert found.__module__ == "tandem.strategies.tandem"


def test_a_plugin_is_found_by_its_entry_point(plugin: Path) -> None:
    registry = strategies()
    assert "coin" in registry and "coin" in registry.names()
    assert "coin_strategy" not in sys.modules  # knowing a name imports nothing
    assert registry.get("coin").roles == ("intern",)


def test_a_plugin_reaches_the_user_of_the_real_registry(plugin: Path) -> None:
    script = "from tandem.strategies import make_strategy; print(type(make_strategy('coin')).__name__)"

    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONPATH": str(plugin)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.strip() == "Coin", done.stderr


def test_a_plugin_cannot_replace_what_is_built_in(plugin: Path) -> None:
    assert strategies().get("tandem").__module__ == "tandem.strategies.tandem"
    assert strategies().names().count("tandem") == 1


def test_a_plugin_of_another_kind_stays_there(plugin: Path) -> None:
    assert "elsewhere" not in strategies()


def test_without_the_package_the_name_is_unknown() -> None:
    with pytest.raises(UsageError) as refusal:
        strategies().get("tandm")
    assert str(refusal.value) == "unknown strategy 'tandm'. Did you mean tandem?"
    with pytest.raises(UsageError, match=r"unknown strategy 'xyz'\. Known: gone, tandem\."):
        strategies().get("xyz")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone", "strategy 'gone' points at 'json:no_such', which does not exist"),
        ("no-attribute", "strategy 'no-attribute' points at 'coin_strategy:Cion', which does not exist"),
        ("no-module", r"strategy 'no-module' \('coin_strategies:Coin'\) cannot be imported: No module named"),
        ("needs-more", r"strategy 'needs-more' \('coin_needs:Coin'\) cannot be imported: .*a_package_nobody_has"),
    ],
)
def test_a_broken_entry_is_a_clear_error(plugin: Path, name: str, message: str) -> None:
    with pytest.raises(TandemError, match=message):
        strategies().get(name)


def test_a_fault_inside_a_plugin_is_not_called_missing(plugin: Path) -> None:
    with pytest.raises(AttributeError, match="no_such_function"):
        strategies().get("breaks")
