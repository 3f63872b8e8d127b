"""`tandem models`: results on standard output, progress on standard error."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tandem.cli.models import models
from tandem.errors import UsageError
from tandem.models.catalog import find, load_catalog
from tandem.models.weights import MANIFEST, folder_of


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that has SmolLM2, as far as its manifest goes."""
    monkeypatch.setenv("TANDEM_HOME", str(tmp_path))
    entry = find("smollm2-135m")
    folder_of(entry).mkdir(parents=True)
    assert entry.gguf is not None
    (folder_of(entry) / MANIFEST).write_text(json.dumps({"sha256": entry.gguf.sha256}))


def run(*arguments: str) -> Result:
    return CliRunner().invoke(models, arguments, catch_exceptions=True, env={"COLUMNS": "80"})


def test_list_fits_a_terminal_and_says_what_is_here() -> None:
    lines = run("list").stdout.splitlines()
    assert all(len(line) <= 80 and "…" not in line for line in lines)
    for entry in load_catalog():
        (line,) = [line for line in lines if line.split()[:1] == [entry.name]]
        expected = "here" if entry.name == "smollm2-135m" else "not here" if entry.local else "API"
        assert line.rstrip().rpartition("  ")[2].startswith(expected)


def test_list_as_json_has_every_entry() -> None:
    rows = {row["name"]: row for row in json.loads(run("list", "--json").stdout)}
    assert list(rows) == [entry.name for entry in load_catalog()]
    assert [name for name, row in rows.items() if row["pulled"]] == ["smollm2-135m"]


def test_show_takes_an_alias() -> None:
    row = json.loads(run("show", "openai/gpt-4o", "--json").stdout)
    assert (row["name"], row["prices"]["output"], row["pulled"]) == ("gpt-4o", 10.0, False)
    text = run("show", "SmolLM2").stdout
    assert "134,515,008" in text
    assert str(folder_of(find("smollm2"))) in text


def test_an_unknown_name_is_bad_usage_before_anything_is_pulled() -> None:
    for command in (("show", "smolm2-135m"), ("pull", "smollm2", "smolm2-135m")):
        result = run(*command)
        assert isinstance(result.exception, UsageError)
        assert "Did you mean smollm2-135m" in str(result.exception)
        assert result.stdout == ""


def test_pull_prints_the_folder_of_what_is_here_already() -> None:
    result = run("pull", "smollm2")
    assert result.exit_code == 0
    assert result.stdout == f"{folder_of(find('smollm2'))}\n"
