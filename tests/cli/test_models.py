"""`tandem models`: results on standard output, progress on standard error."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tandem.cli.models import models
from tandem.errors import UsageError
from tandem.models.catalog import find, load_catalog
from tandem.models.profiles import KeptProfile, keep_profile
from tandem.models.weights import MANIFEST, folder_of
from tandem.spec import SpeedProfile


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


def test_list_has_every_price_with_its_day() -> None:
    text = run("list").stdout
    for entry in load_catalog():
        if entry.prices is None:
            continue
        (line,) = [line for line in text.splitlines() if line.split()[:1] == [entry.name]]
        numbers = (entry.prices.input, entry.prices.cached_input, entry.prices.cache_write, entry.prices.output)
        shown = [f"{number:g}" for number in (*numbers, entry.prices.batch) if number is not None]
        assert line.split()[2:-1] == [*shown, entry.prices.date]
        if entry.ends:
            assert f"{entry.name} {entry.ends}" in text


def test_show_has_the_rates_in_each_unit_and_what_the_others_need() -> None:
    text = run("show", "gpt-6.1-terra").stdout
    assert "1 read, 0.05 cached, 1.25 written to the cache, 5 written (prices of 2026-11); batch tier: 0.5" in text
    assert "device seconds   not known; it needs a speed profile: tandem profile" in text
    assert "TFLOPs           not known; it needs its size: --mentor-parameters" in text
    rates = json.loads(run("show", "deepseek-7b", "--json").stdout)["rates"]
    assert rates["tflops"]["read"] == pytest.approx(2 * find("deepseek-7b").active_parameters / 1e6)
    assert rates["tflops_published"]["written"] == pytest.approx(14_000)
    assert "on your own hardware it counts 0" in rates["usd"]["needs"]
    timed = json.loads(run("show", "smollm2", "--json").stdout)["rates"]["seconds"]
    assert "tandem profile" in timed["needs"]


def test_a_profile_of_ones_own_is_a_rate() -> None:
    profile = SpeedProfile(model="smollm2-135m", uncached=1e-5, cached=1e-6, written=2e-4, device="a laptop", load="8")
    keep_profile(KeptProfile(profile=profile))
    line = next(line for line in run("show", "smollm2").stdout.splitlines() if "device seconds" in line)
    assert "10 read, 1 cached, 200 written" in line and "a laptop" in line


def test_show_says_that_a_model_thinks_and_what_its_makers_advise() -> None:
    row = json.loads(run("show", "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", "--json").stdout)
    assert (row["thinks"], row["sampling"], row["max_tokens"]) == (True, {"temperature": 0.6, "top_p": 0.95}, 32768)
    lines = run("show", "qwen3-8b").stdout.splitlines()
    for expected in ("thinks yes", "sampling temperature 0.6, top_p 0.95", "max_tokens 32,768"):
        assert expected in [" ".join(line.split()) for line in lines]
    plain = json.loads(run("show", "gpt-4o", "--json").stdout)
    assert (plain["thinks"], plain["sampling"]) == (False, None)


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
