"""The tables that follow from committed files: on the pages stands what scripts/figures.py makes."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner
from pages import DOCS, TOP

QUICK = ("by-unit", "levels", "profiles", "verdicts")


@pytest.fixture(scope="module")
def figures() -> ModuleType:
    spec = importlib.util.spec_from_file_location("figures", TOP / "scripts" / "figures.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_a_table_is_what_the_script_makes(figures: ModuleType, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANDEM_HOME", "/nowhere")  # a user's own profiles are none of the shipped ones
    assert figures.standing(name) == figures.written(name)


def test_every_table_has_its_place_and_is_there(figures: ModuleType) -> None:
    assert figures.pages().keys() == figures.TABLES.keys()
    for name in figures.TABLES:
        lines = figures.standing(name).splitlines()
        assert len(lines) > 4 and all(line.startswith("| ") and line.endswith(" |") for line in lines), name
        assert len({line.count(" | ") for line in lines if "---" not in line}) == 1, name


@pytest.mark.slow
def test_a_table_that_is_not_what_it_should_be_is_told_and_written_again(
    figures: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = DOCS / "measured.md"
    copy = tmp_path / "measured.md"
    text = page.read_text()
    wrong = re.sub(r"0\.686 \(313 / 0\)", "0.999 (313 / 0)", text)
    assert wrong != text
    copy.write_text(wrong)
    monkeypatch.setattr(figures, "pages", lambda: {"levels": copy})
    told = CliRunner().invoke(figures.main, ["levels", "--check"])
    assert told.exit_code == 1 and "differ: levels" in told.output and copy.read_text() == wrong
    written = CliRunner().invoke(figures.main, ["levels"])
    assert written.exit_code == 0 and "written: levels" in written.output and copy.read_text() == text
    assert "differ: none" in CliRunner().invoke(figures.main, ["levels", "--check"]).output
